// Flockwork · Apache-2.0 · see LICENSE

import Testing

@testable import FlockTransport

@Suite("Errands of a thread")
struct ErrandsTests {
    @Test("what is left runs after the body, in order, and nothing of it is open any more")
    func order() {
        var told: [String] = []
        let hasRun = Errands.run {
            #expect(Errands.isOpen)
            for name in ["first", "second"] {
                Errands.leave {
                    #expect(!Errands.isOpen)
                    told.append(name)
                }
            }
            told.append("body")
        }
        #expect(hasRun)
        #expect(told == ["body", "first", "second"])
    }

    @Test("a body that leaves nothing has none, and one within another leaves it to the outer one")
    func nested() {
        #expect(!Errands.run {})
        var told: [String] = []
        let hasRun = Errands.run {
            let inner = Errands.run { Errands.leave { told.append("left") } }
            #expect(!inner)
            told.append("body")
        }
        #expect(hasRun)
        #expect(told == ["body", "left"])
    }
}
