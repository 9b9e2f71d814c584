// Flockwork · Apache-2.0 · see LICENSE

import FlockWire
import Testing

@testable import Flockwork

@Suite("requests of many callers that ask again")
struct GatheringTests {
    private func outcome(_ first: UInt64, _ count: Int) -> OutcomeRun {
        OutcomeRun(sequences: SequenceRun(first: first, count: count), outcome: .filtered)
    }

    /// Appends asks; how many of them told the loop.
    private static func ask(_ pending: inout PendingRequests, _ count: Int) throws -> Int {
        var told = 0
        for _ in 0..<count {
            let item = EncodedItem.bytes(Bytes(count: 8) { _ in })
            _ = try pending.ask(item, deadline: nil, trace: nil)
            if pending.arm() { told += 1 }
        }
        return told
    }

    @Test("the loop is told of the first request, and while it gathers only of an eighth of those that are open")
    func arming() throws {
        var pending = PendingRequests(window: 1024, layout: .fixed(stride: 8))
        var told = try Self.ask(&pending, 80)
        var taken = pending.take().count
        #expect(told == 1 && taken == 1)
        pending.isGathering = true
        // The eleventh makes them 91, of which 11 are not on their way.
        told = try Self.ask(&pending, 11)
        #expect(told == 0)
        told = try Self.ask(&pending, 2)
        #expect(told == 1)
        taken = pending.take().count
        pending.isGathering = false
        told = try Self.ask(&pending, 1)
        #expect(told == 1 && taken == 1)
    }

    @Test("they gather for an eighth of the time that one takes, and never long")
    func pause() {
        var trip = RoundTrip()
        var now = Tick.zero
        #expect(trip.pause == nil)
        trip.received([outcome(0, 100)], at: now)
        #expect(trip.pause == nil, "nothing was followed")
        for turn in 0..<20 as Range<UInt64> {
            trip.sent(turn * 10, at: now)
            trip.sent(turn * 10 + 5, at: now + .microseconds(100))
            now = now + .microseconds(800)
            trip.received([outcome(turn * 10 + 5, 5)], at: now)
            trip.received([outcome(turn * 10, 5)], at: now)
        }
        #expect(trip.pause == .microseconds(100))
        trip.sent(1000, at: now)
        now = now + .milliseconds(90)
        trip.received([outcome(1000, 1)], at: now)
        #expect(trip.pause == .microseconds(500))
    }

    @Test("one that is not answered is not waited for")
    func lost() {
        var trip = RoundTrip()
        trip.sent(1, at: .zero)
        let later = Tick.zero + .milliseconds(200)
        trip.sent(50, at: later)
        trip.received([outcome(50, 1)], at: later + .microseconds(80))
        #expect(trip.pause == .microseconds(10))
    }
}
