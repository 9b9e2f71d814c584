// Flockwork · Apache-2.0 · see LICENSE

// Every accepted request ends in exactly one outcome. Outcomes travel in runs, as requests do.

/// What became of a run of requests.
public enum RunOutcome: Sendable {
    /// Values, one an item. Where `filtered` has a bit set, the pipeline filtered that item and its value is blank.
    case values(ItemBuffer, filtered: ItemMask?)
    /// All of the run was filtered.
    case filtered
    /// All of the run failed in the same way.
    case failed(FlockError)

    /// The outcome of `count` items from `first` on, of a run that has this outcome.
    public func slice(from first: Int, count: Int) -> RunOutcome {
        switch self {
        case .values(let items, let filtered):
            .values(items.slice(from: first, count: count), filtered: filtered?.slice(from: first, count: count))
        case .filtered, .failed: self
        }
    }

    /// Bytes that it keeps in memory, about.
    public var byteCount: Int {
        switch self {
        case .values(let items, let filtered): items.byteCount + (filtered == nil ? 0 : items.count / 8)
        case .filtered: 0
        case .failed(let error): error.message.utf8.count
        }
    }
}

/// One bit an item.
public struct ItemMask: Sendable, Equatable {
    private var words: [UInt64]
    private var start: Int
    public let count: Int

    /// No bit set.
    public init(count: Int) {
        words = Array(repeating: 0, count: (count + 63) / 64)
        start = 0
        self.count = count
    }

    private init(words: [UInt64], start: Int, count: Int) {
        self.words = words
        self.start = start
        self.count = count
    }

    /// The bit of item `index`.
    public subscript(index: Int) -> Bool {
        get {
            precondition(index >= 0 && index < count, "bit \(index) of \(count)")
            return words[(start + index) >> 6] >> UInt64((start + index) & 63) & 1 == 1
        }
        set {
            precondition(index >= 0 && index < count, "bit \(index) of \(count)")
            let bit = UInt64(1) << UInt64((start + index) & 63)
            if newValue { words[(start + index) >> 6] |= bit } else { words[(start + index) >> 6] &= ~bit }
        }
    }

    /// The bits `first ..< first + count`.
    public func slice(from first: Int, count: Int) -> ItemMask {
        precondition(first >= 0 && count >= 0 && first <= self.count - count, "bits \(first)+\(count) of \(self.count)")
        return ItemMask(words: words, start: start + first, count: count)
    }

    public static func == (left: ItemMask, right: ItemMask) -> Bool {
        left.count == right.count && (0..<left.count).allSatisfy { left[$0] == right[$0] }
    }
}

/// Sequences of a session and what became of them.
public struct OutcomeRun: Sendable {
    public var sequences: SequenceRun
    public var outcome: RunOutcome
    public init(sequences: SequenceRun, outcome: RunOutcome) {
        self.sequences = sequences
        self.outcome = outcome
    }
}

extension OutcomeRun {
    /// Appends: first (u64), count (u32), kind (u8: 1 values, 2 values with mask, 3 filtered, 4 failed), then its data.
    public func write(to writer: inout ByteWriter, limits: Limits) {
        writer.write(sequences.first)
        writer.write(UInt32(sequences.count))
        switch outcome {
        case .values(let items, nil):
            writer.write(UInt8(1))
            items.write(to: &writer)
        case .values(let items, let mask?):
            writer.write(UInt8(2))
            items.write(to: &writer)
            for start in stride(from: 0, to: mask.count, by: 8) {
                var byte: UInt8 = 0
                for bit in 0..<min(8, mask.count - start) where mask[start + bit] { byte |= 1 << UInt8(bit) }
                writer.write(byte)
            }
        case .filtered: writer.write(UInt8(3))
        case .failed(let error):
            writer.write(UInt8(4))
            error.write(to: &writer, limits: limits)
        }
    }

    public init(from reader: inout ByteReader, limits: Limits) throws(WireError) {
        let first: UInt64 = try reader.read()
        let count = Int(try reader.read(UInt32.self))
        guard count <= limits.itemsPerRun else { throw .overLimit(.itemsPerRun, "items of a run") }
        guard first <= UInt64.max - UInt64(count) else { throw .malformed("sequences of a run") }
        let kind: UInt8 = try reader.read()
        switch kind {
        case 1, 2:
            let items = try ItemBuffer(from: &reader, limits: limits)
            guard items.count == count else { throw .malformed("outcome count") }
            var mask: ItemMask?
            if kind == 2 {
                let bits = try reader.readBytes((count + 7) / 8)
                var filtered = ItemMask(count: count)
                bits.withUnsafeBytes { raw in
                    for index in 0..<count where raw[index / 8] >> UInt8(index % 8) & 1 == 1 { filtered[index] = true }
                }
                mask = filtered
            }
            outcome = .values(items, filtered: mask)
        case 3: outcome = .filtered
        case 4: outcome = .failed(try FlockError(from: &reader, limits: limits))
        default: throw .malformed("outcome kind")
        }
        sequences = SequenceRun(first: first, count: count)
    }
}
