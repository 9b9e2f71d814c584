// Flockwork · Apache-2.0 · see LICENSE

// How far the primary got with one other replica, in one epoch.

internal import FlockWire

/// What the primary knows about another replica. Indexes count in the current epoch only.
struct ReplicationPeer: Sendable {
    let member: MemberNumber
    /// It must have an entry before that is committed.
    let isInSync: Bool
    /// The learner was reported as caught up, so commits wait for it too (rule R3).
    var isReported = false
    /// It acknowledged everything up to here.
    var acked: UInt64 = 0
    /// It knows that everything up to here is committed.
    var committed: UInt64 = 0
    /// Where to begin again if nothing is heard: it should have everything up to here.
    var base: UInt64
    /// Entries up to here are under way or acknowledged.
    var sent: UInt64
    /// The commit index it was told last.
    var told: UInt64 = 0
    /// When to begin again; `never` if nothing is outstanding.
    var resendAt = Tick.never
    /// Nanoseconds until then, next time.
    var pause: UInt64
    /// When it may be reported as lagging again.
    var mayReportAt = Tick.zero
    var transfer: SnapshotTransfer?

    init(_ member: MemberNumber, isInSync: Bool, base: UInt64, pause: UInt64) {
        self.member = member
        self.isInSync = isInSync
        self.base = base
        sent = base
        self.pause = pause
    }

    /// Sets the timer if something was not acknowledged, and stops it if nothing is. Returns when it is due.
    mutating func arm(now: Tick) -> Tick {
        if acked >= sent && committed >= told && transfer == nil {
            resendAt = .never
        } else if resendAt == .never {
            resendAt = now + pause
        }
        return resendAt
    }

    /// Entries up to here it will not need again.
    var floor: UInt64 { max(committed, transfer?.index ?? 0) }
}

/// A snapshot on its way to a replica.
struct SnapshotTransfer: Sendable {
    let index: UInt64
    let parts: [SnapshotPart]
    /// Parts that arrived.
    var received = 0
    /// Parts sent.
    var sent = 0
}
