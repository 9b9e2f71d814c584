// Flockwork · Apache-2.0 · see LICENSE

import Testing

@Suite("imports")
struct ImportTests {
    static let manifest = Manifest(Repository.read("Package.swift")?.text ?? "")
    static let files = Repository.swift.filter { $0.target != nil }

    @Test("a target depends only on targets listed above it in the manifest")
    func order() {
        let bad = Manifest(".target(name: \"A\", dependencies: [\"B\"]),\n.target(name: \"B\"),")
        #expect(bad.arrowsThatPointUp == ["A -> B"])
        #expect(Self.manifest.targets.contains { $0.name == "FlockWire" }, "the manifest was not understood")
        #expect(Self.manifest.arrowsThatPointUp == [])
    }

    @Test("a file imports only those of our targets that its own target declares")
    func direction() {
        hold(
            Self.files, to: { Self.direction($0) },
            bad: ["import FlockCluster", "public import Flockwork", "@testable import FlockActors", "import CLibuv"],
            good: ["import Synchronization", "// import Flockwork"])
        hold(
            Self.files, to: { Self.direction($0) }, at: "Sources/FlockCluster/Sample.swift",
            bad: ["import FlockActors", "import FlockModels"], good: ["public import FlockWire"])
    }

    @Test("FlockWire and FlockCluster know no Foundation and no Dispatch, FlockCluster no C library")
    func pureImports() {
        for target in ["FlockWire", "FlockCluster"] {
            hold(
                Self.files.filter { $0.target == target }, to: Self.pureImports, at: "Sources/\(target)/Sample.swift",
                bad: ["import Foundation", "import FoundationEssentials", "internal import Dispatch", "import CLibuv"],
                good: ["import Synchronization", "public import DequeModule"])
        }
        // FlockWire may use the C library's mathematics.
        let cluster = TextFile(path: "Sources/FlockCluster/Sample.swift", text: "import Glibc")
        #expect(!Self.pureImports(cluster).isEmpty)
    }

    @Test("FlockCluster has no clock, randomness, task or hash order")
    func pureCluster() {
        hold(
            Self.files.filter { $0.path.hasPrefix("Sources/FlockCluster/") }, to: Self.impure,
            at: "Sources/FlockCluster/Sample.swift",
            bad: [
                "let now = ContinuousClock().now", "let x = Int.random(in: 0..<3)", "Task { }", "func f() async {}",
                "await x", "var hasher = Hasher()", "let t = uv_hrtime()", "items.shuffled()",
            ],
            good: ["// no Task here", "let taskName = 1", "random = mix(random)"])
    }

    @Test("every Swift target has the shared settings, so that a bare import is internal")
    func settings() {
        #expect(Manifest(".target(name: \"A\"),\n.target(name: \"B\", swiftSettings: settings),").unset == ["A"])
        #expect(Self.manifest.unset.filter { !Self.isC($0) } == [])
        for feature in ["ExistentialAny", "InternalImportsByDefault", "MemberImportVisibility"] {
            #expect(Self.manifest.text.contains("enableUpcomingFeature(\"\(feature)\")"))
        }
        #expect(Self.manifest.text.contains("treatAllWarnings(as: .error)"))
    }

    /// Targets of C sources.
    private static func isC(_ target: String) -> Bool {
        ["CFlockRuntime", "CFlockProcess", "CGRPC", "flockpython"].contains(target)
    }

    @Test("only the umbrella target re-exports, and shipped code imports nothing @testable")
    func reexports() {
        hold(
            Self.files.filter { !$0.path.hasPrefix("Tests/") }, to: Self.reexports,
            bad: ["@_exported import FlockWire", "@testable import FlockWire", "@_spi(X) import FlockWire"],
            good: ["public import FlockWire"])
    }

    // The rules.

