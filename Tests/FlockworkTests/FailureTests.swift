// Flockwork · Apache-2.0 · see LICENSE

import FlockTestKit
import Flockwork
import Testing

@Suite("User code that fails", .timeLimit(.minutes(1)), .logsOnFailure)
struct FailureTests {
    private func outcomes(
        of pipeline: Pipeline<Int, Int>, for items: [Int]
    ) async throws -> [Int: Outcome<Int>] {
        try await testCluster(pipeline) { flock in
            let inbox = try await flock.client.inbox(of: pipeline)
            let tickets = try await inbox.post(items)
            let itemOfTicket = Dictionary(uniqueKeysWithValues: zip(tickets, items))
            var outcomes: [Int: Outcome<Int>] = [:]
            for await (ticket, outcome) in inbox.outbox() {
                let item = try #require(itemOfTicket[ticket])
                #expect(outcomes[item] == nil, "item \(item) was answered twice")
                outcomes[item] = outcome
                if outcomes.count == items.count { break }
            }
            return outcomes
        }
    }

    @Test("on one item of 256 leaves the other 255 alone")
    func oneBadItem() async throws {
        let outcomes = try await outcomes(
            of: Pipeline("unlucky", of: Int.self).stage(Superstitious.init), for: Array(0..<256))
        for item in 0..<256 where item != 13 { #expect(outcomes[item] == .value(item)) }
        guard case .failure(let error) = outcomes[13] else {
            Issue.record("item 13 ended with \(String(describing: outcomes[13]))")
            return
        }
        #expect(error.code == .stageFailed)
        #expect(error.message.contains("item 13 is bad"))
        #expect(error.stage == "Superstitious")
    }

    @Test("by returning too few or too many results fails every item with badBatch", arguments: [-1, 1])
    func wrongCount(off: Int) async throws {
        let pipeline = Pipeline("miscounting", of: Int.self)
        let outcomes = try await outcomes(
            of: off < 0 ? pipeline.stage(Forgetful.init) : pipeline.stage(Generous.init), for: Array(0..<8))
        for item in 0..<8 {
            guard case .failure(let error) = outcomes[item] else {
                Issue.record("item \(item) ended with \(String(describing: outcomes[item]))")
                continue
            }
            #expect(error.code == .badBatch && error.message.contains("it must return one each"))
            #expect(error.stage == (off < 0 ? "Forgetful" : "Generous"))
        }
    }

    @Test("in a closure fails only the items that it throws for")
    func throwingMap() async throws {
        let pipeline = Pipeline("picky", of: Int.self).map { item in
            if item % 10 == 3 { throw Bad() }
            return item * 2
        }
        let outcomes = try await outcomes(of: pipeline, for: Array(0..<20))
        for item in 0..<20 {
            switch outcomes[item] {
            case .value(let value): #expect(value == item * 2 && item % 10 != 3)
            case .failure(let error): #expect(error.code == .stageFailed && item % 10 == 3)
            default: Issue.record("item \(item) ended with \(String(describing: outcomes[item]))")
            }
        }
    }

    @Test("over the budget of the search fails what is left, and nothing is lost")
    func budget() async throws {
        let pipeline = Pipeline("all-bad", of: Int.self).map { (item: Int) -> Int in throw Bad() }
        let outcomes = try await outcomes(of: pipeline, for: Array(0..<1000))
        #expect(outcomes.count == 1000)
        #expect(outcomes.values.allSatisfy { if case .failure = $0 { true } else { false } })
    }

    @Test("a model of another width fails the rows with a message that names both")
    func modelWidth() async throws {
        let pipeline = Pipeline("double", rowsOf: 3).model(.swift(Doubling()))
        try await testCluster(pipeline) { flock in
            let inbox = try await flock.client.inbox(of: pipeline)
            let error = await #expect(throws: FlockError.self) { try await inbox.ask([1, 2, 3]) }
            #expect(error?.message.contains("rows of 4 floats, not of 3") == true)
        }
    }

    @Test("a model file that is missing stops the node at its start, and names the file")
    func missingModel() async throws {
        let pipeline = Pipeline("linear", rowsOf: 3).model(.linear("/nowhere/model.json"))
        let node = Node(pipelines: pipeline, configuration: NodeConfiguration(port: 0, logger: .quiet))
        let error = await #expect(throws: FlockError.self) { try await node.start() }
        #expect(error?.code == .modelLoadFailed)
        #expect(error?.message.contains("/nowhere/model.json") == true)
    }
}
