// Flockwork · Apache-2.0 · see LICENSE

import Flockwork
import Foundation

/// Three producers, one draining consumer, chunks of 64 items.
enum MailboxSuite {
    static let producers = 3
    static let chunk = 64
    static let capacity = 1024

    static func measure(_ run: Run) async throws {
        let limit = try await run.rate("mailbox", "bare-loop", must: "the limit of the row below") {
            try Self.bareLoop(seconds: $0)
        }
        var configuration = NodeConfiguration(port: 0, clusterID: Served.clusterID)
        configuration.logger = .quiet
        let node = Node(pipelines: Served.mailbox, configuration: configuration)
        try await node.start()
        try await run.rate("mailbox", "three-producers", limit: limit, must: "20 M/s (aim 70 M/s)") {
            try await Self.embedded(node, seconds: $0)
        }
        await node.shutDown()
    }

    /// Three tasks that post to a node in this process, whose one instance drains the mailbox that they share. So each
    /// item also passes through a session, the partition's log and an outbox.
    private static func embedded(_ node: Node, seconds: Double) async throws -> Measured {
        _ = Served.expected
        let meter = try Meter()
        let (items, latency) = try await withThrowingTaskGroup(of: Measured.self) { group in
            for _ in 0..<producers {
                group.addTask {
                    let inbox = try await node.inbox(of: Served.mailbox)
                    let posting = Posting(inbox: inbox, runs: Dataset.rowCount / chunk) { index in
                        try await inbox.post(Dataset.rows.slice(from: index * chunk, count: chunk), until: .buffered)
                    }
                    return try await posting.measure(seconds: seconds)
                }
            }
            var items = 0
            var latency = Latency()
            for try await one in group {
                items += one.items
                if let its = one.latency { latency.add(its) }
            }
            return (items, latency)
        }
        return try meter.stop(items: items, latency: latency)
    }

    /// The least that could do: threads, one lock, one condition each way; the consumer swaps the whole list.
    private final class BareQueue: Sendable {
        let notEmpty = NSCondition()
        // Guarded by the condition's lock.
        nonisolated(unsafe) private var chunks: [[UInt64]] = []
        nonisolated(unsafe) private var producersLeft = producers

        func put(_ chunk: [UInt64]) {
            notEmpty.lock()
            while chunks.count >= capacity {
                // Full: the consumer is at work; it signals when it has taken everything.
                notEmpty.wait()
            }
            chunks.append(chunk)
            if chunks.count == 1 { notEmpty.broadcast() }
            notEmpty.unlock()
        }

        func finish() {
            notEmpty.lock()
            producersLeft -= 1
            notEmpty.broadcast()
            notEmpty.unlock()
        }

        /// Everything that waits; empty when the producers are done.
        func takeAll(reusing empty: inout [[UInt64]]) {
            notEmpty.lock()
            while chunks.isEmpty && producersLeft > 0 { notEmpty.wait() }
            if chunks.count >= capacity { notEmpty.broadcast() }
            swap(&chunks, &empty)
            notEmpty.unlock()
        }
    }

    static func bareLoop(seconds: Double) throws -> Measured {
        let queue = BareQueue()
        let sent = Tally()
        let received = Tally()
        let meter = try Meter()
        let end = monotonicNanoseconds() + UInt64(seconds * 1e9)
        onThreads(producers + 1) { index in
            index < producers ? produce(UInt64(index), into: queue, until: end, sent) : consume(queue, received)
        }
        let measured = try meter.stop(items: received.items)
        guard sent.items == received.items, sent.sum == received.sum else {
            throw BenchmarkError("the bare mailbox lost items")
        }
        return measured
    }

    private static func produce(_ first: UInt64, into queue: BareQueue, until end: UInt64, _ sent: Tally) {
        var next = first
        var count = 0
        var sum: UInt64 = 0
        while monotonicNanoseconds() < end {
            for _ in 0..<16 {
                let items = [UInt64](unsafeUninitializedCapacity: chunk) { target, filled in
                    for index in 0..<chunk { target[index] = next &+ UInt64(index) }
                    filled = chunk
                }
                for item in items { sum &+= item & 0xFF }
                queue.put(items)
                next &+= UInt64(chunk)
                count += chunk
            }
        }
        sent.add(items: count, sum: Double(sum))
        queue.finish()
    }

    private static func consume(_ queue: BareQueue, _ received: Tally) {
        var taken: [[UInt64]] = []
        var count = 0
        var sum: UInt64 = 0
        while true {
            taken.removeAll(keepingCapacity: true)
            queue.takeAll(reusing: &taken)
            if taken.isEmpty { break }
            for items in taken {
                for item in items { sum &+= item & 0xFF }
                count += items.count
            }
        }
        received.add(items: count, sum: Double(sum))
    }
}
