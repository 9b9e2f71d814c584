// Flockwork · Apache-2.0 · see LICENSE

// For checkers: what was committed at which index, and what state came of it. Replicas with equal logs must have equal
// states, whatever else happened to them.

internal import DequeModule
internal import FlockWire

/// Hashes of the last committed entries. Each includes all before it.
struct LogHistory: Sendable {
    /// A committed entry.
    struct Item: Sendable, Equatable {
        var index: UInt64
        var epoch: UInt64
        var hash: UInt64
    }

    /// Entries remembered; 0 for none, and no hashing.
    let limit: Int
    private(set) var hash: UInt64 = 0
    private(set) var items: Deque<Item> = []

    init(limit: Int) { self.limit = limit }

    mutating func note(_ entry: LogEntry) {
        guard limit > 0 else { return }
        var digest = Digest(hash)
        digest.add(entry.index)
        digest.add(entry.epoch)
        digest.add(entry.time.nanoseconds)
        entry.operation.add(to: &digest)
        hash = digest.value
        if items.count == limit { items.removeFirst() }
        items.append(Item(index: entry.index, epoch: entry.epoch, hash: hash))
    }

    mutating func clear(to hash: UInt64) {
        self.hash = hash
        items.removeAll()
    }
}

/// A hash of numbers in order.
struct Digest: Sendable {
    private(set) var value: UInt64
    init(_ value: UInt64 = 0) { self.value = value }

    mutating func add(_ number: UInt64) { value = StableHash.mix(value ^ number) }
    mutating func add(_ number: Int) { add(UInt64(bitPattern: Int64(number))) }
    mutating func add(_ run: SequenceRun) {
        add(run.first)
        add(run.count)
    }
    mutating func add(_ bytes: Bytes) {
        bytes.withUnsafeBytes { raw in
            var at = 0
            while at + 8 <= raw.count {
                add(raw.loadUnaligned(fromByteOffset: at, as: UInt64.self))
                at += 8
            }
            var rest: UInt64 = UInt64(raw.count)
            while at < raw.count {
                rest = rest << 8 | UInt64(raw[at])
                at += 1
            }
            add(rest)
        }
    }
    mutating func add(_ items: ItemBuffer) {
        add(items.count)
        add(items.payload)
    }
    mutating func add(_ outcome: RunOutcome) {
        switch outcome {
        case .values(let items, let mask):
            add(1)
            add(items)
            if let mask { for index in 0..<mask.count where mask[index] { add(index) } }
        case .filtered: add(2)
        case .failed(let error):
            add(3)
            add(UInt64(error.code.rawValue))
        }
    }
}

extension PartitionOperation {
    func add(to digest: inout Digest) {
        switch self {
        case .epoch(let epoch):
            digest.add(1)
            digest.add(epoch)
        case .openSession(let id, let pipeline, let secret, let window):
            digest.add(2)
            digest.add(id.rawValue)
            digest.add(UInt64(pipeline))
            digest.add(secret.high ^ secret.low)
            digest.add(window)
        case .closeSession(let id):
            digest.add(3)
            digest.add(id.rawValue)
        case .accept(let id, let run, let timeToLive):
            digest.add(4)
            digest.add(id.rawValue)
            digest.add(run.sequences)
            digest.add(run.items)
            digest.add(timeToLive)
        case .completed(let id, let run):
            digest.add(5)
            digest.add(id.rawValue)
            digest.add(run.sequences)
            digest.add(run.outcome)
        case .failed(let id, let run, let attempts):
            digest.add(6)
            digest.add(id.rawValue)
            digest.add(run)
            digest.add(attempts)
        case .tried(let id, let run, let attempts):
            digest.add(9)
            digest.add(id.rawValue)
            digest.add(run)
            digest.add(attempts)
        case .acked(let id, let runs, let lowestOpen):
            digest.add(7)
            digest.add(id.rawValue)
            for run in runs { digest.add(run) }
            digest.add(lowestOpen)
        case .expired(let id, let run):
            digest.add(8)
            digest.add(id.rawValue)
            digest.add(run)
        }
    }
}

extension PartitionReplica {
    /// Index of the last entry that is known here to be committed; all up to it are applied.
    var committedIndex: UInt64 { log.committed }
    /// Index of the last entry of the log.
    var lastIndex: UInt64 { log.last }

    /// What was committed at `index`; nil if that is forgotten or not committed here.
    func committedItem(at index: UInt64) -> LogHistory.Item? {
        guard let first = history.items.first?.index, index >= first else { return nil }
        let place = Int(index - first)
        return place < history.items.count ? history.items[place] : nil
    }

    /// A hash of everything that the committed entries made: equal for equal `committedIndex` of one partition, on
    /// every replica. What only the primary knows (subscribers, calls, proposals) is not in it.
    var stateDigest: UInt64 {
        var digest = Digest()
        digest.add(UInt64(nextSession))
        digest.add(openItems)
        for place in 0..<sessions.count {
            let session = sessions[sessions.slot(at: place)]
            digest.add(session.id.rawValue)
            digest.add(UInt64(session.pipeline))
            digest.add(session.window)
            digest.add(session.base)
            digest.add(session.next)
            for entry in session.entries { entry.add(to: &digest) }
        }
        return digest.value
    }
}

extension SessionEntry {
    func add(to digest: inout Digest) {
        digest.add(sequences)
        digest.add(deadline.nanoseconds)
        for part in deaths + failures {
            digest.add(part.sequences)
            digest.add(part.count)
        }
        digest.add(openCount)
        if let items { digest.add(items) }
        forEachHeld { run, held in
            digest.add(run)
            digest.add(held.outcome)
            digest.add(held.bytes)
            digest.add(held.expires.nanoseconds)
        }
    }
}