    static func imports(_ file: TextFile) -> [(line: Int, module: String)] {
        let form = #/^\s*(?:@\S+\s+)*(?:(?:public|package|internal|fileprivate|private)\s+)?import\s+(?:\w+\s+)?(\w+)/#
        return file.swift.code.enumerated().compactMap { index, line in
            guard line.contains("import"), let match = line.firstMatch(of: form) else { return nil }
            return (index + 1, String(match.1))
        }
    }

    static func direction(_ file: TextFile) -> [Finding] {
        guard let name = file.target, let own = manifest.targets.first(where: { $0.name == name }) else {
            return [Finding(path: file.path, line: 1, text: "its folder is no target of the manifest")]
        }
        let ours = Set(manifest.targets.map(\.name))
        return imports(file).filter { ours.contains($0.module) && !own.dependencies.contains($0.module) }.map {
            Finding(path: file.path, line: $0.line, text: "\(name) does not depend on \($0.module)")
        }
    }

    static func pureImports(_ file: TextFile) -> [Finding] {
        let allowed: Set = ["FlockWire", "Synchronization", "DequeModule", "HeapModule", "OrderedCollections"]
        let extra: Set = file.path.hasPrefix("Sources/FlockWire/") ? ["Glibc"] : []
        return imports(file).filter { !allowed.union(extra).contains($0.module) }.map {
            Finding(path: file.path, line: $0.line, text: "a pure target imports \($0.module)")
        }
    }

    static func impure(_ file: TextFile) -> [Finding] {
        let words =
            #/\b(?:Task|async|await|\w+Clock|Date|Hasher|shuffled|uv_\w+)\b|\.random\(|SystemRandom/#
        return CodeRules.find(words, in: file.swift.code, of: file, "the pure core is given what it needs")
    }

    static func reexports(_ file: TextFile) -> [Finding] {
        let isUmbrella = file.path.hasPrefix("Sources/Flockwork/")
        return file.swift.code.enumerated().compactMap { index, line in
            guard line.contains("import"),
                let match = line.firstMatch(of: #/@(?:_exported|testable|_spi\S*)\s+(?:public\s+)?import/#),
                !(isUmbrella && match.0.hasPrefix("@_exported"))
            else { return nil }
            return Finding(path: file.path, line: index + 1, text: String(match.0))
        }
    }
}

/// What the rules need of Package.swift: targets in order, with those of our own that they name.
struct Manifest: Sendable {
    struct Target: Sendable {
        let name: String
        let dependencies: [String]
        let hasSettings: Bool
        let isSystemLibrary: Bool
    }
    let text: String
    let targets: [Target]

    init(_ text: String) {
        self.text = text
        let start = #/\.(target|executableTarget|testTarget|systemLibrary|macro)\(\s*name:\s*"(\w+)"/#
        let matches = text.matches(of: start)
        var targets: [Target] = []
        for (index, match) in matches.enumerated() {
            let end = index + 1 < matches.count ? matches[index + 1].range.lowerBound : text.endIndex
            let body = text[match.range.upperBound..<end]
            targets.append(
                Target(
                    name: String(match.2),
                    dependencies: body.matches(of: #/"(\w+)"/#).map { String($0.1) },
                    hasSettings: body.contains("swiftSettings: settings")
                        || (match.1 == "testTarget" && body.contains("swiftSettings: testSettings")),
                    isSystemLibrary: match.1 == "systemLibrary"))
        }
        let names = Set(targets.map(\.name))
        self.targets = targets.map { target in
            Target(
                name: target.name, dependencies: target.dependencies.filter { names.contains($0) },
                hasSettings: target.hasSettings, isSystemLibrary: target.isSystemLibrary)
        }
    }

    var arrowsThatPointUp: [String] {
        targets.enumerated().flatMap { index, target in
            target.dependencies.filter { name in !targets[..<index].contains { $0.name == name } }
                .map { "\(target.name) -> \($0)" }
        }
    }

    /// Targets with Swift in them that lack the shared settings.
    var unset: [String] { targets.filter { !$0.isSystemLibrary && !$0.hasSettings }.map(\.name) }
}
