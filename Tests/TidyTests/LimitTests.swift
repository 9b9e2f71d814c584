// Flockwork · Apache-2.0 · see LICENSE

import Testing

// A bound that nobody has reached is a guess, and one that is reached silently is a riddle.

@Suite("limits")
struct LimitRuleTests {
    private static func names(_ path: String, after word: String) -> [String] {
        (Repository.read(path)?.lines ?? []).flatMap { line -> [String] in
            let line = line.trimmingPrefix { $0 == " " }
            guard line.hasPrefix(word) else { return [] }
            return line.dropFirst(word.count).split(separator: ",").map { part in
                String(part.trimmingPrefix { $0 == " " }.prefix { $0.isLetter })
            }
        }
    }

    static let properties = names("Sources/FlockWire/Limits.swift", after: "public var ")
    static let limits = names("Sources/FlockWire/Limit.swift", after: "case ").filter { !$0.isEmpty }
        .filter { $0 != "WireError" && $0 != "let" }

    /// The settings, which nothing reaches.
    static var settings: [String] {
        let text = Repository.read("Sources/FlockWire/Limit.swift")?.text ?? ""
        guard let list = text.firstRange(of: "settings = [") else { return [] }
        return text[list.upperBound...].prefix { $0 != "]" }.split(separator: "\"")
            .map(String.init).filter { $0.allSatisfy(\.isLetter) }
    }

    /// The limit is compared with what an error says or a counter shows.
    static func isReached(_ name: String, in text: String) -> Bool {
        ["count(of: .\(name))", "limit == .\(name)", "(\"limit\", \"\(name)\")"].contains { text.contains($0) }
    }

    @Test("each property of Limits has a name that errors and metrics use, or is a setting")
    func named() {
        #expect(Self.properties.count > 40 && Self.settings.count > 3)
        for property in Self.properties where !Self.limits.contains(property) && !Self.settings.contains(property) {
            Issue.record("Limits.\(property) is no case of Limit: reaching it would be silent")
        }
        for limit in Self.limits + Self.settings where !Self.properties.contains(limit) {
            Issue.record("\(limit) is no property of Limits")
        }
        #expect(Set(Self.limits).isDisjoint(with: Self.settings))
    }

    @Test("a test reaches each limit")
    func reached() {
        #expect(Self.isReached("x", in: "count(of: .x) == 1") && !Self.isReached("x", in: "limits.x = 1"))
        let tests = Repository.swift.filter { $0.path.hasPrefix("Tests/") && !$0.path.hasPrefix("Tests/TidyTests") }
            .map(\.text).joined()
        for limit in Self.limits where !Self.isReached(limit, in: tests) {
            Issue.record("no test expects that \(limit) was reached: count(of: .\(limit)) or limit == .\(limit)")
        }
    }

    @Test("each limit has a counter")
    func counted() {
        let metrics = Repository.read("Sources/Flockwork/Observability/NodeMetrics.swift")?.text ?? ""
        #expect(metrics.contains("Limit.allCases.map"))
    }
}
