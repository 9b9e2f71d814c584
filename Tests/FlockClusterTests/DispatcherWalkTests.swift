// Flockwork · Apache-2.0 · see LICENSE

import FlockWire
import Testing

@testable import FlockCluster

@Suite("Dispatcher, random walks")
struct DispatcherWalkTests {
    @Test("every item ends once, credits stay within bounds and return", arguments: 1...60 as ClosedRange<UInt64>)
    func walk(seed: UInt64) {
        var walk = DispatcherWalk(seed: seed)
        for step in 0..<200 {
            walk.step()
            walk.check("seed \(seed), step \(step)")
            if walk.verdict.failed { return }
        }
        walk.drain()
        walk.check("seed \(seed), drained")
        let left = walk.states.filter { $0.value != .ended }
        #expect(left.isEmpty, "seed \(seed): \(left.count) items never ended")
    }
}

/// A dispatcher, and where each item must be.
struct DispatcherWalk {
    struct Item: Hashable {
        let session: UInt64
        let sequence: UInt64
    }
    enum State: Equatable {
        case queued(attempt: Int)
        case sent(HostID, attempt: Int)
        case revoked(HostID)
        case ended
    }

    let verdict = Verdict()
    var random: Seeded
    var dispatcher: Dispatcher
    var states: [Item: State] = [:]
    var hosts: [HostID: (items: Int, bytes: Int)] = [:]
    var next: [UInt64: UInt64] = [:]
    var nextHost: UInt64 = 1
    var now = Tick.zero

    init(seed: UInt64) {
        random = Seeded(seed)
        dispatcher = Dispatcher(seed: seed, limits: Limits())
    }

    func expect(_ condition: Bool, _ what: @autoclosure () -> String) {
        guard !condition else { return }
        verdict.failed = true
        Issue.record("\(what())")
    }

    mutating func step() {
        switch random.below(100) {
        case 0..<35: enqueue()
        case 35..<60: handle(.tick)
        case 60..<85: answer(returning: random.chance(20))
        case 85..<91: revoke()
        case 91..<96: hostUp()
        default: hostDown()
        }
    }

    mutating func enqueue() {
        let session = UInt64(random.below(4))
        let count = 1 + random.below(12)
        let first = next[session, default: 0]
        next[session] = first + UInt64(count)
        for sequence in first..<first + UInt64(count) {
            states[Item(session: session, sequence: sequence)] = .queued(attempt: 1)
        }
        let run = OpenRun(
            requests: requests(session, sequences(first, count)), pipeline: 1, items: items(count, from: first))
        handle(.enqueue(run))
    }

    func requests(_ session: UInt64, _ run: SequenceRun) -> RequestRun {
        RequestRun(partition: Partition.id, session: SessionID(rawValue: session), sequences: run)
    }

    mutating func randomRun() -> RequestRun {
        let session = UInt64(random.below(4))
        let end = Int(next[session, default: 0])
        return requests(session, sequences(UInt64(random.below(end + 3)), 1 + random.below(20)))
    }

    mutating func randomHost() -> HostID? {
        let ids = hosts.keys.sorted()
        return ids.isEmpty ? nil : ids[random.below(ids.count)]
    }

    func members(of run: RequestRun) -> [Item] {
        (run.sequences.first..<run.sequences.end).map { Item(session: run.session.rawValue, sequence: $0) }
    }

    mutating func answer(returning: Bool) {
        guard let host = randomHost() else { return }
        let runs = (0..<1 + random.below(3)).map { _ in randomRun() }
        apply(host, runs, returning: returning)
        handle(returning ? .returned(host, runs: runs) : .finished(host, runs: runs))
    }

    mutating func apply(_ host: HostID, _ runs: [RequestRun], returning: Bool) {
        for item in runs.flatMap(members(of:)) {
            switch states[item] {
            case .sent(host, let attempt): states[item] = returning ? .queued(attempt: attempt) : .ended
            case .revoked(host): states[item] = .ended
            default: break
            }
        }
    }

