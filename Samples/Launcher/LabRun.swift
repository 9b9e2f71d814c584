// Flockwork · Apache-2.0 · see LICENSE

// What goes wrong with hosts, one after the other, while requests go on. `scripts/lab` made the hosts and carries out
// the faults; what they do is seen from beside the bridge, as clients see it.

import Flockwork
import Foundation
import Synchronization

/// What goes wrong with a host.
enum LabFault: String, CaseIterable, Sendable {
    case pull, cut, deaf, mute, loss, reset

    var title: String {
        switch self {
        case .pull: "cable pulled"
        case .cut: "dropped both ways"
        case .deaf: "dropped on the way in"
        case .mute: "dropped on the way out"
        case .loss: "10 % lost both ways"
        case .reset: "connections reset"
        }
    }

    /// Others are to lead what the host led.
    var cutsOff: Bool { self != .loss }
}

/// What one fault did; times in nanoseconds.
struct FaultTimes: Sendable {
    var fault: LabFault
    var node: String
    /// To a view in which the node leads nothing; nil if there was none while it lasted.
    var detected: UInt64?
    /// The longest time without `accepted` in a session whose partition the node led, until the fault ended.
    var served: UInt64?
    /// The same, from then until everything was as before.
    var healed: UInt64?
    /// From the end of the fault to as many copies of everything as wanted, the node among their holders.
    var whole: UInt64
    /// Of what was posted before the fault ended.
    var lost: Int
    var doubled: Int

    static let mostDetected: UInt64 = 1_000_000_000
    static let mostServed: UInt64 = 1_500_000_000

    var isInTime: Bool {
        guard fault.cutsOff else { return true }
        return (detected ?? .max) <= Self.mostDetected && (served ?? 0) <= Self.mostServed
    }
}

/// Drives the faults.
struct LabRun: Sendable {
    let views: ViewWatch
    let flock: LocalFlock
    let run: DemoRun
    let terminal: Terminal
    let script: String
    /// How long a fault lasts.
    let hold: Duration

    /// Time for what was accepted during a fault to get its outcomes, after it.
    private static let patience = Duration.seconds(20)

    /// Calls back after each fault, so that what was measured is there also when a later one fails.
    func play(_ faults: [LabFault], rounds: Int, _ onFault: (FaultTimes) -> Void) async throws {
        for round in 0..<rounds {
            for (place, fault) in faults.enumerated() {
                // The first name dials all others, the last one nobody: each fault meets each in turn.
                let node = flock.nodes[(place + round + flock.nodes.count - 1) % flock.nodes.count]
                try await waitUntilWhole()
                let times = try await play(fault, on: node)
                terminal.line(text(of: times))
                onFault(times)
            }
        }
    }

    /// All copies are there, and each node leads a good part of its share.
    func waitUntilWhole() async throws {
        let names = flock.nodes.map(\.id)
        try await views.wait("all copies are made") { view in
            var led: [NodeID: Int] = [:]
            for case let primary? in view.partitions.map(\.primary) { led[primary, default: 0] += 1 }
            let share = view.partitions.count / (2 * names.count)
            return view.isWhole(members: names) && led.values.allSatisfy { $0 >= share }
        }
    }

    private func play(_ fault: LabFault, on node: ChildNode) async throws -> FaultTimes {
        guard let before = await views.newest() else { throw FlockError(.unavailable, "no node shows a view") }
        let led = before.partitions.indices.filter { before.partitions[$0].primary?.rawValue == node.id }
        let doubled = run.doubled
        let host = "host-\(node.id.dropFirst("node-".count))"
        let start = DemoRun.now()
        run.watchAcceptance(of: Set(led.map { PartitionID($0) }), from: start)
        try await change("fault", host, fault.rawValue)
        let detected = try await detection(of: node, until: .now + hold, since: start)
        if detected == nil, fault.cutsOff { throw FlockError(.deadlineExceeded, "\(node.id) leads on: \(fault.title)") }
        let end = start + UInt64(hold / .nanoseconds(1))
        let now = DemoRun.now()
        if end > now { try await Task.sleep(for: .nanoseconds(Int64(end - now))) }
        let served = run.openLoop?.longestGap(at: DemoRun.now())
        let posted = run.claimed
        try await change("heal", host)
        let healing = DemoRun.now()
        run.watchAcceptance(of: Set(before.partitions.indices.map { PartitionID($0) }), from: healing)
        try await waitUntilWhole()
        let whole = DemoRun.now() - healing
        let healed = run.openLoop?.longestGap(at: DemoRun.now())
        return FaultTimes(
            fault: fault, node: node.id, detected: detected, served: served, healed: healed, whole: whole,
            lost: try await lost(below: posted), doubled: run.doubled - doubled)
    }

    /// Nil if it leads on until then.
    private func detection(
        of node: ChildNode, until end: ContinuousClock.Instant, since start: UInt64
    ) async throws -> UInt64? {
        while ContinuousClock.now < end {
            if let view = await views.newest(), !view.partitions.contains(where: { $0.primary?.rawValue == node.id }) {
                return DemoRun.now() - start
            }
            try await Task.sleep(for: .milliseconds(5))
        }
        return nil
    }

    /// Waits for the outcomes of all requests below a number; returns how many have none.
    private func lost(below posted: Int) async throws -> Int {
        let end = ContinuousClock.now + Self.patience
        var lost = run.lost(below: posted)
        while lost > 0, ContinuousClock.now < end {
            try await Task.sleep(for: .milliseconds(20))
            lost = run.lost(below: posted)
        }
        return lost
    }

    /// Lets the script do something to a host.
    private func change(_ arguments: String...) async throws {
        let process = Process()
        process.executableURL = URL(fileURLWithPath: script)
        process.arguments = arguments
        let ended = OneShot<Int32>()
        process.terminationHandler = { ended.set($0.terminationStatus) }
        try process.run()
        guard await ended.value() == 0 else {
            throw FlockError(.system, "\(script) \(arguments.joined(separator: " ")) failed")
        }
    }

    private func text(of times: FaultTimes) -> String {
        func time(_ nanoseconds: UInt64?) -> String { nanoseconds.map { Text.time(nanoseconds: $0) } ?? "-" }
        let fields = [
            Text.padded(times.fault.title, to: 24) + times.node, "detect \(time(times.detected))",
            "serve \(time(times.served))", "after it: gap \(time(times.healed)), whole \(time(times.whole))",
            "lost \(times.lost)", "doubled \(times.doubled)",
        ]
        let text = "  " + fields.joined(separator: " · ")
        let isRight = times.isInTime && times.lost == 0 && times.doubled == 0
        return isRight ? text : terminal.styled(text + " ✘", .red)
    }
}

extension DemoRun {
    /// Requests that a task has begun to post.
    var claimed: Int { state.withLock { $0.nextRequest } }
    var doubled: Int { state.withLock { $0.checker.doubled } }
    /// Accepted without an outcome.
    func lost(below request: Int) -> Int { state.withLock { $0.checker.lost(below: request) } }
}
