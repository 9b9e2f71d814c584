// swift-tools-version: 6.2
// A package of its own, so that the benchmarks' weight never reaches the main build.
import PackageDescription

let settings: [SwiftSetting] = [
    .swiftLanguageMode(.v6),
    .enableUpcomingFeature("ExistentialAny"),
    .enableUpcomingFeature("InternalImportsByDefault"),
    .enableUpcomingFeature("MemberImportVisibility"),
    .enableUpcomingFeature("NonisolatedNonsendingByDefault"),
    .treatAllWarnings(as: .error),
]

let package = Package(
    name: "flockwork-benchmarks",
    dependencies: [
        .package(name: "flockwork", path: ".."),
        .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.2"),
        .package(url: "https://github.com/HdrHistogram/hdrhistogram-swift", from: "0.2.0"),
    ],
    targets: [
        // The bare protocols that calls are compared with: libuv, a socket, gRPC's C core, and nothing else.
        .target(
            name: "CRawPingPong",
            linkerSettings: [.linkedLibrary("uv"), .linkedLibrary("grpc"), .linkedLibrary("gpr")]),
        .executableTarget(
            name: "flockbench",
            dependencies: [
                "CRawPingPong",
                .product(name: "Flockwork", package: "flockwork"),
                .product(name: "FlockPython", package: "flockwork"),
                .product(name: "ArgumentParser", package: "swift-argument-parser"),
                .product(name: "Histogram", package: "hdrhistogram-swift"),
            ],
            swiftSettings: settings),
    ]
)
