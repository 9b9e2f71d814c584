// Flockwork · Apache-2.0 · see LICENSE

import FlockTestKit
import Testing

@Suite("histories")
struct HistoryTests {
    static func line(
        _ kind: HistoryLine.Kind, _ operation: HistoryLine.Operation, _ first: UInt64 = 0, count: Int = 1,
        words: [UInt64] = []
    ) -> HistoryLine {
        HistoryLine(
            time: 5, client: 1, kind: kind, operation: operation, partition: 3, session: 9, first: first, count: count,
            words: words)
    }

    static func rules(_ lines: [HistoryLine]) -> [String] {
        var checker = HistoryChecker()
        for line in lines { checker.check(line) }
        checker.finish(time: 9)
        return checker.violations.map(\.rule)
    }

    static let submitted = [line(.invoke, .submit, words: [77]), line(.ok, .submit)]
    static let outcome = line(.ok, .outcome, words: [0, 77, 1])

    @Test("what was accepted and has its outcome is right")
    func right() {
        #expect(Self.rules(Self.submitted + [Self.outcome, Self.outcome]) == [])
        #expect(Self.rules([Self.line(.invoke, .cancel), Self.line(.ok, .outcome, words: [10, 0, 0])]) == [])
    }

    @Test("an accepted request without an outcome is S1")
    func lost() { #expect(Self.rules(Self.submitted) == ["S1"]) }

    @Test("a submitted request that was never accepted has to be done in the end: L3")
    func unfinished() { #expect(Self.rules([Self.submitted[0]]) == ["L3"]) }

    @Test("two outcomes of one request are S2")
    func twice() {
        #expect(Self.rules(Self.submitted + [Self.outcome, Self.line(.ok, .outcome, words: [0, 77, 2])]) == ["S2"])
    }

    @Test("an outcome that nobody asked for, or of another payload, is S3")
    func foreign() {
        #expect(Self.rules([Self.line(.ok, .outcome, words: [2, 0, 0])]) == ["S3"])
        #expect(Self.rules(Self.submitted + [Self.line(.ok, .outcome, words: [0, 78, 1])]) == ["S3"])
    }

    @Test("an outcome that is not acknowledged and cannot be fetched again is S4")
    func gone() {
        let seen = Self.submitted + [Self.outcome]
        #expect(Self.rules(seen + [Self.line(.invoke, .recollect)]) == ["S4"])
        #expect(Self.rules(seen + [Self.line(.invoke, .recollect), Self.outcome]) == [])
        #expect(Self.rules(seen + [Self.line(.invoke, .ack), Self.line(.invoke, .recollect)]) == [])
    }

    @Test("a line is read as it was written")
    func text() {
        let line = Self.line(.info, .submit, 12, count: 2, words: [0xDEAD_BEEF, .max])
        #expect(HistoryLine(parsing: line.description) == line)
        #expect(HistoryLine(parsing: "5 1 ok nothing 3 9 0 1") == nil)
        #expect(HistoryLine(parsing: "5 1 ok") == nil)
    }
}
