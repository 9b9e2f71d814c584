// Flockwork · Apache-2.0 · see LICENSE

import FlockTestKit
import FlockWire
import Testing

@testable import Flockwork

@Suite("Batches and what becomes of them")
struct BatchTests {
    @Test("a batch remembers through filters which item each one was")
    func origins() throws {
        let batch = Batch(Array(0..<20))
        #expect(batch.origin(of: 7) == 7)
        let even = try batch.filtered { $0 % 2 == 0 }
        #expect(even.items == [0, 2, 4, 6, 8, 10, 12, 14, 16, 18])
        let mapped = try even.mapped { "\($0)" }
        let kept = try mapped.filtered { $0.contains("1") }
        #expect(kept.items == ["10", "12", "14", "16", "18"])
        #expect(kept.items.indices.map(kept.origin) == [10, 12, 14, 16, 18])
        #expect(try kept.filtered { _ in false }.count == 0)
        #expect(try kept.filtered { _ in true }.origins == kept.origins)
        #expect(try batch.filtered { _ in true }.origins == nil)
    }

    @Test("a batch of rows is its rows, and keeps its position through steps")
    func rows() throws {
        var batch = Batch<Row>(Rows([1, 2, 3, 4, 5, 6], width: 2))
        batch.position = 40
        #expect(batch.count == 3)
        #expect(batch.items == [[1, 2], [3, 4], [5, 6]])
        let kept = try batch.filtered { $0.values[0] > 1 }
        #expect(kept.position == 40 && kept.origins == [1, 2])
        #expect(try kept.rows() == Rows([3, 4, 5, 6], width: 2))
        let error = #expect(throws: FlockError.self) { try Batch<Row>([[1, 2], [3]]).rows() }
        #expect(error?.code == .invalidInput)
        #expect(try Batch<Row>([]).rows().count == 0)
    }

    @Test("a step over scores in place sees each number once")
    func scores() throws {
        let batch = Batch(scores: Rows<Float>([1, 2, 3], width: 1))
        #expect(try batch.mapped { $0 * 2 }.items == [2, 4, 6])
        #expect(batch.withScores { $0.reduce(0, +) } == 6)
        #expect(try batch.filtered { $0 != 2 }.origins == [0, 2])
    }

    private func numbers(_ values: [Int64]) -> ItemBuffer { ItemBuffer(Rows(values, width: 1)) }

    private func texts(_ values: [String]) throws -> ItemBuffer {
        try ItemBuffer(count: values.count) { index, writer in writer.write(Bytes(values[index])) }
    }

    @Test("values are spread to the places that a filter left, blanks between them, whatever the layout")
    func spread() throws {
        for items in [numbers([11, 13, 14]), try texts(["11", "13", "14"])] {
            let output = LaneOutput(items: items, origins: [1, 3, 4])
            guard case .values(let spread, let mask?) = output.outcome(count: 6) else {
                Issue.record("no values")
                return
            }
            #expect(spread.count == 6)
            #expect((0..<6).map { mask[$0] } == [true, false, true, false, false, true])
            for (index, origin) in [1, 3, 4].enumerated() { #expect(spread[origin] == items[index]) }
        }
    }

    @Test("nothing filtered has no mask; everything filtered has no values")
    func spreadEdges() {
        let all = LaneOutput(items: numbers([1, 2]), origins: nil).outcome(count: 2)
        guard case .values(let items, nil) = all else {
            Issue.record("\(all)")
            return
        }
        #expect(items.count == 2)
        let none = LaneOutput(items: .empty, origins: []).outcome(count: 2)
        guard case .filtered = none else {
            Issue.record("\(none)")
            return
        }
    }

    private func result() throws -> BatchResult {
        // Items 0..<4 with 1 and 2 filtered, item 4 bad, items 5..<8 all there.
        BatchResult(parts: [
            .init(start: 0, count: 4, ending: .output(LaneOutput(items: numbers([100, 103]), origins: [0, 3]))),
            .init(start: 4, count: 1, ending: .failed(FlockError(.stageFailed, "bad"))),
            .init(start: 5, count: 3, ending: .output(LaneOutput(items: numbers([105, 106, 107]), origins: nil))),
        ])
    }

    /// What became of each sequence: a value, "filtered", or "failed".
    private func described(_ runs: [OutcomeRun]) -> [UInt64: String] {
        var all: [UInt64: String] = [:]
        for run in runs {
            for index in 0..<run.sequences.count {
                let text =
                    switch run.outcome {
                    case .filtered: "filtered"
                    case .failed: "failed"
                    case .values(_, let mask?) where mask[index]: "filtered"
                    case .values(let items, _):
                        "\(items.slice(from: index, count: 1).rows(of: Int64.self, width: 1)?.elements[0] ?? -1)"
                    }
                let sequence = run.sequences.first + UInt64(index)
                #expect(all.updateValue(text, forKey: sequence) == nil, "\(sequence) twice")
            }
        }
        return all
    }

    static let expected = ["100", "filtered", "filtered", "103", "failed", "105", "106", "107"]

    @Test("every slice of a batch gets the outcomes of its items, for any cut of it into runs")
    func outcomes() throws {
        let result = try result()
        for first in 0..<8 {
            for count in 1...(8 - first) {
                let run = SequenceRun(first: 1000, count: count)
                let outcomes = described(result.outcomes(of: run, from: first))
                let expected = Self.expected[first..<first + count].enumerated()
                #expect(outcomes == Dictionary(uniqueKeysWithValues: expected.map { (1000 + UInt64($0), $1) }))
            }
        }
    }

    @Test("what goes on to the next lane and what ends here are together the whole slice")
    func forwarded() throws {
        let result = try result()
        for first in 0..<8 {
            for count in 1...(8 - first) {
                let (kept, ended) = result.forwarded(of: SequenceRun(first: 50, count: count), from: first)
                let values = kept.map { OutcomeRun(sequences: $0, outcome: .values($1, filtered: nil)) }
                #expect(kept.allSatisfy { $0.0.count == $0.1.count })
                let expected = Self.expected[first..<first + count].enumerated()
                #expect(
                    described(values + ended)
                        == Dictionary(uniqueKeysWithValues: expected.map { (50 + UInt64($0), $1) }))
            }
        }
    }

    @Test("a batch that throws is searched within its budget, and every item has one ending")
    func bisection() async throws {
        var limits = Limits()
        limits.bisectionCalls = 10
        for bad in [Set([3]), [0, 15], [1, 5, 9, 13], Set(0..<16)] {
            let calls = Counter()
            let execution = BatchExecution(
                step: { input in
                    calls.add()
                    guard case .encoded(let items, _) = input else { throw Bad() }
                    let values = items.rows(of: Int64.self, width: 1)?.elements ?? []
                    if values.contains(where: { bad.contains(Int($0)) }) { throw Bad() }
                    return LaneOutput(items: items, origins: nil)
                }, stage: "s", limits: limits)
            let result = await execution.run(numbers((0..<16).map { Int64($0) }))
            var next = 0
            for part in result.parts {
                #expect(part.start == next && part.count > 0)
                next += part.count
                if case .failed(let error) = part.ending { #expect(error.stage == "s" && error.code == .stageFailed) }
                if case .output = part.ending {
                    #expect((part.start..<next).allSatisfy { !bad.contains($0) }, "a bad item has a value")
                }
            }
            #expect(next == 16)
            #expect(calls.value <= 11, "the first call and the budget")
        }
    }
}
