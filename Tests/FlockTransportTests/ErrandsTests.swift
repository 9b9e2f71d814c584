// Flockwork · Apache-2.0 · see LICENSE

import Testing

@testable import FlockTransport

@Suite("Errands of a thread")
struct ErrandsTests {
    @Test("what is left runs after the body, in order, and nothing of it is open any more")
    func order() {
        var told: [String] = []
        let outcome = Errands.run {
            #expect(Errands.isOpen)
            for name in ["first", "second"] {
                Errands.leave { keeps in
                    #expect(!Errands.isOpen && !keeps)
                    told.append(name)
                    return nil
                }
            }
            told.append("body")
        }
        #expect(outcome == .done)
        #expect(told == ["body", "first", "second"])
    }

    private struct Named: Lookout {
        let name: String
        func look() -> Bool { false }
        func end() {}
    }

    @Test("one who looks is given what the first errand that can has kept, and no other keeps anything")
    func keeping() {
        var told: [String] = []
        let outcome = Errands.run(looks: true) {
            for (name, can) in [("none", false), ("first", true), ("second", true)] {
                Errands.leave { keeps in
                    told.append("\(name) \(keeps)")
                    return keeps && can ? Named(name: name) : nil
                }
            }
        }
        #expect(told == ["none true", "first true", "second false"])
        guard case .kept(let lookout) = outcome else {
            Issue.record("nothing was kept")
            return
        }
        #expect((lookout as? Named)?.name == "first")
    }

    @Test("a body that leaves nothing has none, and one within another leaves it to the outer one")
    func nested() {
        #expect(Errands.run {} == .nothing)
        var told: [String] = []
        let outcome = Errands.run {
            let inner = Errands.run {
                Errands.leave { _ in
                    told.append("left")
                    return nil
                }
            }
            #expect(inner == .nothing)
            told.append("body")
        }
        #expect(outcome == .done)
        #expect(told == ["body", "left"])
    }
}

extension Errands.Outcome {
    /// What was kept is equal to nothing.
    fileprivate static func == (left: Self, right: Self) -> Bool {
        switch (left, right) {
        case (.nothing, .nothing), (.done, .done): true
        default: false
        }
    }
}
