// swift-tools-version: 6.2
// A package of its own: everything in it is built with libFuzzer's coverage and AddressSanitizer (see `make fuzz`).
import PackageDescription

let settings: [SwiftSetting] = [
    .swiftLanguageMode(.v6),
    .enableUpcomingFeature("ExistentialAny"),
    .enableUpcomingFeature("InternalImportsByDefault"),
    .enableUpcomingFeature("MemberImportVisibility"),
    .enableUpcomingFeature("NonisolatedNonsendingByDefault"),
    .treatAllWarnings(as: .error),
    // `@main` in a file that is not alone.
    .unsafeFlags(["-parse-as-library"]),
]

let package = Package(
    name: "flockwork-fuzz",
    dependencies: [.package(name: "flockwork", path: "..")],
    targets: [
        .executableTarget(
            name: "flockfuzz", dependencies: [.product(name: "Flockwork", package: "flockwork")],
            swiftSettings: settings,
            // The default linker, gold, breaks off over the debug information of instrumented code.
            linkerSettings: [.unsafeFlags(["-use-ld=lld"])])
    ]
)
