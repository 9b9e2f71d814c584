// Flockwork · Apache-2.0 · see LICENSE

// One dispatcher per node and stage merges the runs of all local partitions, so that hundreds of logs do not fragment
// batches. It owns what is queued and what is out, and lets no host hold more than its credit: a slow host simply gets
// less. Work per run is a few look-ups, never per item.

internal import DequeModule
public import FlockWire

/// Queues open runs and shares them out over stage hosts.
public struct Dispatcher: Sendable {
    struct SessionKey: Hashable, Sendable {
        let partition: PartitionID
        let session: SessionID
    }

    struct Place: Sendable {
        let slot: Int
        let serial: UInt64
    }

    var hosts = HostTable()
    var pieces = PieceTable()
    // A place whose piece was revoked meanwhile is skipped.
    var queue = WaitingPlaces()
    // Suspect runs go out one at a time, each to a host that executes no other such run.
    var suspects: Deque<Place> = []
    var suspectItems = 0
    /// A host had another such run: the next is tried then.
    var suspectsAfter = Tick.zero
    /// No host took the next one when it was tried last.
    var suspectsLackHost = false
    // Items that are queued or sent, by priority.
    private var held = Array(repeating: 0, count: RequestPriority.allCases.count)
    private let attempts: Int
    /// Deaths from which on a run is suspect.
    let isolation: Int
    var random: UInt64

    /// Items that wait for a host.
    public internal(set) var queuedItems = 0
    /// Items that hosts hold.
    public internal(set) var sentItems = 0

    /// An empty dispatcher. `seed` decides the choices between equally near hosts; a test repeats them with it.
    public init(seed: UInt64, limits: Limits) {
        random = seed
        attempts = limits.attempts
        isolation = limits.deathsBeforeIsolation
    }

    /// Hosts that take work.
    public var hostCount: Int { hosts.count }
    /// Items and bytes that `host` may still be sent; nil if it is unknown.
    public func credit(of host: HostID) -> (items: Int, bytes: Int)? { hosts.credit(of: host) }

    /// Items of a priority that wait for a host or are with one.
    public func heldItems(of priority: RequestPriority) -> Int { held[Int(priority.rawValue)] }

    /// Sessions that it keeps a list for; bounded, tests see to that.
    var heldSessions: Int { pieces.sessionCount }

    /// When `tick` is due though nothing happens: a suspect run is to be tried, at once if nothing is in its way any
    /// more. Else `never`.
    /// It is `mutating` so that it works in place: a dispatcher is asked after each step of its node.
    mutating func nextDeadline() -> Tick {
        suspects.isEmpty || suspectItems > 0 || suspectsLackHost ? .never : suspectsAfter
    }

    /// Handles one event and appends what is to be done.
    public mutating func step(_ event: DispatcherEvent, now: Tick, out: inout [DispatcherDirective]) {
        switch event {
        case .enqueue(let run): enqueue(run)
        case .hostUp(let id, let isLocal, let creditItems, let creditBytes):
            hosts.up(id, isLocal: isLocal, items: max(creditItems, 1), bytes: max(creditBytes, 1))
        case .hostDown(let id): hostDown(id, out: &out)
        case .finished(let id, let runs):
            settle(id, runs, goesBack: false)
            if !suspects.isEmpty { dropSuspects(runs) }
        case .failed(let id, let runs): failed(id, runs, out: &out)
        case .counted(let id, let runs, let attempt): letGo(id, runs, upTo: attempt)
        case .returned(let id, let runs):
            let before = suspectItems
            settle(id, runs, goesBack: true)
            if suspectItems < before { suspectsAfter = now + Self.suspectPause }
        case .revoke(let run): revoke(run, out: &out)
        case .hostLost(let id): hostLost(id, out: &out)
        case .hostAway(let id): hostAway(id, out: &out)
        case .begun(let id, let run): begun(id, run)
        case .hostClosing(let id): hosts.close(id)
        case .adopt(let run, let id): adopt(run, by: id)
        case .forget(let partition): forget(partition)
        case .tick: send(now: now, out: &out)
        }
    }

    mutating func enqueue(_ run: OpenRun) {
        guard run.items.count > 0 else { return }
        let place = pieces.insert(run)
        if isSuspect(run) { suspects.append(place) } else { queue.append(place, run.priority) }
        queuedItems += run.items.count
        hold(run)
    }

    /// It was with so many processes that died that it is executed alone.
    func isSuspect(_ run: OpenRun) -> Bool { run.deaths >= isolation }

    /// Counts items that are queued or sent from here on.
    mutating func hold(_ run: OpenRun) { held[Int(run.priority.rawValue)] += run.items.count }

    // MARK: What comes back

    private mutating func settle(_ id: HostID, _ runs: [RequestRun], goesBack: Bool) {
        guard let host = hosts.slot(of: id) else { return }
        for run in runs {
            for slot in cut(run, where: { $0.host == host }) {
                release(slot)
                if goesBack && !pieces[slot].isRevoked { requeue(slot) } else { remove(slot) }
            }
        }
    }

