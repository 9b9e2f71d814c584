// Flockwork · Apache-2.0 · see LICENSE

import FlockTestKit
import FlockWire
import Testing

@testable import Flockwork

@Suite("Sequences of a session, on the client's side")
struct SequenceTests {
    private func list(_ runs: [SequenceRun]) -> [UInt64] {
        runs.flatMap { run in (0..<run.count).map { run.first + UInt64($0) } }
    }

    @Test("a set of sequences is the set that it stands for", arguments: [1, 2, 3, 4, 5, 6, 7, 8] as [UInt64])
    func model(seed: UInt64) {
        var random = SeededRandom(seed: seed)
        let start = UInt64.random(in: 0...5, using: &random)
        var set = SequenceSet(base: start)
        var model = Set(0..<start)
        for _ in 0..<400 {
            let first = UInt64.random(in: 0..<300, using: &random)
            let run = SequenceRun(first: first, count: Int.random(in: 0...20, using: &random))
            let fresh = (run.first..<run.end).filter { !model.contains($0) }
            #expect(list(set.missing(in: run)) == fresh, "seed \(seed)")
            #expect(list(set.insert(run)) == fresh, "seed \(seed)")
            model.formUnion(fresh)
            var base: UInt64 = 0
            while model.contains(base) { base += 1 }
            #expect(set.base == base, "seed \(seed)")
        }
    }

    @Test("a set of sequences holds its ground at the end of all sequences")
    func lastSequences() {
        var set = SequenceSet(base: .max - 10)
        #expect(list(set.insert(SequenceRun(first: .max - 5, count: 5))) == Array(UInt64.max - 5 ..< .max))
        #expect(set.base == UInt64.max - 10)
        #expect(list(set.insert(SequenceRun(first: .max - 10, count: 10))) == Array(UInt64.max - 10 ..< .max - 5))
        #expect(set.base == UInt64.max)
        #expect(set.insert(SequenceRun(first: .max - 1, count: 1)).isEmpty)
    }

    // MARK: Pending

    private func item(_ value: Int64) -> EncodedItem {
        .bytes(withUnsafeBytes(of: value) { Bytes(copying: $0) })
    }

    private func items(_ values: Range<Int64>) -> ItemBuffer { ItemBuffer(Rows(Array(values), width: 1)) }

    private func values(_ buffer: ItemBuffer) -> [Int64] {
        buffer.rows(of: Int64.self, width: 1)?.elements ?? []
    }

    @Test("asks of the same terms leave as one run, others and posts as runs of their own, in order of sequence")
    func pendingRuns() throws {
        var pending = PendingRequests(window: 1024, layout: .fixed(stride: 8))
        for value in 0..<3 { _ = try pending.ask(item(Int64(value)), deadline: nil, trace: nil) }
        _ = try pending.ask(item(3), deadline: .seconds(1), trace: nil)
        #expect(pending.post(items(4..<6), deadline: nil, trace: nil, accepted: nil) == SequenceRun(first: 4, count: 2))
        _ = pending.post(items(6..<9), deadline: nil, trace: nil, accepted: nil)
        // A post that is too large to be copied leaves by itself.
        _ = pending.post(items(9..<9 + 5000), deadline: nil, trace: nil, accepted: nil)
        _ = try pending.ask(item(1), deadline: nil, trace: nil)
        pending.isArmed = true
        let runs = pending.take()
        #expect(runs.map(\.first) == [0, 3, 4, 9, 5009])
        #expect(runs.map(\.items.count) == [3, 1, 5, 5000, 1])
        #expect(runs.map(\.kind) == [.asks, .asks, .posts, .posts, .asks])
        #expect(runs.map(\.deadline) == [nil, .seconds(1), nil, nil, nil])
        #expect(values(runs[2].items) == [4, 5, 6, 7, 8])
        #expect(pending.take().isEmpty && !pending.isArmed)
        #expect(try pending.ask(item(0), deadline: nil, trace: nil) == 5010)
    }

    @Test("an ask that cannot be encoded takes no sequence")
    func pendingBadItem() throws {
        var pending = PendingRequests(window: 8, layout: .fixed(stride: 8))
        _ = try pending.ask(item(1), deadline: nil, trace: nil)
        let bad = EncodedItem.bytes(Bytes([1, 2, 3]))
        do {
            _ = try pending.ask(bad, deadline: nil, trace: nil)
            Issue.record("3 bytes were taken as an item of 8")
        } catch {}
        #expect(try pending.ask(item(2), deadline: nil, trace: nil) == 1)
        #expect(pending.take().map { values($0.items) } == [[1, 2]])
    }

    @Test("the window is what lies between the base and the next sequence")
    func pendingRoom() throws {
        var pending = PendingRequests(window: 8, layout: .fixed(stride: 8))
        #expect(pending.room == 8)
        _ = pending.post(items(0..<6), deadline: nil, trace: nil, accepted: nil)
        #expect(pending.room == 2)
        pending.base = 4
        #expect(pending.room == 6)
        _ = pending.post(items(6..<12), deadline: nil, trace: nil, accepted: nil)
        #expect(pending.room == 0)
    }

