// Flockwork · Apache-2.0 · see LICENSE

import FlockWire
import Testing

@testable import FlockCluster

@Suite("executions that gave no outcome")
struct FailedRunTests {
    private static let near = HostID(rawValue: 1)

    private static func step(_ dispatcher: inout Dispatcher, _ events: [DispatcherEvent]) -> [DispatcherDirective] {
        var out: [DispatcherDirective] = []
        for event in events { dispatcher.step(event, now: .zero, out: &out) }
        return out
    }

    /// With sequences 0 to 9 out at the host, as that attempt.
    private static func busy(attempt: Int) -> Dispatcher {
        var dispatcher = Dispatcher(seed: 1, limits: Limits())
        var run = DispatcherClusterTests.run(0, 10)
        run.attempt = attempt
        _ = step(
            &dispatcher, [.hostUp(near, isLocal: true, creditItems: 20, creditBytes: 1 << 20), .enqueue(run), .tick])
        return dispatcher
    }

    @Test("what a host has of a counted attempt is let go, and what it has of a later one stays")
    func counted() {
        let part = DispatcherClusterTests.run(4, 2).requests
        for (attempt, isGone) in [(1, true), (2, true), (3, false)] {
            var dispatcher = Self.busy(attempt: attempt)
            #expect(Self.step(&dispatcher, [.counted(Self.near, runs: [part], attempt: 2), .tick]).isEmpty)
            #expect(dispatcher.sentItems == (isGone ? 8 : 10) && dispatcher.queuedItems == 0)
            #expect(dispatcher.credit(of: Self.near)?.items == (isGone ? 12 : 10))
            let all = DispatcherClusterTests.run(0, 12).requests
            #expect(
                dispatcher.missing(of: all) == (isGone ? [sequences(4, 2), sequences(10, 2)] : [sequences(10, 2)]))
        }
    }

    @Test("deaths and failures of the parts of an entry are counted apart")
    func parts() {
        var entry = SessionEntry(
            sequences: sequences(10, 8), deadline: .never, trace: nil, timeToLive: 1, body: .open(items(8, from: 10)))
        entry.died(sequences(10, 4), 1)
        entry.failed(sequences(12, 4), 2)
        entry.failed(sequences(12, 1), 1)
        let parted = entry.parted(sequences(11, 7))
        #expect(
            parted.map(\.sequences) == [sequences(11, 1), sequences(12, 1), sequences(13, 1), sequences(14, 2)]
                + [sequences(16, 2)])
        #expect(parted.map(\.deaths) == [1, 1, 1, 0, 0])
        #expect(parted.map(\.failures) == [0, 2, 2, 2, 0])
    }

    @Test("they are in the log before a part goes out again, and a new primary goes on from their number")
    func logged() {
        var group = ReplicaGroup()
        group.seat(primary: 1, inSync: [1, 2, 3], minimum: 2)
        group.deliver()
        let session = group.open(1)
        _ = group.submit(1, session, 0, 4)
        group.deliver()
        let failed = PartitionEvent.failed(session: session, sequences: sequences(1, 2), attempts: 2)
        #expect(texts(group.step(1, failed)) == [])
        #expect(group.deliver()[member(1)].map(texts) == ["attempted 1+2 2"])
        group.seat(primary: 2, inSync: [1, 2, 3])
        group.deliver()
        let open = group[2].openRuns()
        #expect(open.map(\.requests.sequences) == [sequences(0, 1), sequences(1, 2), sequences(3, 1)])
        #expect(open.map(\.attempt) == [1, 3, 1] && open.map(\.deaths) == [0, 0, 0])
    }

    @Test("a request is executed as often as may be, and then it is poison; its neighbour is not")
    func poison() throws {
        var node = ClusterNodeTests.node(ClusterNodeTests.configuration(partitions: 1))
        _ = ClusterNodeTests.run(&node)
        let secret = SessionSecret(1, 2)
        var out = Self.call(&node, .open(PartitionID(0), pipeline: 0, secret, window: 16))
        guard case .answer(_, _, .opened(let session))? = out.first else { return #expect(Bool(false), "\(out)") }
        _ = Self.call(&node, .attach(PartitionID(0), session, secret))
        out = Self.call(
            &node, .submit(PartitionID(0), session, secret, AcceptRun(sequences: sequences(0, 2), items: items(2))))
        let outcome = OutcomeRun(sequences: sequences(1, 1), outcome: .filtered)
        var attempts: [Int] = []
        while let (job, run) = Self.execution(out) {
            attempts.append(run.attempt)
            let isFirst = run.requests.count == 2
            let done = isFirst ? [outcome] : []
            out = Self.step(&node, .executed(job: job, outcomes: done, failed: [sequences(0, 1)], returned: []))
        }
        #expect(attempts == [1, 2, 3])
        let texts = out.compactMap { directive -> String? in
            guard case .push(_, _, _, let runs) = directive else { return nil }
            return runs.map { "\($0.sequences) \($0.outcome.text)" }.joined()
        }
        #expect(texts == ["0+1 poison"])
        #expect(node.jobs.jobs.isEmpty && !node.jobs.isEmpty, "nobody has said yet that the log counted it")
        _ = Self.step(&node, .tick, after: .milliseconds(600))
        #expect(node.jobs.isEmpty)
    }

    @Test("who had a run tells the primary of the day that it failed, and again until it is recorded")
    func told() throws {
        var node = ClusterNodeTests.node(ClusterNodeTests.configuration(partitions: 1, isBootstrap: false))
        var view = ControlState.sample(members: 3, voters: 3, partitions: 1)
        view.members.append(Candidate(node: "a", incarnation: 9).admitted(as: MemberNumber(rawValue: 4)))
        view.nextMember = 5
        let (first, second) = (view.members[0], view.members[1])
        view.partitions[0].primary = first.number
        _ = Self.step(&node, .message(from: "v", .control(.view(view))))
        var run = DispatcherClusterTests.run(0, 3, partition: 0)
        run.attempt = 2
        let frame = WorkFrame(
            from: first.number, to: MemberNumber(rawValue: 4), first: 1, expected: 1,
            messages: [.runs(lane: 0, [AssignedRun(epoch: view.partitions[0].epoch, run: run)])])
        let (job, _) = try #require(Self.execution(Self.step(&node, .message(from: first.node, .work(frame)))))
        view.version += 1
        view.partitions[0].epoch += 1
        view.partitions[0].primary = second.number
        _ = Self.step(&node, .message(from: "v", .control(.view(view))))
        var out = Self.step(&node, .executed(job: job, outcomes: [], failed: [sequences(1, 2)], returned: []))
        #expect(Self.failures(out) == ["\(second.number) 1+2 as 2"])
        out = Self.step(&node, .tick, after: .milliseconds(600))
        #expect(Self.failures(out).last == "\(second.number) 1+2 as 2", "\(out)")
        let answer = WorkFrame(
            from: second.number, to: MemberNumber(rawValue: 4), first: 1, expected: 3,
            messages: [.recorded(job: try #require(node.jobs.parts.first).number)])
        _ = Self.step(&node, .message(from: second.node, .work(answer)))
        #expect(node.jobs.parts.isEmpty)
    }

    private static func call(_ node: inout ClusterNode, _ call: ClientCall) -> [NodeDirective] {
        step(&node, .call(connection: 1, number: 1, call))
    }

    private static func step(
        _ node: inout ClusterNode, _ event: NodeEvent, after time: Duration = .zero
    ) -> [NodeDirective] {
        var out: [NodeDirective] = []
        node.step(event, now: node.now + time, out: &out)
        return out
    }

    private static func execution(_ out: [NodeDirective]) -> (UInt64, OpenRun)? {
        for case .execute(let job, _, let run) in out { return (job, run) }
        return nil
    }

    /// What work frames say of failures, and to whom.
    private static func failures(_ out: [NodeDirective]) -> [String] {
        out.flatMap { directive -> [String] in
            guard case .send(_, .work(let frame)) = directive else { return [] }
            return frame.messages.compactMap { message in
                guard case .done(_, _, _, _, _, let failed) = message else { return nil }
                return "\(frame.to) " + failed.sequences.map { "\($0)" }.joined() + " as \(failed.attempt)"
            }
        }
    }
}