    mutating func revoke() {
        let run = randomRun()
        var expected: Set<Item> = []
        for item in members(of: run) {
            switch states[item] {
            case .queued: states[item] = .ended
            case .sent(let host, _):
                states[item] = .revoked(host)
                expected.insert(item)
            default: break
            }
        }
        for directive in handle(.revoke(run)) {
            guard case .revoke(let host, let part) = directive else { continue }
            for item in members(of: part) {
                expect(expected.remove(item) != nil && states[item] == .revoked(host), "revoked \(item) at \(host)")
            }
        }
        expect(expected.isEmpty, "not revoked: \(expected)")
    }

    mutating func hostUp() {
        guard hosts.count < 6 else { return }
        let host = HostID(rawValue: nextHost)
        nextHost += 1
        hosts[host] = (1 + random.below(40), 8 + random.below(400))
        guard let credit = hosts[host] else { return }
        handle(.hostUp(host, isLocal: random.chance(40), creditItems: credit.items, creditBytes: credit.bytes))
    }

    mutating func hostDown() {
        guard let host = randomHost() else { return }
        hosts[host] = nil
        var given: Set<Item> = []
        for (item, state) in states {
            switch state {
            case .sent(host, let attempt):
                states[item] = attempt >= Limits().attempts ? .ended : .queued(attempt: attempt + 1)
                if attempt >= Limits().attempts { given.insert(item) }
            case .revoked(host): states[item] = .ended
            default: break
            }
        }
        for directive in handle(.hostDown(host)) {
            guard case .giveUp(_, let session, let run) = directive else { continue }
            for sequence in run.sequences.first..<run.sequences.end {
                let item = Item(session: session.rawValue, sequence: sequence)
                expect(given.remove(item) != nil, "\(item) given up too early or twice")
            }
        }
        expect(given.isEmpty, "not given up: \(given)")
    }

    @discardableResult
    mutating func handle(_ event: DispatcherEvent) -> [DispatcherDirective] {
        var out: [DispatcherDirective] = []
        dispatcher.step(event, now: now, out: &out)
        var receivers: Set<HostID> = []
        for directive in out {
            guard case .send(let host, let runs) = directive else { continue }
            expect(receivers.insert(host).inserted, "two frames to \(host) in one tick")
            expect(hosts[host] != nil, "sent to \(host), which is gone")
            for run in runs {
                for (index, item) in members(of: run.requests).enumerated() {
                    expect(number(run.items, index) == item.sequence, "\(item) has another's payload")
                    expect(
                        states[item] == .queued(attempt: run.attempt),
                        "\(item) sent, was \(String(describing: states[item]))")
                    states[item] = .sent(host, attempt: run.attempt)
                }
            }
        }
        return out
    }

    /// The dispatcher's figures are what the items' places say; credits are never negative.
    func check(_ context: String) {
        var queued = 0
        var out: [HostID: Int] = [:]
        for state in states.values {
            switch state {
            case .queued: queued += 1
            case .sent(let host, _), .revoked(let host): out[host, default: 0] += 1
            case .ended: break
            }
        }
        expect(dispatcher.queuedItems == queued, "\(context): \(dispatcher.queuedItems) queued, expected \(queued)")
        let sent = out.values.reduce(0, +)
        expect(dispatcher.sentItems == sent, "\(context): \(dispatcher.sentItems) out, expected \(sent)")
        for (host, credit) in hosts {
            let free = dispatcher.credit(of: host) ?? (-1, -1)
            let held = out[host, default: 0]
            expect(free.items == credit.items - held, "\(context): \(host) has \(free) of \(credit), holds \(held)")
            expect(free.bytes >= 0 && free.bytes == max(credit.bytes - held * 8, 0), "\(context): \(host) \(free)")
        }
    }

    /// Hosts answer all that they have until nothing is left.
    mutating func drain() {
        if hosts.isEmpty { hostUp() }
        for _ in 0..<10_000 where states.values.contains(where: { $0 != .ended }) {
            handle(.tick)
            for host in hosts.keys.sorted() {
                for (session, end) in next.sorted(by: { $0.key < $1.key }) {
                    let all = requests(session, sequences(0, Int(end)))
                    apply(host, [all], returning: false)
                    handle(.finished(host, runs: [all]))
                }
            }
        }
    }
}
