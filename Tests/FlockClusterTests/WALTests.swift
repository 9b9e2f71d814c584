// Flockwork · Apache-2.0 · see LICENSE

import FlockTestKit
import FlockWire
import Testing

@testable import FlockCluster

@Suite("Write-ahead log")
struct WALTests {
    @Test("what was called persisted is there after any loss of power", arguments: 1...150 as ClosedRange<UInt64>)
    func powerLoss(seed: UInt64) {
        var walk = WALWalk(seed: seed)
        for life in 0..<4 {
            for _ in 0..<Int.random(in: 1...120, using: &walk.random) { walk.step() }
            walk.disk.losePower(&walk.random)
            let recovery = walk.recover()
            #expect(!recovery.verdict.isDamaged, "seed \(seed), life \(life): \(recovery.verdict)")
            #expect(walk.missing(in: recovery) == nil, "seed \(seed), life \(life)")
            guard !recovery.verdict.isDamaged else { return }
            walk.restart(after: recovery)
        }
    }

    @Test(
        "a copy that begins in the flush in which another one ended keeps its segment", arguments: [0, 2] as [UInt16])
    func begunAnew(generation: UInt16) throws {
        var walk = WALWalk(seed: 1)
        walk.models = Array(repeating: WALWalk.Model(), count: 2)
        func write(_ place: Int, _ index: UInt64) {
            let entry = LogEntry(epoch: 1, index: index, time: Tick(nanoseconds: index), operation: .epoch(1))
            walk.models[place].entries.append(entry)
            walk.apply(.append(PartitionID(place), [entry]))
        }
        func flush() {
            walk.apply(.turn)
            walk.land()
        }
        write(0, 1)
        flush()
        walk.models[0] = WALWalk.Model()
        walk.models[0].generation = generation
        walk.apply(.drop(PartitionID(0), generation: generation))
        write(0, 1)
        flush()
        // Of the other partition so much that the first segments could go.
        for index in 1...400 as ClosedRange<UInt64> {
            write(1, index)
            flush()
        }
        #expect(walk.models[0].snapshot == 1, "it should have been asked for a snapshot")
        var random = SeededRandom(seed: 1)
        walk.disk.losePower(&random)
        #expect(walk.missing(in: walk.recover()) == nil)
    }

    @Test("acknowledging before the sync is caught by the same walk")
    func mutant() {
        var rules = Rules.all
        rules.syncsBeforeAck = false
        #expect((1...20).contains { losesSomething(seed: $0, rules: rules) })
    }

    @Test("a disk that lies about syncing loses what it promised")
    func lyingDisk() {
        #expect((1...20).contains { losesSomething(seed: $0, rules: .all, lying: true) })
    }

    private func losesSomething(seed: UInt64, rules: Rules, lying: Bool = false) -> Bool {
        var walk = WALWalk(seed: seed, rules: rules)
        walk.disk.liesAboutSync = lying
        for _ in 0..<60 { walk.step() }
        walk.disk.losePower(&walk.random)
        let recovery = walk.recover()
        return recovery.verdict.isDamaged || walk.missing(in: recovery) != nil
    }

    @Test(
        "a bit that turns over in what a later flush vouches for is damage", arguments: 1...150 as ClosedRange<UInt64>)
    func bitFlip(seed: UInt64) throws {
        var walk = WALWalk(seed: seed)
        for _ in 0..<Int.random(in: 40...200, using: &walk.random) { walk.step() }
        walk.land()
        walk.apply(.turn)
        walk.land()
        let name = try #require(walk.disk.names.randomElement(using: &walk.random))
        let size = try #require(walk.disk.read(name)).count
        let end = name == walk.flushed.segment ? walk.flushed.offset : size
        guard end > 0 else { return }
        walk.disk.flipBit(name, in: 0..<end, &walk.random)
        #expect(walk.recover().verdict.isDamaged, "seed \(seed): \(walk.recover().verdict), segment \(name)")
    }

    @Test("when nothing is written for a while, the last flush is vouched for as well")
    func idle() throws {
        var walk = WALWalk(seed: 5)
        for _ in 0..<50 { walk.step() }
        while walk.log.isWaiting || walk.flying != nil {
            walk.apply(.turn)
            walk.land()
        }
        let last = walk.flushed
        walk.apply(.idle)
        #expect(walk.flushed != last)
        walk.land()
        walk.apply(.idle)
        #expect(walk.flying == nil, "one more flush was enough")
        let size = try #require(walk.disk.read(last.segment)).count
        // The flush that vouches may be the first of a new segment.
        let end = walk.flushed.segment == last.segment ? walk.flushed.offset : size
        walk.disk.flipBit(last.segment, in: last.offset..<end, &walk.random)
        #expect(walk.recover().verdict.isDamaged)
    }

    @Test("a full disk fails the log, which says so once and never writes again")
    func fullDisk() {
        var walk = WALWalk(seed: 9)
        walk.disk.capacity = 2000
        for _ in 0..<300 where !walk.isFailed { walk.step() }
        #expect(walk.isFailed && walk.log.isFailed)
        let size = walk.disk.byteCount
        for _ in 0..<50 { walk.step() }
        #expect(walk.disk.byteCount == size)
        #expect(walk.missing(in: walk.recover()) == nil)
    }

    @Test("old segments go once every partition has a newer snapshot")
    func compaction() {
        var walk = WALWalk(seed: 3)
        for _ in 0..<3000 { walk.step() }
        #expect(walk.disk.names.count <= 8, "\(walk.disk.names.count) segments")
        #expect(walk.missing(in: walk.recover()) == nil)
    }

    @Test("records of an earlier process behind a torn tail are not read")
    func staleTail() throws {
        var limits = Limits()
        limits.sessionWindow = 100
        let run: UInt32 = 2
        var writer = ByteWriter()
        WALRecord.truncated(PartitionID(1), after: 4).write(to: &writer, position: 0, run: run, limits: limits)
        let second = UInt64(writer.count)
        WALRecord.truncated(PartitionID(1), after: 3).write(to: &writer, position: second, run: run - 1, limits: limits)
        let bytes = writer.finish()
        var seen: UInt32 = 0
        let first = WALRecord.read(bytes, at: 0, position: 0, run: &seen, limits: limits)
        #expect(first?.length == Int(second) && seen == run)
        #expect(WALRecord.read(bytes, at: Int(second), position: second, run: &seen, limits: limits) == nil)
    }
}
