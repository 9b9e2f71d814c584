// Flockwork · Apache-2.0 · see LICENSE

// A client as the library's: a few sessions, each in one partition; runs in order; retries with the same ids; an
// answer that does not come means nothing. It keeps what it needs to retry, and tells its history what it does.

internal import FlockCluster
internal import FlockWire

/// A run of a session that was not accepted yet.
struct PendingRun {
    var first: UInt64
    var payloads: [UInt64]
    var deadline: Duration?
    /// When it is sent again.
    var retryAt: UInt64
    /// It was sent and not answered.
    var isUnderWay = false
    var isCancelled = false
}

/// One session of a client.
struct ClientSession {
    enum Phase { case closed, opening, open }

    let partition: PartitionID
    var secret: SessionSecret
    var phase = Phase.closed
    var id = SessionID(rawValue: 0)
    /// The sequence of the next new run.
    var next: UInt64 = 0
    /// Everything below was acknowledged.
    var base: UInt64 = 0
    /// Not accepted, in order.
    var pending: [PendingRun] = []
    /// From `base` on: whether the outcome is known.
    var isDone: [Bool] = []
    /// Outcomes that are not known.
    var missing = 0
    /// Where it believes the primary to be.
    var guess: Int
    /// Where it attached last.
    var attachedTo: Int?
    var heardAt: UInt64 = 0
    var openAt: UInt64 = 0
    var isOpenUnderWay = false
    var issueAt: UInt64 = 0
    /// Acknowledges nothing: it comes back for its outcomes.
    var isLazy = false
}

/// What a client waits for.
struct PendingCall {
    enum Kind { case open, submit, cancel, attach, ack }
    var number: UInt64
    var session: Int
    var generation: UInt32
    var kind: Kind
    var first: UInt64
    var count: Int
    var node: Int
}

/// A client and its sessions.
struct SimulatedClient {
    let id: Int
    var random: SimulatedRandom
    var sessions: [ClientSession]
    /// Counts the lives of each session slot.
    var generations: [UInt32]
    /// By number, modulo its length; old ones are overwritten.
    private var calls: [PendingCall?] = Array(repeating: nil, count: 256)
    private var nextNumber: UInt64 = 1

    init(id: Int, random: SimulatedRandom, sessions: [ClientSession]) {
        self.id = id
        self.random = random
        self.sessions = sessions
        generations = Array(repeating: 0, count: sessions.count)
    }

    mutating func note(_ kind: PendingCall.Kind, session: Int, first: UInt64, count: Int, node: Int) -> UInt64 {
        defer { nextNumber += 1 }
        calls[Int(nextNumber & 255)] = PendingCall(
            number: nextNumber, session: session, generation: generations[session], kind: kind, first: first,
            count: count, node: node)
        return nextNumber
    }

    /// The call of that number, if it still matters.
    func call(_ number: UInt64) -> PendingCall? {
        guard let call = calls[Int(number & 255)], call.number == number,
            call.generation == generations[call.session]
        else { return nil }
        return call
    }

    mutating func forget(_ number: UInt64) { calls[Int(number & 255)] = nil }

    func place(of partition: PartitionID, _ session: SessionID) -> Int? {
        sessions.firstIndex { $0.id == session && $0.partition == partition && $0.phase == .open }
    }
}
