// Flockwork · Apache-2.0 · see LICENSE

// Kills, one after the other, while requests go on. What is waited for is what a client of the cluster sees.

import Flockwork
import Foundation

/// What one kill did; times in nanoseconds.
struct KillTimes: Sendable {
    var node: String
    /// When it was killed.
    var at: UInt64
    /// To a view in which it leads nothing.
    var detected: UInt64
    /// To a view in which it is no member.
    var removed: UInt64
    /// The longest time without `accepted` in a session whose partition the victim led; nil if there was none.
    var gap: UInt64?
    /// To as many copies of everything as wanted, the node that was started again among their holders.
    var whole: UInt64
    /// Completions ÷ offered in the worst second until the next kill; nil where that is less than a second.
    var worstSecond: Double?
    /// Nothing else happened for four seconds after it.
    var isFollowedByRest: Bool
}

/// What a node that joined or left did; times in nanoseconds.
struct MoveTimes: Sendable {
    enum Kind: Sendable { case join, leave }
    var kind: Kind
    var node: String
    /// Of a join: to its share of everything. Of a leave: to the end of its process.
    var time: UInt64
    /// What the sink saw meanwhile, and in the second before.
    var during: SinkWindow
    var before: SinkWindow

    /// By how much the longest time without a result exceeds that of the second before.
    var pause: UInt64 { during.pause > before.pause ? during.pause - before.pause : 0 }
    /// The 99th percentile of the latency, in multiples of that of the second before.
    var slowdown: Double {
        Double(during.latencies.percentile(99)) / max(1, Double(before.latencies.percentile(99)))
    }
}

/// What happened in a soak.
enum SoakEvent: Sendable {
    case killed(KillTimes)
    case moved(MoveTimes)

    var kill: KillTimes? { if case .killed(let times) = self { times } else { nil } }
    var move: MoveTimes? { if case .moved(let times) = self { times } else { nil } }
}

/// Numbers from a seed (SplitMix64).
struct SeededNumbers: RandomNumberGenerator {
    private var state: UInt64
    init(seed: UInt64) { state = seed }

    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var word = state
        word = (word ^ word >> 30) &* 0xBF58_476D_1CE4_E5B9
        word = (word ^ word >> 27) &* 0x94D0_49BB_1331_11EB
        return word ^ word >> 31
    }
}

/// Drives the kills.
struct SoakRun: Sendable {
    let client: Client
    let flock: LocalFlock
    let run: DemoRun
    let settings: Settings
    let terminal: Terminal
    let kills: Int
    let seed: UInt64
    /// No kill begins after it.
    let end: ContinuousClock.Instant

    private var views: ViewWatch { ViewWatch(client: client) }
    private static let second: UInt64 = 1_000_000_000
    /// From one kill to the next, at least.
    private static let distance: UInt64 = 2_000_000_000
    /// After each fifth kill nothing is done for so long, so that the fourth second after it can be looked at.
    private static let rest: UInt64 = 4_100_000_000

    /// Calls back after each kill, join and leave, so that what was measured is there also when a later one fails.
    func play(_ onEvent: (SoakEvent) -> Void) async throws {
        var random = SeededNumbers(seed: seed)
        var joined: String?
        for number in 1...kills {
            guard ContinuousClock.now < end else {
                throw FlockError(.deadlineExceeded, "the time was over after \(number - 1) kills")
            }
            let nodes = flock.nodes.sorted { $0.id < $1.id }
            let isRested = number == kills || number % 5 == 1
            let times = try await kill(nodes[Int.random(in: nodes.indices, using: &random)], isRested: isRested)
            terminal.line(
                "  kill \(number)/\(kills) \(times.node) · noticed after \(Text.time(nanoseconds: times.detected))"
                    + " · no member after \(Text.time(nanoseconds: times.removed))"
                    + " · gap \(times.gap.map { Text.time(nanoseconds: $0) } ?? "-")"
                    + " · whole after \(Text.time(nanoseconds: times.whole))"
                    + " · worst second \(times.worstSecond.map { "\(Int($0 * 100)) %" } ?? "-")")
            onEvent(.killed(times))
            if number == max(1, kills / 3) {
                let times = try await join()
                onEvent(.moved(times))
                joined = times.node
            }
            if number >= max(2, kills * 2 / 3), let id = joined {
                if let times = try await leave(id) { onEvent(.moved(times)) }
                joined = nil
            }
        }
    }

