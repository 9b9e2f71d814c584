// Flockwork · Apache-2.0 · see LICENSE

import Testing

@testable import FlockWire

@Suite("When a loop looks for work before it blocks")
struct LoopPatienceTests {
    private static let short = LoopPatience.longestLook

    private func patience(afterShortWaits count: Int) -> LoopPatience {
        var patience = LoopPatience()
        for _ in 0..<count { patience.waited(Self.short) }
        return patience
    }

    @Test("It blocks at once until several waits in a row were short")
    func begins() {
        #expect(!patience(afterShortWaits: LoopPatience.shortWaits - 1).looks(at: 0))
        #expect(patience(afterShortWaits: LoopPatience.shortWaits).looks(at: 0))
    }

    @Test("One long wait, and it blocks at once again until as many were short")
    func ends() {
        var patience = patience(afterShortWaits: 100)
        patience.waited(Self.short + 1)
        #expect(!patience.looks(at: 0))
        for _ in 1..<LoopPatience.shortWaits { patience.waited(0) }
        #expect(!patience.looks(at: 0))
        patience.waited(0)
        #expect(patience.looks(at: 0))
    }

    @Test("After a look that lost its core it blocks at once for a while, however short the waits are")
    func rests() {
        var patience = patience(afterShortWaits: LoopPatience.shortWaits)
        let back = 1000 + LoopPatience.disturbance + 1
        var look = Look(from: 1000, longest: .max)
        let goesOn = look.goesOn(at: back)
        #expect(!goesOn)
        patience.ended(look)
        patience.waited(0)
        #expect(!patience.looks(at: back + LoopPatience.rest - 1))
        #expect(patience.looks(at: back + LoopPatience.rest))
    }

    @Test("A look ends with its time, and the next one need not wait for that")
    func looks() {
        var patience = patience(afterShortWaits: LoopPatience.shortWaits)
        var look = Look(from: 1000)
        let goOn = [1000 + Self.short - 1, 1000 + Self.short].map { look.goesOn(at: $0) }
        #expect(goOn == [true, false])
        patience.ended(look)
        #expect(patience.looks(at: 1000 + Self.short))
    }

    @Test("It is what a thread lost at once that ends a look, not in all")
    func disturbed() {
        var look = Look(from: 0, longest: .max)
        let goOn = (1...10).map { turn in look.goesOn(at: turn * LoopPatience.disturbance) }
        #expect(goOn.allSatisfy { $0 })
        let goesOn = look.goesOn(at: 11 * LoopPatience.disturbance + 1)
        #expect(!goesOn)
    }

    @Test("What counts as short can be longer")
    func bound() {
        var patience = LoopPatience(longest: LoopPatience.longestBatch)
        for _ in 0..<LoopPatience.shortWaits { patience.waited(LoopPatience.longestBatch) }
        #expect(patience.looks(at: 0))
        patience.waited(LoopPatience.longestBatch + 1)
        #expect(!patience.looks(at: 0))
    }

    @Test("A busy one always looks")
    func busy() {
        var patience = LoopPatience(isBusy: true)
        #expect(patience.looks(at: 0))
        patience.waited(.max)
        var look = Look(from: 0)
        let goesOn = look.goesOn(at: 2 * LoopPatience.disturbance)
        #expect(!goesOn)
        patience.ended(look)
        #expect(patience.looks(at: 2 * LoopPatience.disturbance))
    }
}
