// Flockwork · Apache-2.0 · see LICENSE

public import FlockWire

/// The bytes that requests may hold on one node, shared by all its partitions.
///
/// `open` counts the payloads of runs that are not done as a whole (one open id pins the buffer of its run) and the
/// result bytes reserved for open items. `unread` counts outcomes that wait for their acknowledgement. What acceptance
/// took, acknowledgement, expiry or closing gives back to the byte.
public struct ByteBudget: Sendable, Equatable {
    /// Bound of `open`.
    public let limit: Int
    /// Bound of `unread` for new acceptances. Work accepted before may go over it, by no more than `limit`.
    public let unreadLimit: Int
    /// Payload bytes of open runs, and reserved result bytes.
    public private(set) var open = 0
    /// Result bytes that wait for their acknowledgement.
    public private(set) var unread = 0

    /// A budget with nothing taken.
    public init(limit: Int, unreadLimit: Int) {
        precondition(limit > 0 && unreadLimit > 0, "budget \(limit), \(unreadLimit)")
        self.limit = limit
        self.unreadLimit = unreadLimit
    }

    /// The budget of a node.
    public init(limits: Limits) { self.init(limit: limits.openBytes, unreadLimit: limits.unreadResultBytes) }

    /// What forbids to accept that much more, of which `reserved` are result bytes; nil if nothing does.
    func limit(against bytes: Int, reserved: Int) -> Limit? {
        if bytes > limit - open { return .openBytes }
        return reserved > unreadLimit - unread ? .unreadResultBytes : nil
    }

    mutating func takeOpen(_ bytes: Int) {
        open += bytes
        precondition(bytes >= 0 && open <= limit, "S5: open bytes over the limit: \(self)")
    }

    mutating func giveOpen(_ bytes: Int) {
        open -= bytes
        precondition(bytes >= 0 && open >= 0, "open bytes given back twice: \(self)")
    }

    mutating func takeUnread(_ bytes: Int) { unread += bytes }

    mutating func giveUnread(_ bytes: Int) {
        unread -= bytes
        precondition(bytes >= 0 && unread >= 0, "result bytes given back twice: \(self)")
    }
}