    @Test("callers that wait for room are woken when a good part of the window is free, or at its end")
    func pendingWake() async {
        for (base, ended, expected) in [(1, false, 0), (2, false, 2), (8, false, 3), (0, true, 3)] {
            var pending = PendingRequests(window: 8, layout: .fixed(stride: 8))
            _ = pending.post(items(0..<8), deadline: nil, trace: nil, accepted: nil)
            for number in 0..<3 {
                pending.waiting.append(.init(number: UInt64(number), caller: await Self.continuation()))
            }
            pending.base = UInt64(base)
            if ended { pending.ended = FlockError(.unavailable, "") }
            #expect(pending.wakeable().count == expected, "base \(base)")
            #expect(pending.waiting.count == 3 - expected)
        }
    }

    /// A continuation that was resumed already: only counted, never resumed by a test.
    private static func continuation() async -> UnsafeContinuation<Void, Never> {
        let kept = Kept<UnsafeContinuation<Void, Never>>()
        await withUnsafeContinuation { continuation in
            kept.put(continuation)
            continuation.resume()
        }
        return kept.take()
    }

    // MARK: Sent

    private func outgoing(_ kind: OutgoingRun.Kind, _ first: UInt64, _ count: Int) -> OutgoingRun {
        OutgoingRun(kind: kind, first: first, items: items(Int64(first)..<Int64(first) + Int64(count)))
    }

    private func outcome(_ first: UInt64, _ count: Int) -> OutcomeRun {
        OutcomeRun(
            sequences: SequenceRun(first: first, count: count),
            outcome: .values(items(Int64(first)..<Int64(first) + Int64(count)), filtered: nil))
    }

    /// A post whose caller waits for acceptance, and leaves.
    private func abandon(_ post: SequenceRun, in sent: inout SentRequests) async -> FlockError? {
        await withUnsafeContinuation { (continuation: UnsafeContinuation<FlockError?, Never>) in
            var run = outgoing(.posts, post.first, post.count)
            run.acceptances = [.init(requests: post, caller: continuation)]
            sent.append(run, expires: .never)
            sent.abandon(post)?.resume(returning: FlockError(.cancelled, "left"))
        }
    }

    @Test("an outcome is delivered once, to whom it belongs, however it is cut", arguments: [1, 2, 3, 4] as [UInt64])
    func sentOnce(seed: UInt64) async {
        var random = SeededRandom(seed: seed)
        var sent = SentRequests()
        sent.append(outgoing(.asks, 0, 50), expires: .never)
        sent.append(outgoing(.posts, 50, 60), expires: .never)
        let left = SequenceRun(first: 110, count: 20)
        #expect(await abandon(left, in: &sent)?.code == .cancelled)
        #expect(sent.abandon(left) == nil && sent.abandon(SequenceRun(first: 50, count: 60)) == nil)
        sent.append(outgoing(.posts, 130, 20), expires: .never)
        sent.append(outgoing(.asks, 150, 50), expires: .never)
        var seen: [UInt64: Int64] = [:]
        for _ in 0..<300 {
            let first = UInt64.random(in: 0..<200, using: &random)
            let count = Int.random(in: 1...min(30, 200 - Int(first)), using: &random)
            for (part, addressee) in sent.deliver(outcome(first, count)) {
                guard case .values(let items, _) = part.outcome else { continue }
                for (index, value) in values(items).enumerated() {
                    let sequence = part.sequences.first + UInt64(index)
                    #expect(seen.updateValue(value, forKey: sequence) == nil, "seed \(seed): \(sequence) twice")
                    let expected: SentRequests.Addressee =
                        110..<130 ~= sequence ? .nobody : 50..<150 ~= sequence ? .outbox : .callers
                    #expect(value == Int64(sequence) && addressee == expected)
                }
            }
            let unanswered = Set(sent.unanswered(from: 0).flatMap { values($0.items).map { UInt64($0) } })
            #expect(unanswered == Set((0..<200).filter { seen[$0] == nil }), "seed \(seed)")
            let later = Set(sent.unanswered(from: first).flatMap { values($0.items).map { UInt64($0) } })
            #expect(later == unanswered.filter { $0 >= first }, "seed \(seed): from \(first)")
            #expect(Set(list(sent.open(from: 120))) == unanswered.filter { $0 >= 120 }, "seed \(seed)")
            sent.trim()
        }
        for (part, _) in sent.deliver(outcome(0, 200)) { for one in list([part.sequences]) { seen[one] = 0 } }
        sent.trim()
        #expect(seen.count == 200 && sent.runs.isEmpty && sent.delivered.base == 200)
    }

    @Test("only what has no outcome expires, when its time has come")
    func sentExpiry() {
        var sent = SentRequests()
        sent.append(outgoing(.asks, 0, 10), expires: Tick(nanoseconds: 100))
        sent.append(outgoing(.posts, 10, 10), expires: .never)
        sent.append(outgoing(.asks, 20, 10), expires: Tick(nanoseconds: 50))
        #expect(sent.nextExpiry == Tick(nanoseconds: 50))
        #expect(sent.expired(at: Tick(nanoseconds: 49)).isEmpty)
        _ = sent.deliver(outcome(22, 3))
        #expect(list(sent.expired(at: Tick(nanoseconds: 50))) == [20, 21, 25, 26, 27, 28, 29])
        _ = sent.deliver(outcome(20, 10))
        #expect(sent.nextExpiry == Tick(nanoseconds: 100))
        #expect(list(sent.expired(at: .never)) == Array(0..<20))
    }
}