    /// The pieces within `run` that `isWanted`, cut at its borders.
    mutating func cut(_ run: RequestRun, where isWanted: (PieceTable.Piece) -> Bool) -> [Int] {
        var cutOff: [Place] = []
        let slots = pieces.cut(run, cutOff: &cutOff, where: isWanted)
        for place in cutOff { prepend(place) }
        return slots
    }

    mutating func release(_ slot: Int) {
        let piece = pieces[slot]
        guard let host = piece.host else { preconditionFailure("\(piece.run.requests) is with no host") }
        hosts.give(host, items: piece.run.items.count, bytes: piece.chargedBytes)
        sentItems -= piece.run.items.count
        if isSuspect(piece.run) && !piece.isStranded { suspectItems -= piece.run.items.count }
        precondition(sentItems >= 0, "\(sentItems) items out after \(piece.run.requests)")
    }

    mutating func remove(_ slot: Int) {
        let run = pieces[slot].run
        held[Int(run.priority.rawValue)] -= run.items.count
        pieces.remove(slot)
    }

    mutating func requeue(_ slot: Int) {
        queuedItems += pieces[slot].run.items.count
        prepend(pieces.queueAgain(slot))
    }

    private mutating func prepend(_ place: Place) {
        let run = pieces[place.slot].run
        if isSuspect(run) { suspects.prepend(place) } else { queue.prepend(place, run.priority) }
    }

    private mutating func hostDown(_ id: HostID, out: inout [DispatcherDirective]) {
        guard let host = hosts.slot(of: id) else { return }
        // Backwards, since each goes to the front of the queue.
        for slot in pieces.slots(of: host).reversed() { tryAgain(slot, out: &out) }
        hosts.down(id)
    }

    private mutating func failed(_ id: HostID, _ runs: [RequestRun], out: inout [DispatcherDirective]) {
        guard let host = hosts.slot(of: id) else { return }
        for run in runs.reversed() {
            for slot in cut(run, where: { $0.host == host }).reversed() { tryAgain(slot, out: &out) }
        }
    }

    /// The host of a piece ended an attempt without an outcome.
    private mutating func tryAgain(_ slot: Int, out: inout [DispatcherDirective]) {
        release(slot)
        let run = pieces[slot].run
        if pieces[slot].isRevoked {
            remove(slot)
        } else if run.attempt >= attempts {
            remove(slot)
            let error = FlockError(.poison, "\(attempts) hosts were lost while they held the request", limit: .attempts)
            giveUp(run, error, out: &out)
        } else {
            pieces[slot].run.attempt += 1
            requeue(slot)
        }
    }

    func giveUp(_ run: OpenRun, _ error: FlockError, out: inout [DispatcherDirective]) {
        let outcome = OutcomeRun(sequences: run.requests.sequences, outcome: .failed(error))
        out.append(.giveUp(run.requests.partition, run.requests.session, outcome))
    }

    private mutating func revoke(_ run: RequestRun, out: inout [DispatcherDirective]) {
        for slot in cut(run, where: { !$0.isRevoked }) {
            let piece = pieces[slot]
            if let host = piece.host {
                pieces[slot].isRevoked = true
                out.append(.revoke(hosts.id(of: host), piece.run.requests))
            } else {
                queuedItems -= piece.run.items.count
                remove(slot)
            }
        }
    }

    // MARK: What goes out

    private mutating func send(now: Tick, out: inout [DispatcherDirective]) {
        while let level = queue.next() {
            let place = queue.first(of: level)
            guard pieces.isQueued(place) else {
                queue.removeFirst(of: level, items: 0)
                continue
            }
            let run = pieces[place.slot].run
            if let deadline = run.deadline, deadline <= now {
                queue.removeFirst(of: level, items: 0)
                queuedItems -= run.items.count
                remove(place.slot)
                giveUp(run, .pastDeadline, out: &out)
                continue
            }
            guard let host = hosts.choose(firstItem: run.items.byteCount(of: 0), random: &random) else { break }
            let fit = hosts.fit(run.items, on: host)
            precondition(fit > 0, "\(hosts.id(of: host)) was chosen without credit for \(run.requests)")
            queue.removeFirst(of: level, items: fit)
            if fit < run.items.count {
                queue.prepend(pieces.split(place.slot, after: fit), run.priority)
            }
            let part = pieces[place.slot].run
            pieces[place.slot].host = host
            pieces[place.slot].chargedBytes = hosts.take(host, items: fit, bytes: part.items.byteCount)
            queuedItems -= fit
            sentItems += fit
            hosts.stage(part, for: host)
        }
        sendSuspect(now: now, out: &out)
        hosts.takeStaged { host, runs in out.append(.send(host, runs: runs)) }
    }
}
