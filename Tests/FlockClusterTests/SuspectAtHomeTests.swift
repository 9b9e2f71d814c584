// Flockwork · Apache-2.0 · see LICENSE

import FlockWire
import Testing

@testable import FlockCluster

@Suite("Suspect runs that nobody else can execute than their primary")
struct SuspectAtHomeTests {
    private static let partition = PartitionID(0)
    private static let secret = SessionSecret(1, 2)
    private var node = ClusterNodeTests.node(ClusterNodeTests.configuration(partitions: 1))
    private let session: SessionID
    private var host: HostID { HostID(rawValue: UInt64(node.member?.rawValue ?? 0)) }

    init() throws {
        _ = ClusterNodeTests.run(&node)
        var out: [NodeDirective] = []
        node.step(
            .call(connection: 1, number: 1, .open(Self.partition, pipeline: 0, Self.secret, window: 16)), now: node.now,
            out: &out)
        guard case .answer(_, _, .opened(let session))? = out.first else { throw FlockError(.unavailable, "not open") }
        self.session = session
    }

    private mutating func step(_ event: NodeEvent, after time: Duration = .zero) -> [NodeDirective] {
        var out: [NodeDirective] = []
        node.step(event, now: node.now + time, out: &out)
        return out
    }

    private func requests(_ run: SequenceRun) -> RequestRun {
        RequestRun(partition: Self.partition, session: session, sequences: run)
    }

    /// Submits, and makes of it what a primary finds that takes over from so many dead ones.
    private mutating func inherit(_ run: SequenceRun, deaths: Int) -> [NodeDirective] {
        var out: [NodeDirective] = []
        node.stepDispatcher(0, .hostClosing(host), out: &out)
        let accept = AcceptRun(sequences: run, items: items(run.count))
        _ = step(.call(connection: 1, number: 2, .submit(Self.partition, session, Self.secret, accept)))
        node.stepDispatcher(0, .forget(Self.partition), out: &out)
        node.stepReplica(Self.partition, .attempted(session: session, sequences: run, attempts: deaths), out: &out)
        let limits = Limits()
        node.stepDispatcher(
            0, .hostUp(host, isLocal: true, creditItems: limits.creditItems, creditBytes: limits.creditBytes), out: &out
        )
        node.dispatcherIsDue = true
        return step(.tick)
    }

    private static func executions(_ out: [NodeDirective]) -> [(job: UInt64, run: OpenRun)] {
        out.compactMap { if case .execute(let job, _, let run) = $0 { (job, run) } else { nil } }
    }

    @Test("it is counted before it begins, of each request alone, and is poison in the end")
    mutating func counted() throws {
        var out = inherit(sequences(0, 4), deaths: 2)
        var executed: [UInt64] = []
        for _ in 0..<20 where node.replicas[0]?.openItems != 0 {
            if let (job, run) = Self.executions(out).first {
                #expect(run.requests.count == 1 && run.deaths == 3)
                let logged = node.replicas[0]?.openRuns(of: run.requests).map(\.deaths)
                #expect(logged == [3], "it is counted already")
                executed.append(run.requests.sequences.first)
                let outcome = OutcomeRun(sequences: run.requests.sequences, outcome: .filtered)
                out = step(.executed(job: job, outcomes: [outcome], failed: [], returned: []))
            } else {
                out = step(.tick, after: .milliseconds(20))
            }
        }
        #expect(executed.sorted() == [0, 1, 2, 3])
        out = inherit(sequences(4, 1), deaths: 4)
        #expect(Self.executions(out).isEmpty)
        #expect(node.replicas[0]?.openItems == 0 && node.charges.isEmpty, "it has an outcome")
    }

    @Test("what has an outcome by its turn is let go, and the next one begins at once")
    mutating func stale() throws {
        let first = try #require(Self.executions(inherit(sequences(0, 1), deaths: 2)).first)
        // Two wait behind it. One of them gets an outcome from elsewhere.
        var out = inherit(sequences(1, 2), deaths: 0)
        for sequence in [1, 2] as [UInt64] {
            node.stepReplica(
                Self.partition, .attempted(session: session, sequences: sequences(sequence, 1), attempts: 2), out: &out)
        }
        let elsewhere = OutcomeRun(sequences: sequences(1, 1), outcome: .filtered)
        node.stepReplica(Self.partition, .completed(session: session, runs: [elsewhere]), out: &out)
        let outcome = OutcomeRun(sequences: first.run.requests.sequences, outcome: .filtered)
        out = step(.executed(job: first.job, outcomes: [outcome], failed: [], returned: []))
        for _ in 0..<4 where Self.executions(out).isEmpty { out = step(.tick, after: .milliseconds(10)) }
        #expect(Self.executions(out).map(\.run.requests) == [requests(sequences(2, 1))])
    }

    @Test("after one that is given up the next begins, though nothing else happens")
    mutating func goesOn() throws {
        let first = try #require(Self.executions(inherit(sequences(0, 1), deaths: 2)).first)
        var out = inherit(sequences(1, 2), deaths: 0)
        for (sequence, deaths) in [(1, 4), (2, 2)] as [(UInt64, Int)] {
            let run = sequences(sequence, 1)
            node.stepReplica(
                Self.partition, .attempted(session: session, sequences: run, attempts: deaths), out: &out)
        }
        let outcome = OutcomeRun(sequences: first.run.requests.sequences, outcome: .filtered)
        out = step(.executed(job: first.job, outcomes: [outcome], failed: [], returned: []))
        for _ in 0..<4 where Self.executions(out).isEmpty {
            #expect(node.nextDeadline <= node.now + Dispatcher.suspectPause)
            out = step(.tick, after: Dispatcher.suspectPause)
        }
        #expect(Self.executions(out).map(\.run.requests) == [requests(sequences(2, 1))])
        #expect(node.replicas[0]?.openItems == 1, "the other has its outcome")
    }

    @Test("who was turned away has a turn before the next one here begins")
    mutating func turns() {
        node.hasTurnedAway = true
        #expect(Self.executions(inherit(sequences(0, 1), deaths: 2)).isEmpty)
        #expect(node.nextDeadline <= node.now + Dispatcher.suspectPause)
        let out = step(.tick, after: Dispatcher.suspectPause)
        #expect(Self.executions(out).map(\.run.requests) == [requests(sequences(0, 1))])
    }
}
