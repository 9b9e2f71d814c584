// Flockwork · Apache-2.0 · see LICENSE

import Foundation

/// The programs of this package, which lie beside the tests.
enum Programs {
    static func url(_ name: String) -> URL {
        let tests = URL(fileURLWithPath: "/proc/self/exe").resolvingSymlinksInPath()
        let bundle = CommandLine.arguments.first { $0.hasSuffix(".xctest") }.map { URL(fileURLWithPath: $0) } ?? tests
        return bundle.deletingLastPathComponent().appending(path: name)
    }
}
