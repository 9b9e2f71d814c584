// Flockwork · Apache-2.0 · see LICENSE

import FlockWire

@testable import FlockCluster

/// What nodes say to each other, as a first input: one of each kind.
enum NodeMessageSeeds {
    private static let member = MemberNumber(rawValue: 3)
    private static let session = SessionID(generation: 1, counter: 2)
    private static let run = SequenceRun(first: 4, count: 2)
    private static let items = ItemBuffer(Rows<Int64>([1, 2], width: 1))

    static var all: [NodeMessage] {
        [.control(.probe(sequence: 1, to: member, version: 7, suspects: [member])), .control(.pull(have: 3))]
            + replication.map { .replication(from: member, to: member, PartitionID(5), $0) }
            + work.map { .work(WorkFrame(from: member, to: member, first: 1, expected: 1, messages: [$0])) }
    }

    private static var replication: [ReplicationMessage] {
        let error = FlockError(.stageFailed, "no", stage: "s")
        let values = OutcomeRun(sequences: run, outcome: .values(items, filtered: nil))
        let operations: [PartitionOperation] = [
            .epoch(2), .openSession(session, pipeline: 1, secret: SessionSecret(1, 2), window: 64),
            .accept(session, AcceptRun(sequences: run, items: items, deadline: .seconds(1)), timeToLive: 9),
            .completed(session, values), .completed(session, OutcomeRun(sequences: run, outcome: .failed(error))),
            .failed(session, run, attempts: 1), .acked(session, [run], lowestOpen: 6), .expired(session, run),
            .closeSession(session),
        ]
        let entries = operations.enumerated().map {
            LogEntry(epoch: 2, index: UInt64($0) + 1, time: .zero, operation: $1)
        }
        let held = Held(outcome: values.outcome, bytes: 8, expires: .never)
        let bodies: [SessionEntry.Body] = [
            .open(items), .done(held), .freed,
            .split(
                .init(items: items, open: 1, pieces: [Piece(sequences: SequenceRun(first: 10, count: 1), held: nil)])),
        ]
        let runs = bodies.enumerated().map { place, body in
            SessionEntry(
                sequences: SequenceRun(first: 4 + 2 * UInt64(place), count: 2), deadline: .never, trace: nil,
                timeToLive: 1, body: body)
        }
        let snapshot = SessionSnapshot(
            id: session, pipeline: 1, secret: SessionSecret(1, 2), window: 64, base: 4, next: 12, entries: runs)
        return [
            .append(
                ReplicationAppend(
                    epoch: 2, previousIndex: 0, previousEpoch: 0, commit: 1, held: 1, entries: entries)),
            .appended(epoch: 2, through: 3, committed: 1), .mismatch(epoch: 2, committed: 1, last: 2, lastEpoch: 1),
            .snapshot(
                SnapshotPart(
                    epoch: 2, index: 9, entryEpoch: 1, time: .zero, hash: 1, nextSession: 3, number: 0, count: 1,
                    sessions: [snapshot])),
            .received(epoch: 2, index: 9, parts: 1), .stale(epoch: 3),
        ]
    }

    private static var work: [WorkMessage] {
        let requests = RequestRun(partition: PartitionID(5), session: session, sequences: run)
        let open = OpenRun(requests: requests, pipeline: 1, items: items, deadline: Tick(nanoseconds: 9))
        return [
            .runs(lane: 1, [AssignedRun(epoch: 2, run: open)]), .revoke(lane: 1, requests),
            .done(
                job: 7, lane: 1, PartitionID(5), session, [OutcomeRun(sequences: run, outcome: .filtered)],
                FailedRuns([SequenceRun(first: 90, count: 2)], attempt: 2)),
            .recorded(job: 7), .returned(lane: 1, [requests]),
            .holding(PartitionID(5), epoch: 2),
            .held(PartitionID(5), epoch: 2, [LaneRun(lane: 1, requests: requests, attempt: 1)]),
        ]
    }
}
