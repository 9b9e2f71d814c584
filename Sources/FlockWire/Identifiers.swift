// Flockwork · Apache-2.0 · see LICENSE

/// A node's stable name within its cluster, from configuration.
public struct NodeID: RawRepresentable, Hashable, Comparable, Sendable, Codable, CustomStringConvertible {
    public let rawValue: String
    public init(rawValue: String) { self.rawValue = rawValue }
    public init(_ name: String) { rawValue = name }
    public static func < (left: NodeID, right: NodeID) -> Bool { left.rawValue < right.rawValue }
    public var description: String { rawValue }
}

extension NodeID: ExpressibleByStringLiteral {
    public init(stringLiteral name: String) { rawValue = name }
}

/// A share of the inbox with its own log and owner.
public struct PartitionID: RawRepresentable, Hashable, Comparable, Sendable, Codable, CustomStringConvertible {
    public let rawValue: UInt16
    public init(rawValue: UInt16) { self.rawValue = rawValue }
    public init(_ number: Int) { rawValue = UInt16(number) }
    public static func < (left: PartitionID, right: PartitionID) -> Bool { left.rawValue < right.rawValue }
    public var description: String { "p\(rawValue)" }
}

/// A session of a client in one partition: loss generation (16 bits), then a counter (32 bits).
public struct SessionID: RawRepresentable, Hashable, Comparable, Sendable, Codable, CustomStringConvertible {
    public let rawValue: UInt64
    public init(rawValue: UInt64) { self.rawValue = rawValue }
    public init(generation: UInt16, counter: UInt32) { rawValue = UInt64(generation) << 32 | UInt64(counter) }
    public var generation: UInt16 { UInt16(truncatingIfNeeded: rawValue >> 32) }
    public static func < (left: SessionID, right: SessionID) -> Bool { left.rawValue < right.rawValue }
    public var description: String { "s\(rawValue)" }
}

/// `partition | session | sequence`: a request, for ever. Sequences of a session are contiguous from 0.
public struct RequestID: Hashable, Comparable, Sendable, Codable, CustomStringConvertible {
    public let partition: PartitionID
    public let session: SessionID
    public let sequence: UInt64

    public init(partition: PartitionID, session: SessionID, sequence: UInt64) {
        self.partition = partition
        self.session = session
        self.sequence = sequence
    }

    public static func < (left: RequestID, right: RequestID) -> Bool {
        (left.partition, left.session, left.sequence) < (right.partition, right.session, right.sequence)
    }
    public var description: String { "\(partition)/\(session)/\(sequence)" }
}

/// Contiguous sequences of one session: what the hot path moves instead of ids.
public struct SequenceRun: Hashable, Sendable, Codable, CustomStringConvertible {
    public var first: UInt64
    public var count: Int
    public init(first: UInt64, count: Int) {
        precondition(count >= 0 && first <= UInt64.max - UInt64(count), "run \(first)+\(count)")
        self.first = first
        self.count = count
    }

    private enum CodingKeys: String, CodingKey { case first, count }

    public init(from decoder: any Decoder) throws {
        let container = try decoder.container(keyedBy: CodingKeys.self)
        let first = try container.decode(UInt64.self, forKey: .first)
        let count = try container.decode(Int.self, forKey: .count)
        guard count >= 0, first <= UInt64.max - UInt64(count) else {
            throw FlockError(.invalidInput, "no run of sequences: \(first)+\(count)")
        }
        self.init(first: first, count: count)
    }

    /// One past the last sequence.
    public var end: UInt64 { first + UInt64(count) }
    public var description: String { "\(first)+\(count)" }
}

/// A run of requests of one session, wherever it travels.
public struct RequestRun: Hashable, Sendable, CustomStringConvertible {
    public var partition: PartitionID
    public var session: SessionID
    public var sequences: SequenceRun
    public init(partition: PartitionID, session: SessionID, sequences: SequenceRun) {
        self.partition = partition
        self.session = session
        self.sequences = sequences
    }
    public var count: Int { sequences.count }
    public var description: String { "\(partition)/\(session)/\(sequences)" }
}

/// Monotonic time of one process, in nanoseconds. It never crosses the wire: deadlines travel as durations.
public struct Tick: Hashable, Comparable, Sendable, CustomStringConvertible {
    public var nanoseconds: UInt64
    public init(nanoseconds: UInt64) { self.nanoseconds = nanoseconds }
    public static let zero = Tick(nanoseconds: 0)
    public static let never = Tick(nanoseconds: .max)
    public static func < (left: Tick, right: Tick) -> Bool { left.nanoseconds < right.nanoseconds }
    /// Saturates at `never`; a negative duration counts as none.
    public static func + (tick: Tick, duration: Duration) -> Tick {
        let (sum, overflow) = tick.nanoseconds.addingReportingOverflow(duration.clampedNanoseconds)
        return Tick(nanoseconds: overflow ? .max : sum)
    }
    /// The time since `earlier`, zero if that lies ahead.
    public static func - (later: Tick, earlier: Tick) -> Duration {
        .nanoseconds(Int64(clamping: later.nanoseconds - min(earlier.nanoseconds, later.nanoseconds)))
    }
    public var description: String { self == .never ? "never" : "\(nanoseconds) ns" }
}

extension Duration {
    /// Nanoseconds, from zero to UInt64.max.
    public var clampedNanoseconds: UInt64 {
        let (seconds, attoseconds) = components
        guard seconds >= 0, attoseconds >= 0 else { return 0 }
        let (whole, overflow) = UInt64(seconds).multipliedReportingOverflow(by: 1_000_000_000)
        guard !overflow else { return .max }
        let (sum, over) = whole.addingReportingOverflow(UInt64(attoseconds) / 1_000_000_000)
        return over ? .max : sum
    }
}
