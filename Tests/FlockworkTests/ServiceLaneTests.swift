// Flockwork · Apache-2.0 · see LICENSE

import FlockTestKit
import FlockTransport
import Foundation
import Testing

@testable import Flockwork

@Suite("A lane that hands batches to a service")
struct ServiceLaneTests {
    /// Where the batches of a service's calls were, by their size.
    private final class Places: Sendable {
        let calls = Collected<(count: Int, isNear: Bool)>()
        let thread: OwnThread

        init() throws { thread = try OwnThread(name: "near-service") }

        func note(_ count: Int) throws {
            let name = try String(contentsOfFile: "/proc/thread-self/comm", encoding: .utf8)
            calls.append((count, name.hasPrefix("near-service")))
        }
    }

    private func pipeline(_ places: Places) -> Pipeline<Int, Int> {
        Pipeline("near", of: Int.self).service(
            "near", key: "near", batch: nil, instances: .perNode(1), window: 1, open: { _ in places },
            executor: { $0.thread },
            call: { places, batch in
                try places.note(batch.count)
                return batch.replacing(batch.items.map { $0 + 1 })
            })
    }

    @Test("codes small batches on the thread that the service names, and large ones elsewhere")
    func small() async throws {
        let places = try Places()
        let pipeline = pipeline(places)
        try await testCluster(pipeline) { flock in
            let inbox = try await flock.client.inbox(of: pipeline)
            for item in 0..<20 { #expect(try await inbox.ask(item) == item + 1) }
            #expect(places.calls.all.count == 20 && places.calls.all.allSatisfy { $0.isNear })
            let tickets = try await inbox.post(Array(0..<4000))
            #expect(tickets.count == 4000)
            try await flock.wait { $0.completed == 4020 }
        }
        // Some were large, whatever the lane found in its mailbox.
        #expect(places.calls.all.contains { $0.count > 64 })
        #expect(places.calls.all.allSatisfy { $0.isNear == ($0.count <= 64) })
        places.thread.end()
        places.thread.join()
    }

    @Test("stays on Swift's pool when it has another step, which may compute")
    func notAlone() async throws {
        let places = try Places()
        let pipeline = pipeline(places).map { $0 * 2 }
        try await testCluster(pipeline) { flock in
            let inbox = try await flock.client.inbox(of: pipeline)
            for item in 0..<20 { #expect(try await inbox.ask(item) == (item + 1) * 2) }
        }
        #expect(places.calls.all.count == 20 && places.calls.all.allSatisfy { !$0.isNear })
        places.thread.end()
        places.thread.join()
    }
}
