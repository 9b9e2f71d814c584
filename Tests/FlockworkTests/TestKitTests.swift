// Flockwork · Apache-2.0 · see LICENSE

import FlockTestKit
import Flockwork
import Logging
import Testing

@Suite("The test kit", .timeLimit(.minutes(1)))
struct TestKitTests {
    @Test("a test clock ends sleeps when it is moved to them, in their order, and no other")
    func clock() async throws {
        let clock = TestClock()
        let ended = Collected<Int>()
        let sleeps = [3, 1, 2].map { seconds in
            Task {
                try await clock.sleep(until: clock.now.advanced(by: .seconds(seconds)))
                ended.append(seconds)
            }
        }
        await clock.whenSleeping(3)
        clock.advance(by: .milliseconds(999))
        #expect(clock.sleeperCount == 3)
        clock.advance(by: .milliseconds(1))
        try await sleeps[1].value
        #expect(clock.sleeperCount == 2 && ended.all == [1])
        clock.advance(by: .seconds(5))
        for sleep in sleeps { try await sleep.value }
        #expect(Set(ended.all) == [1, 2, 3])
        // A sleep until now or before ends at once.
        try await clock.sleep(until: clock.now)
    }

    @Test("a cancelled sleep throws, before or after it began")
    func cancelledSleep() async {
        let clock = TestClock()
        let sleep = Task { try await clock.sleep(for: .seconds(1)) }
        await clock.whenSleeping()
        sleep.cancel()
        await #expect(throws: CancellationError.self) { try await sleep.value }
        let late = Task {
            withUnsafeCurrentTask { $0?.cancel() }
            try await clock.sleep(for: .seconds(1))
        }
        await #expect(throws: CancellationError.self) { try await late.value }
        #expect(clock.sleeperCount == 0)
    }

    private typealias Link = SimulatedLink<Int>

    /// What arrives at the right end of what the left one sends, with times.
    private func arrivals(_ link: inout Link, of count: Int) -> [(message: Int, at: Tick)] {
        var arrived: [(Int, Tick)] = []
        for message in 0..<count { link.send(message, from: .left, now: .zero + .microseconds(message)) }
        link.run(from: .zero) { to, message, now in
            #expect(to == .right)
            arrived.append((message, now))
            return []
        }
        return arrived
    }

    @Test("a link without faults delivers all, once, in order, after its delay")
    func perfectLink() {
        var link = Link(seed: 1, faults: .init(delay: .milliseconds(1) ... .milliseconds(5)))
        let arrived = arrivals(&link, of: 500)
        #expect(arrived.map(\.message) == Array(0..<500))
        #expect(zip(arrived, arrived.dropFirst()).allSatisfy { $0.at <= $1.at })
        #expect(arrived.allSatisfy { $0.at - (.zero + .microseconds($0.message)) >= .milliseconds(1) })
        #expect(link.underWay == 0 && link.counters.arrived == 500)
    }

    @Test("a faulty link loses, doubles and reorders, and the same seed does the same")
    func faultyLink() {
        let faults = Link.Faults(
            delay: .zero ... .milliseconds(5), loss: 0.2, duplication: 0.2, reordering: 0.5)
        var link = Link(seed: 42, faults: faults)
        let arrived = arrivals(&link, of: 500).map(\.message)
        var again = Link(seed: 42, faults: faults)
        #expect(arrivals(&again, of: 500).map(\.message) == arrived)
        var other = Link(seed: 43, faults: faults)
        #expect(arrivals(&other, of: 500).map(\.message) != arrived)
        let counters = link.counters
        #expect(counters.lost > 50 && counters.lost < 150 && counters.doubled > 40 && counters.reordered > 100)
        #expect(arrived.count == 500 - counters.lost + counters.doubled)
        #expect(arrived.sorted() != arrived)
        #expect(Set(arrived).count == 500 - counters.lost)
    }

    @Test("a link that is cut loses what is under way, and works again when it is healed")
    func cutLink() {
        var link = Link(seed: 3)
        link.send(1, from: .left, now: .zero)
        link.cut()
        link.send(2, from: .right, now: .zero)
        #expect(link.nextArrival == .never)
        link.heal()
        link.send(3, from: .right, now: .zero)
        #expect(link.receive(now: link.nextArrival)?.message == 3)
        #expect(link.counters.lost == 2)
    }

    /// Sends the numbers below `count` until each is acknowledged; the other end takes each once.
    @Test("two pure ends that retry get everything across a bad link", arguments: [1, 2, 3, 4, 5] as [UInt64])
    func retries(seed: UInt64) {
        var link = Link(seed: seed, faults: .init(delay: .zero ... .milliseconds(3), loss: 0.3, duplication: 0.2))
        var unacknowledged = Set(0..<50)
        var taken = Set<Int>()
        var now = Tick.zero
        var rounds = 0
        while !unacknowledged.isEmpty, rounds < 100 {
            rounds += 1
            for message in unacknowledged.sorted() { link.send(message, from: .left, now: now) }
            now = link.run(from: now) { to, message, _ in
                if to == .left {
                    unacknowledged.remove(message)
                    return []
                }
                taken.insert(message)
                return [message]
            }
        }
        #expect(unacknowledged.isEmpty && taken.count == 50, "seed \(seed)")
        #expect(rounds > 1, "seed \(seed): nothing was lost")
    }

    @Test("a log capture keeps entries by node, with their metadata, and says what it dropped")
    func logCapture() {
        let logs = LogCapture(capacity: 3)
        var one = logs.logger(for: "node-1")
        one[metadataKey: "peer"] = "x"
        one.info("up", metadata: ["port": "7"])
        one.trace("not kept")
        logs.logger(for: "node-2").warning("down")
        #expect(logs.entries(of: "node-1").map(\.message) == ["up"])
        #expect(logs.entries(of: "node-1").first?.metadata == ["peer": "x", "port": "7"])
        #expect(logs.text == "node-1 info up peer=x port=7\nnode-2 warning down")
        for _ in 0..<3 { one.error("again") }
        #expect(logs.text.hasSuffix("(2 entries more)"))
    }

    @Test("a cluster is stopped when its body throws, and nothing of it listens any more")
    func stops() async throws {
        let pipeline = Pipeline("one", of: Int.self)
        let port = Kept<Int>()
        await #expect(throws: Bad.self) {
            try await testCluster(pipeline) { cluster in
                port.put(cluster.nodes[0].port ?? 0)
                throw Bad()
            }
        }
        var configuration = ClientConfiguration()
        configuration.logger = .quiet
        let error = await #expect(throws: FlockError.self) {
            try await Client.connect(to: "127.0.0.1:\(port.take())", configuration: configuration)
        }
        #expect(error?.code == .unavailable)
    }
}