    /// All nodes have their share, and everything has its copies.
    func waitUntilWhole() async throws {
        let names = flock.nodes.map(\.id)
        try await views.wait("all copies are made") { $0.isWhole(members: names) }
    }

    private func kill(_ victim: ChildNode, isRested: Bool) async throws -> KillTimes {
        let before = try await views.wait("a view") { _ in true }
        guard let process = before.members.first(where: { $0.node.rawValue == victim.id })?.number else {
            throw FlockError(.system, "\(victim.id) is no member before it is killed")
        }
        let led = before.partitions.indices.filter { before.partitions[$0].primary?.rawValue == victim.id }
        let start = DemoRun.now()
        run.watchAcceptance(of: Set(led.map { PartitionID($0) }), from: start)
        flock.kill(victim)
        try await views.wait("the kill of \(victim.id) is noticed") {
            !$0.partitions.contains { $0.primary?.rawValue == victim.id }
        }
        let detected = DemoRun.now() - start
        try await views.wait("\(victim.id) is out of the view") { !$0.members.contains { $0.number == process } }
        let removed = DemoRun.now() - start
        guard await first(within: views.patience, { await victim.ended.value() }) != nil else {
            throw FlockError(.system, "\(victim.id) was killed and did not end")
        }
        try await flock.restart(victim) { show($0, $1) }
        try await waitUntilWhole()
        let whole = DemoRun.now() - start
        let gap = run.openLoop?.longestGap(at: DemoRun.now())
        try await pause(until: start + (isRested ? Self.rest : Self.distance))
        let worst = run.openLoop?.worstSecond(from: start, to: DemoRun.now())
        return KillTimes(
            node: victim.id, at: start, detected: detected, removed: removed, gap: gap, whole: whole,
            worstSecond: worst, isFollowedByRest: isRested)
    }

    private func join() async throws -> MoveTimes {
        let known = Set(flock.nodes.map(\.id))
        let before = try await run.window(atLeast: Self.second) {}
        let start = DemoRun.now()
        var whole = start
        let during = try await run.window(atLeast: Self.second) {
            try await flock.join(port: try Ports.free(1)[0], host: "127.0.0.1", settings: settings) { show($0, $1) }
            try await waitUntilWhole()
            whole = DemoRun.now()
        }
        let id = flock.nodes.map(\.id).first { !known.contains($0) } ?? "-"
        return tell(
            MoveTimes(kind: .join, node: id, time: whole - start, during: during, before: before),
            "joined: has its share after")
    }

    private func leave(_ id: String) async throws -> MoveTimes? {
        guard let node = flock.nodes.first(where: { $0.id == id }) else { return nil }
        let before = try await run.window(atLeast: Self.second) {}
        let start = DemoRun.now()
        var left = start
        let during = try await run.window(atLeast: Self.second) {
            let status = await flock.leave(node)
            guard status == 0 else {
                throw FlockError(.system, "\(id) ended with status \(status) when it was asked to leave")
            }
            left = DemoRun.now()
            try await waitUntilWhole()
        }
        return tell(
            MoveTimes(kind: .leave, node: id, time: left - start, during: during, before: before),
            "left: ended with 0 after")
    }

    private func tell(_ times: MoveTimes, _ what: String) -> MoveTimes {
        terminal.line(
            "  \(times.node) \(what) \(Text.time(nanoseconds: times.time))"
                + " · pause \(Text.time(nanoseconds: times.pause))"
                + " · p99 \(String(format: "%.1f", times.slowdown)) times that of the second before")
        return times
    }

    private func show(_ node: String, _ line: String) {
        if !line.hasPrefix(ReadyLine.prefix) { terminal.line("  \(node) | \(line)") }
    }

    private func pause(until time: UInt64) async throws {
        let now = DemoRun.now()
        if time > now { try await Task.sleep(for: .nanoseconds(Int64(time - now))) }
    }
}
