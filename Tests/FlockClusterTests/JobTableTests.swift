// Flockwork · Apache-2.0 · see LICENSE

import FlockWire
import Testing

@testable import FlockCluster

@Suite("Jobs of a node's stages")
struct JobTableTests {
    private let primary = MemberNumber(rawValue: 1)
    private let requests = RequestRun(
        partition: PartitionID(3), session: SessionID(rawValue: 7), sequences: SequenceRun(first: 10, count: 6))

    private func outcomes(_ first: UInt64, _ count: Int) -> [OutcomeRun] {
        [OutcomeRun(sequences: SequenceRun(first: first, count: count), outcome: .filtered)]
    }

    @Test("a job ends when the last of its sequences was handed over, in whatever order the parts came")
    func parts() throws {
        var table = JobTable()
        let id = table.insert(lane: 0, requests: requests, dispatcher: primary, epoch: 4)
        let place = try #require(table.job(id))
        table.handOver(SequenceRun(first: 12, count: 2), of: place)
        table.endIfDone(place)
        #expect(table.jobs[place].rest == [SequenceRun(first: 10, count: 2), SequenceRun(first: 14, count: 2)])
        table.handOver(SequenceRun(first: 14, count: 2), of: place)
        table.handOver(SequenceRun(first: 10, count: 1), of: place)
        table.endIfDone(place)
        #expect(table.jobs[place].rest == [SequenceRun(first: 11, count: 1)])
        table.handOver(SequenceRun(first: 11, count: 1), of: place)
        table.endIfDone(place)
        #expect(table.job(id) == nil)
        #expect(table.isEmpty)
    }

    @Test("outcomes have numbers of their own, and wait for their primary after their job has ended")
    func numbers() throws {
        var table = JobTable()
        let id = table.insert(lane: 0, requests: requests, dispatcher: primary, epoch: 4)
        let place = try #require(table.job(id))
        let first = table.add(outcomes(10, 3), of: table.jobs[place])
        let second = table.add(outcomes(13, 3), of: table.jobs[place])
        let numbers = [table.parts[first].number, table.parts[second].number]
        #expect(Set(numbers + [id]).count == 3)
        table.handOver(requests.sequences, of: place)
        table.endIfDone(place)
        #expect(!table.isEmpty)
        table.removePart(at: try #require(table.part(numbers[0])))
        #expect(table.part(numbers[0]) == nil)
        #expect(table.part(numbers[1]) == 0)
    }

    @Test("who asks later has the outcomes of a part next, whoever they were sent to before")
    func claims() throws {
        var table = JobTable()
        let id = table.insert(lane: 0, requests: requests, dispatcher: primary, epoch: 4)
        let part = table.add(outcomes(10, 6), of: table.jobs[try #require(table.job(id))])
        table.sent(part, to: primary, again: Tick(nanoseconds: 5))
        #expect(table.parts[part].target == primary)
        table.claimPart(at: part, by: MemberNumber(rawValue: 2), epoch: 5)
        #expect(table.parts[part].target == nil)
        #expect(table.parts[part].dispatcher == MemberNumber(rawValue: 2))
    }
}
