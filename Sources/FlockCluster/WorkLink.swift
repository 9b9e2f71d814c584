// Flockwork · Apache-2.0 · see LICENSE

// Between two members, work messages arrive once and in order: numbered, kept until the other side has them, sent
// again when it does not say so. Connections come and go below it.

internal import DequeModule
internal import FlockWire

/// This member's end of the work messages to and from one other member.
struct WorkLink: Sendable {
    let peer: MemberNumber
    let node: NodeID
    /// Sent and not acknowledged, then not sent yet.
    private var outgoing: Deque<WorkMessage> = []
    /// The number of `outgoing`'s first.
    private var first: UInt64 = 1
    /// The number of the first that was not sent yet.
    private var unsent: UInt64 = 1
    /// The number of the next one to come.
    private var expected: UInt64 = 1
    private var owesAnswer = false
    /// When what was sent is sent again; `never` if all of it has arrived.
    private(set) var resendAt = Tick.never
    private var pause = Self.shortestPause
    /// Since when the other side has acknowledged nothing of what waits; nil if nothing waits.
    private(set) var waitingSince: Tick?
    /// The link was found stalled, or the other member suspected, and it has not moved since.
    var isStalled = false
    /// The view says that the other member is suspected.
    var isSuspected = false
    /// Stages that the other member has instances of, as it said last.
    var hosted: [Int] = []
    /// By lane: this node's dispatcher may send to it.
    var isOpen: [Bool]

    static let shortestPause = Duration.milliseconds(50)
    static let longestPause = Duration.milliseconds(400)
    /// Messages of one frame.
    static let longestFrame = 256

    init(peer: MemberNumber, node: NodeID, lanes: Int) {
        self.peer = peer
        self.node = node
        isOpen = Array(repeating: false, count: lanes)
    }

    var hasToSend: Bool { owesAnswer || unsent < first + UInt64(outgoing.count) }

    mutating func enqueue(_ message: WorkMessage) { outgoing.append(message) }

    /// Takes a frame in and appends its new messages, in order.
    mutating func receive(_ frame: WorkFrame, now: Tick, into messages: inout [WorkMessage]) {
        var moved = false
        while first < frame.expected, !outgoing.isEmpty, first < unsent {
            outgoing.removeFirst()
            first += 1
            moved = true
        }
        if moved {
            pause = Self.shortestPause
            isStalled = false
            waitingSince = first < unsent ? now : nil
            resendAt = first < unsent ? now + pause : .never
        }
        guard !frame.messages.isEmpty else { return }
        owesAnswer = true
        for (offset, message) in frame.messages.enumerated() where frame.first + UInt64(offset) == expected {
            expected += 1
            messages.append(message)
        }
    }

    /// What did not arrive in time is to be sent again.
    mutating func tick(now: Tick) {
        guard resendAt <= now else { return }
        unsent = first
        pause = min(pause * 2, Self.longestPause)
        resendAt = .never
    }

    /// The next frame; nil if there is nothing to say.
    mutating func takeFrame(from member: MemberNumber, now: Tick) -> WorkFrame? {
        guard hasToSend else { return nil }
        let start = Int(unsent - first)
        let end = min(outgoing.count, start + Self.longestFrame)
        let frame = WorkFrame(
            from: member, to: peer, first: unsent, expected: expected, messages: Array(outgoing[start..<end]))
        unsent = first + UInt64(end)
        owesAnswer = false
        if end > start {
            if waitingSince == nil { waitingSince = now }
            if resendAt == .never { resendAt = now + pause }
        }
        return frame
    }
}
