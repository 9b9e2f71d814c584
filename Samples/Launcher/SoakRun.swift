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
    /// From one kill to the next, at least.
    private static let distance: UInt64 = 2_000_000_000
    /// After each fifth kill nothing is done for so long, so that the fourth second after it can be looked at.
    private static let rest: UInt64 = 4_100_000_000

    /// Calls back after each kill, so that what was measured is there also when a later one fails.
    func play(_ onKill: (KillTimes) -> Void) async throws {
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
            onKill(times)
            if number == max(1, kills / 3) { joined = try await join() }
            if number >= max(2, kills * 2 / 3), let id = joined {
                try await leave(id)
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

    private func join() async throws -> String {
        let start = DemoRun.now()
        let known = Set(flock.nodes.map(\.id))
        try await flock.join(port: try Ports.free(1)[0], host: "127.0.0.1", settings: settings) { show($0, $1) }
        try await waitUntilWhole()
        let id = flock.nodes.map(\.id).first { !known.contains($0) } ?? "-"
        terminal.line("  \(id) joined: has its share after \(Text.time(nanoseconds: DemoRun.now() - start))")
        return id
    }

    private func leave(_ id: String) async throws {
        guard let node = flock.nodes.first(where: { $0.id == id }) else { return }
        let start = DemoRun.now()
        let status = await flock.leave(node)
        guard status == 0 else {
            throw FlockError(.system, "\(id) ended with status \(status) when it was asked to leave")
        }
        let left = DemoRun.now() - start
        try await waitUntilWhole()
        terminal.line("  \(id) left: ended with 0 after \(Text.time(nanoseconds: left))")
    }

    private func show(_ node: String, _ line: String) {
        if !line.hasPrefix(ReadyLine.prefix) { terminal.line("  \(node) | \(line)") }
    }

    private func pause(until time: UInt64) async throws {
        let now = DemoRun.now()
        if time > now { try await Task.sleep(for: .nanoseconds(Int64(time - now))) }
    }
}
