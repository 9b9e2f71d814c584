// swift-tools-version: 6.2
// Arrows point down: a target may depend only on targets listed above it (TidyTests checks that).
import PackageDescription

let settings: [SwiftSetting] = [
    .swiftLanguageMode(.v6),
    .enableUpcomingFeature("ExistentialAny"),
    .enableUpcomingFeature("InternalImportsByDefault"),
    .enableUpcomingFeature("MemberImportVisibility"),
    .enableUpcomingFeature("NonisolatedNonsendingByDefault"),
    .treatAllWarnings(as: .error),
]

// Most of the time of a release build of the tests would go into optimising what is run once. Where a test's own actors
// or loops are what is tested, it stays as it is.
let testSettings = settings + [.unsafeFlags(["-Onone"], .when(configuration: .release))]

let log = Target.Dependency.product(name: "Logging", package: "swift-log")
let metrics = Target.Dependency.product(name: "Metrics", package: "swift-metrics")
let tracing = Target.Dependency.product(name: "Tracing", package: "swift-distributed-tracing")
let lifecycle = Target.Dependency.product(name: "ServiceLifecycle", package: "swift-service-lifecycle")
let deque = Target.Dependency.product(name: "DequeModule", package: "swift-collections")

let package = Package(
    name: "flockwork",
    products: [
        .library(name: "Flockwork", targets: ["Flockwork"]),
        .library(name: "FlockPython", targets: ["FlockPython"]),
        .library(name: "FlockTestKit", targets: ["FlockTestKit"]),
        // Loaded by the interpreter of a child process, never by a node.
        .library(name: "flockpython", type: .dynamic, targets: ["flockpython"]),
        .executable(name: "flockwork", targets: ["FlockworkCommand"]),
        .executable(name: "launcher", targets: ["Launcher"]),
        .executable(name: "quickstart", targets: ["Quickstart"]),
        .executable(name: "simulate", targets: ["Simulate"]),
    ],
    dependencies: [
        .package(url: "https://github.com/apple/swift-log", from: "1.16.2"),
        .package(url: "https://github.com/apple/swift-metrics", from: "2.13.0"),
        .package(url: "https://github.com/apple/swift-distributed-tracing", from: "1.7.3"),
        .package(url: "https://github.com/apple/swift-collections", from: "1.6.0"),
        .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.2"),
        .package(
            url: "https://github.com/apple/swift-configuration", from: "1.4.0",
            traits: [.defaults, "CommandLineArguments"]),
        .package(url: "https://github.com/swift-server/swift-service-lifecycle", from: "2.13.0"),
    ],
    targets: [
        // C, each behind one Swift target.
        .systemLibrary(name: "CLibuv", pkgConfig: "libuv", providers: [.apt(["libuv1-dev"])]),
        .systemLibrary(name: "COpenSSL", pkgConfig: "libcrypto", providers: [.apt(["libssl-dev"])]),
        .target(name: "CFlockRuntime"),
        // No pkg-config: for gRPC it adds thousands of flags, of which these two are needed.
        .systemLibrary(name: "CPython", pkgConfig: "python3", providers: [.apt(["libpython3-dev"])]),
        .target(name: "CFlockProcess"),
        .target(name: "CGRPC", linkerSettings: [.linkedLibrary("grpc"), .linkedLibrary("gpr")]),

        // Pure: no I/O.
        .target(name: "FlockWire", swiftSettings: settings),
        .target(name: "FlockCluster", dependencies: ["FlockWire", deque], swiftSettings: settings),
        .target(name: "FlockModels", dependencies: ["FlockWire"], swiftSettings: settings),

        // Shells.
        .target(
            name: "FlockTransport", dependencies: ["FlockWire", "CLibuv", "COpenSSL", "CFlockRuntime", log],
            swiftSettings: settings),
        .target(
            name: "FlockGRPC", dependencies: ["FlockTransport", "FlockWire", "CGRPC", "CFlockRuntime", deque],
            swiftSettings: settings),
        .target(
            name: "flockpython", dependencies: ["CPython"],
            linkerSettings: [.linkedLibrary("grpc"), .linkedLibrary("gpr")]),
        .target(
            name: "FlockActors", dependencies: ["FlockTransport", "FlockWire", "CFlockRuntime", log],
            swiftSettings: settings),
        .target(
            name: "Flockwork",
            dependencies: [
                "FlockActors", "FlockTransport", "FlockCluster", "FlockModels", "FlockWire", log, metrics, tracing,
                lifecycle, deque,
            ],
            swiftSettings: settings),
        .target(
            name: "FlockPython",
            dependencies: [
                "Flockwork", "FlockGRPC", "FlockActors", "FlockCluster", "FlockModels", "FlockWire", "CFlockProcess",
                "CFlockRuntime", "COpenSSL", log, metrics, deque,
            ],
            resources: ["bootstrap", "grpcio_worker", "install", "compile"].map {
                .embedInCode("Resources/\($0).py")
            },
            swiftSettings: settings),
        .target(
            name: "FlockTestKit",
            dependencies: ["Flockwork", "FlockActors", "FlockTransport", "FlockCluster", "FlockWire", log],
            swiftSettings: settings),

        .executableTarget(name: "Simulate", dependencies: ["FlockTestKit"], swiftSettings: settings),
        // The command.
        .executableTarget(
            name: "FlockworkCommand",
            dependencies: [
                "FlockPython", "Flockwork", log,
                .product(name: "UnixSignals", package: "swift-service-lifecycle"),
                .product(name: "ArgumentParser", package: "swift-argument-parser"),
            ],
            swiftSettings: settings),

        // Samples.
        .executableTarget(
            name: "Quickstart", dependencies: ["Flockwork"], path: "Samples/Quickstart", swiftSettings: settings),
        .target(
            name: "BreastCancer", dependencies: ["Flockwork"], path: "Samples/BreastCancer",
            exclude: ["README.md", "recipe"], resources: [.copy("Data")], swiftSettings: settings),
        .executableTarget(
            name: "Launcher",
            dependencies: [
                "Flockwork", "FlockCluster", "BreastCancer", log,
                .product(name: "ArgumentParser", package: "swift-argument-parser"),
                .product(name: "Configuration", package: "swift-configuration"),
            ],
            path: "Samples/Launcher", exclude: ["README.md"], swiftSettings: settings),

        // Tests.
        .testTarget(name: "FlockWireTests", dependencies: ["FlockWire"], swiftSettings: testSettings),
        .testTarget(
            name: "FlockClusterTests", dependencies: ["FlockCluster", "FlockWire", "FlockTestKit"],
            swiftSettings: settings),
        .testTarget(
            name: "FlockModelsTests", dependencies: ["FlockModels", "FlockWire"], exclude: ["Fixtures"],
            swiftSettings: testSettings),
        .testTarget(
            name: "FlockTransportTests", dependencies: ["FlockTransport", "FlockWire", "FlockTestKit", log],
            swiftSettings: testSettings),
        .testTarget(
            name: "FlockGRPCTests", dependencies: ["FlockGRPC", "FlockTransport", "FlockWire", "FlockTestKit"],
            swiftSettings: testSettings),
        .testTarget(
            name: "FlockPythonTests",
            dependencies: [
                "FlockPython", "Flockwork", "FlockGRPC", "FlockActors", "FlockTransport", "FlockCluster", "FlockWire",
                "FlockTestKit", log,
            ],
            swiftSettings: testSettings),
        .testTarget(
            name: "FlockActorsTests",
            dependencies: ["FlockActors", "FlockTransport", "FlockWire", "FlockTestKit", log],
            swiftSettings: settings),
        .testTarget(
            name: "FlockworkTests",
            dependencies: [
                "Flockwork", "FlockTestKit", "FlockActors", "FlockTransport", "FlockCluster", "FlockModels",
                "FlockWire", "BreastCancer", log, metrics, tracing,
                .product(name: "MetricsTestKit", package: "swift-metrics"),
                .product(name: "InMemoryTracing", package: "swift-distributed-tracing"),
            ],
            swiftSettings: settings),
        .testTarget(
            name: "FlockworkCommandTests",
            dependencies: [
                "FlockworkCommand", "FlockPython", "Flockwork", "FlockTestKit",
                .product(name: "ArgumentParser", package: "swift-argument-parser"),
            ], swiftSettings: testSettings),
        .testTarget(
            name: "SamplesTests", dependencies: ["BreastCancer", "Launcher", "Flockwork", "FlockTestKit"],
            swiftSettings: testSettings),
        // A node that dies when tests tell it to.
        .executableTarget(
            name: "CrashNode", dependencies: ["Flockwork", "FlockTransport", "FlockWire", "BreastCancer", log],
            path: "Tests/CrashNode", swiftSettings: settings),
        .testTarget(
            name: "ClusterTests",
            dependencies: [
                "CrashNode", "Launcher", "BreastCancer", "Flockwork", "FlockTransport", "FlockCluster", "FlockWire",
                "FlockTestKit", log,
            ],
            swiftSettings: testSettings),
        .testTarget(
            name: "ModelCaseTests", dependencies: ["Flockwork", "FlockTestKit", "FlockModels", "FlockWire"],
            exclude: ["Fixtures"],
            swiftSettings: testSettings),
        .testTarget(
            name: "SimulationTests", dependencies: ["FlockTestKit", "FlockCluster", "FlockWire"],
            swiftSettings: testSettings),
        .testTarget(name: "TidyTests", swiftSettings: testSettings),
    ]
)

// `make test-release` builds the tests that it runs.
if let wanted = Context.environment["FLOCKWORK_TEST_TARGETS"]?.split(separator: " ").map(String.init) {
    package.targets.removeAll { $0.type == .test && !wanted.contains($0.name) }
}
