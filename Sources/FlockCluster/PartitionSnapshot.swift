// Flockwork · Apache-2.0 · see LICENSE

// The derived state at an index, cut into parts that fit into messages. Payloads are shared, not copied.

internal import DequeModule
public import FlockWire

/// A part of a partition's state as it was when the entry at `index` had been applied.
public struct SnapshotPart: Sendable {
    /// The epoch of the primary that sends it.
    public var epoch: UInt64
    /// The state is that after this entry, which is committed.
    public var index: UInt64
    /// The epoch of that entry.
    public var entryEpoch: UInt64
    /// Partition time.
    public var time: Tick
    /// Running hash of the log up to `index`, for checkers.
    public var hash: UInt64
    /// The counter of the next session.
    public var nextSession: UInt32
    /// Which part this is, from 0, of how many.
    public var number: Int
    public var count: Int
    /// Sessions, ascending; the first may continue the last one of the part before.
    var sessions: [SessionSnapshot]

    /// Bytes that it takes on the wire, about.
    public var encodedSize: Int { sessions.reduce(64) { $0 + $1.encodedSize } }
}

/// A session, or some of its runs.
struct SessionSnapshot: Sendable {
    var id: SessionID
    var pipeline: UInt32
    var secret: SessionSecret
    var window: Int
    var base: UInt64
    var next: UInt64
    var entries: [SessionEntry]

    var encodedSize: Int { entries.reduce(56) { $0 + $1.encodedSize } }
}

extension SessionEntry {
    /// Bytes that it takes on the wire, about.
    var encodedSize: Int {
        switch body {
        case .open(let items): return 48 + items.encodedSize
        case .done(let held): return 56 + held.outcome.byteCount
        case .freed: return 24
        case .split(let split):
            return split.pieces.reduce(48 + (split.items?.encodedSize ?? 0)) {
                $0 + 24 + ($1.held?.outcome.byteCount ?? 0)
            }
        }
    }
}

extension SessionTable {
    /// All sessions in parts of about `bytes`; at least one part.
    func parts(of bytes: Int) -> [[SessionSnapshot]] {
        var parts: [[SessionSnapshot]] = [[]]
        var used = 0
        for place in 0..<count {
            let session = self[slot(at: place)]
            var piece = session.snapshot(of: [])
            for entry in session.entries {
                let size = entry.encodedSize
                if used + size > bytes && used > 0 {
                    parts[parts.count - 1].append(piece)
                    parts.append([])
                    piece.entries = []
                    used = 0
                }
                piece.entries.append(entry)
                used += size
            }
            parts[parts.count - 1].append(piece)
            used += 56
        }
        return parts
    }
}

extension Session {
    func snapshot(of entries: [SessionEntry]) -> SessionSnapshot {
        SessionSnapshot(
            id: id, pipeline: pipeline, secret: secret, window: window, base: base, next: next, entries: entries)
    }
}
