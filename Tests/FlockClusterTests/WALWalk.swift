// Flockwork · Apache-2.0 · see LICENSE

import FlockTestKit
import FlockWire
import Testing

@testable import FlockCluster

/// A write-ahead log on a simulated disk, beside a model of what it promised.
struct WALWalk {
    /// A partition as its replica has it.
    struct Model {
        /// Those after the snapshot. An entry's time is random, so that it tells the entry from others of its index.
        var entries: [LogEntry] = []
        var snapshot: UInt64 = 0
        /// Entries through here were called persisted.
        var persisted: UInt64 = 0
        var generation: UInt16 = 0
        var last: UInt64 { entries.last?.index ?? snapshot }
    }

    var random: SeededRandom
    let rules: Rules
    var disk = SimulatedDisk()
    var log: WriteAheadLog
    var models: [Model]
    /// The segment that is written to and not synced.
    var flying: UInt64?
    /// Where the newest flush lies.
    var flushed: (segment: UInt64, offset: Int) = (0, 0)
    var wanted: [PartitionID] = []
    var configuration = WriteAheadLog.Configuration()
    var limits = Limits()
    var isFailed = false

    init(seed: UInt64, rules: Rules = .all) {
        random = SeededRandom(seed: seed)
        self.rules = rules
        configuration.segmentBytes = 4000
        configuration.segments = 3
        configuration.flushBytes = 1500
        models = Array(repeating: Model(), count: 4)
        let recovery = WALRecovery(segments: [], fresh: seed, limits: limits)
        log = WriteAheadLog(after: recovery, configuration: configuration, limits: limits, rules: rules)
    }

    mutating func step() {
        let place = Int.random(in: 0..<models.count, using: &random)
        switch Int.random(in: 0..<100, using: &random) {
        case 0..<55: append(place)
        case 55..<60: truncate(place)
        case 60..<63: snapshot(place)
        case 63..<64: drop(place)
        case 64..<67: apply(.idle)
        case 67..<82: apply(.turn)
        default: land()
        }
    }

    private mutating func append(_ place: Int) {
        var entries: [LogEntry] = []
        for _ in 0..<Int.random(in: 1...4, using: &random) {
            let tag = random.next()
            let index = models[place].last + 1
            let kind = Int.random(in: 1..<EntrySamples.kinds, using: &random)
            let operation = EntrySamples.operation(kind, &random)
            let entry = LogEntry(epoch: 1, index: index, time: Tick(nanoseconds: tag), operation: operation)
            models[place].entries.append(entry)
            entries.append(entry)
        }
        apply(.append(PartitionID(place), entries))
    }

    private mutating func truncate(_ place: Int) {
        // Only what was never called persisted may go: the rest may be committed.
        let low = max(models[place].persisted, models[place].snapshot)
        guard models[place].last > low else { return }
        let index = UInt64.random(in: low..<models[place].last, using: &random)
        models[place].entries.removeAll { $0.index > index }
        apply(.truncate(PartitionID(place), after: index))
    }

    private mutating func snapshot(_ place: Int) {
        guard models[place].persisted > models[place].snapshot else { return }
        let index = models[place].persisted
        models[place].snapshot = index
        models[place].entries.removeAll { $0.index <= index }
        let snapshot = WALSnapshot(
            through: index, epoch: 1, generation: models[place].generation, state: Bytes("state \(index)"),
            tail: models[place].entries)
        apply(.snapshot(PartitionID(place), snapshot))
    }

    private mutating func drop(_ place: Int) {
        models[place] = Model()
        models[place].generation = UInt16.random(in: 0..<3, using: &random)
        apply(.drop(PartitionID(place), generation: models[place].generation))
        // What is written next may go out together with it, or after it.
        guard Bool.random(using: &random) else { return }
        while log.isWaiting || flying != nil {
            apply(.turn)
            land()
        }
    }

    /// The flush under way, if there is one, ends.
    mutating func land() {
        guard let segment = flying else { return }
        flying = nil
        do throws(SimulatedDisk.Failure) {
            try disk.sync(segment)
            apply(.flushed)
        } catch {
            apply(.failed)
        }
    }

    mutating func apply(_ event: WALEvent) {
        var out: [WALDirective] = []
        log.step(event, out: &out)
        for directive in out {
            switch directive {
            case .flush(let segment, let offset, let bytes):
                flushed = (segment, offset)
                flying = segment
                do throws(SimulatedDisk.Failure) {
                    try disk.write(segment, at: offset, bytes)
                } catch {
                    flying = nil
                    apply(.failed)
                }
            case .persisted(let partition, let index):
                let place = Int(partition.rawValue)
                #expect(index <= models[place].last, "\(partition) has no entry \(index)")
                models[place].persisted = max(models[place].persisted, index)
            case .wantSnapshot(let partition): wanted.append(partition)
            case .remove(let segment): disk.remove(segment)
            case .failed: isFailed = true
            }
        }
        while let partition = wanted.popLast() { snapshot(Int(partition.rawValue)) }
    }

    /// What the disk says now.
    func recover() -> WALRecovery {
        let files = disk.names.map { (first: $0, bytes: disk.read($0) ?? .empty) }
        return WALRecovery(segments: files, fresh: 1, limits: limits)
    }

    /// The node starts again with what the disk says.
    mutating func restart(after recovery: WALRecovery) {
        for name in disk.names where !recovery.segments.contains(name) { disk.remove(name) }
        flying = nil
        log = WriteAheadLog(after: recovery, configuration: configuration, limits: limits, rules: rules)
        models = models.indices.map { place in
            var model = Model()
            guard let found = recovery.partitions.first(where: { $0.partition == PartitionID(place) }) else {
                return model
            }
            model.snapshot = found.snapshot?.through ?? 0
            model.entries = found.entries
            model.persisted = model.last
            model.generation = found.generation
            return model
        }
    }

    /// What was promised and is not there; nil if all is.
    func missing(in recovery: WALRecovery) -> String? {
        for (place, model) in models.enumerated() where model.persisted > 0 {
            guard let found = recovery.partitions.first(where: { $0.partition == PartitionID(place) }) else {
                return "partition \(place) is not there"
            }
            guard found.lastIndex >= model.persisted else {
                return "partition \(place) ends at \(found.lastIndex) and persisted \(model.persisted)"
            }
            guard found.generation == model.generation else {
                return "partition \(place) is of generation \(found.generation), not \(model.generation)"
            }
            for entry in model.entries
            where entry.index <= model.persisted && entry.index > found.snapshot?.through ?? 0 {
                guard let read = found.entries.first(where: { $0.index == entry.index }) else {
                    return "partition \(place) has no entry \(entry.index)"
                }
                if read.time != entry.time { return "partition \(place) has another entry \(entry.index)" }
            }
        }
        return nil
    }
}
