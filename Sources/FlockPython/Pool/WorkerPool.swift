// Flockwork · Apache-2.0 · see LICENSE

// Which worker gets which batch, and what happens when one dies, hangs or cannot be started. Pure: events and the time
// go in, directives come out. Every batch that is submitted ends in exactly one `deliver` or `fail`.
//
// A worker works on its batches in order, so the first that it holds is the one in work: if the worker dies, that batch
// is charged with the death, and the others are not. A batch with two deaths is a suspect. Suspects run one at a time
// in quarantine, where a death is proof; the caller then halves the batch and sends the halves as suspects.

internal import DequeModule
internal import FlockWire

/// A batch, within a pool.
typealias BatchID = UInt64
/// A worker process, within a pool.
typealias WorkerID = Int

/// The workers of one Python model on one node.
struct WorkerPool: Sendable {
    /// What happened.
    enum Event: Sendable, Equatable {
        /// A batch wants to be worked on; in quarantine if it is a suspect.
        case submit(BatchID, isSuspect: Bool)
        /// Nobody waits for it any more.
        case withdraw(BatchID)
        /// The handler is loaded.
        case ready(WorkerID)
        /// There is a result or an exception for a batch.
        case answered(WorkerID, BatchID)
        /// The link or the process has ended; whichever is seen first.
        case lost(WorkerID)
        /// The process has ended, with all that it started.
        case ended(WorkerID)
        /// It answered a ping.
        case heard(WorkerID)
        /// Workers of another version are to take the place of these.
        case replace(version: Int)
        /// Time went on.
        case tick
        /// No more batches come.
        case close
    }

    /// What to do.
    enum Directive: Sendable, Equatable {
        case start(WorkerID, version: Int)
        case assign(BatchID, to: WorkerID)
        /// The caller gets what the worker answered.
        case deliver(BatchID)
        case fail(BatchID, Failure)
        /// Have it write all its stacks.
        case dump(WorkerID)
        /// With all that it started.
        case kill(WorkerID)
        /// It gets no more batches, and is to end by itself.
        case finish(WorkerID)
        /// A new version has taken over.
        case adopted(version: Int)
        /// A new version could not be started; the old one goes on.
        case rejected(version: Int)
        /// The last worker has ended.
        case closed
    }

    /// Why a batch has no answer.
    enum Failure: Sendable, Equatable {
        /// It was alone in a process that died, or hung, after two others had.
        case poison
        /// No process can be started.
        case noWorkers
        /// The pool is closing.
        case closing
        /// Nobody waits.
        case withdrawn
    }

    /// What a worker is at.
    enum Phase: Sendable, Equatable {
        case starting
        case serving
        /// Ready, to take the place of another one.
        case spare
        /// For suspects.
        case quarantine
        /// Finishes what it holds.
        case draining
        /// Was told to end.
        case finishing
        /// Hangs, and writes its stacks until then.
        indirect case dumping(until: Tick, before: Phase)
        /// Dead, or dying.
        case dead
    }

    struct Worker: Sendable {
        let id: WorkerID
        let version: Int
        var phase = Phase.starting
        /// In the order in which it works on them.
        var held: [BatchID] = []
        /// Since when the first of them is in work.
        var headSince: Tick
        /// When its phase began.
        var since: Tick
        /// When it last said something.
        var heard: Tick
        var hasAnswered = false
    }

    struct Entry: Sendable {
        var deaths = 0
        var isSuspect: Bool
        var isWithdrawn = false
    }

    let settings: PoolSettings
    var workers: [Worker] = []
    var batches: [BatchID: Entry] = [:]
    var queue: Deque<BatchID> = []
    var suspects: Deque<BatchID> = []
    var nextWorker: WorkerID = 1
    /// The version whose workers take batches, and one that is to follow it.
    var version: Int
    var incoming: Int?
    var incomingFailures = 0
    /// Every place was filled once; before that, no spare is started.
    var wasFull = false
    var isClosing = false
    var isClosed = false
    /// Workers, one after another, that ended before they had answered anything; and that were never ready.
    var failures = 0
    var failedStarts = 0
    var nextStart = Tick(nanoseconds: 0)
    var crashes: Deque<Tick> = []
    /// Processes that ended without being told to.
    private(set) var restarts: UInt64 = 0
    /// When the last batch was answered: the health of the pool.
    private(set) var lastAnswer: Tick?

    init(_ settings: PoolSettings, version: Int = 1) {
        precondition(settings.workers > 0 && settings.window > 0, "a pool without workers")
        self.settings = settings
        self.version = version
    }

    /// Workers that take batches.
    var serving: Int { workers.count { $0.phase == .serving && $0.version == version } }

    /// Batches without an answer.
    var open: Int { batches.count }

    /// When a tick is wanted; nil for no time in particular.
    var wakeUp: Tick? {
        var earliest: Tick?
        for worker in workers {
            if case .dumping(let until, _) = worker.phase { earliest = min(earliest ?? until, until) }
        }
        if failures > 0 || crashes.count > settings.crashes, missing(version) > 0 {
            earliest = min(earliest ?? nextStart, nextStart)
        }
        return earliest
    }

    /// Takes an event in; what to do is appended to `directives`.
    mutating func step(_ event: Event, now: Tick, _ directives: inout [Directive]) {
        switch event {
        case .submit(let batch, let isSuspect):
            precondition(batches[batch] == nil, "batch \(batch) was submitted twice")
            if isClosing { return directives.append(.fail(batch, .closing)) }
            batches[batch] = Entry(isSuspect: isSuspect)
            if isSuspect { suspects.append(batch) } else { queue.append(batch) }
        case .withdraw(let batch): withdraw(batch, &directives)
        case .ready(let id): ready(id, now)
        case .answered(let id, let batch): answered(id, batch, now, &directives)
        case .lost(let id):
            // One that was told to end closes its link first, and has things to do after that.
            if index(id).map({ workers[$0].phase }) != .finishing { lose(id, now, &directives) }
        case .ended(let id):
            lose(id, now, &directives)
            workers.removeAll { $0.id == id }
        case .heard(let id): update(id) { $0.heard = now }
        case .replace(let next):
            incoming = next
            incomingFailures = 0
            for worker in workers where worker.version != version { retire(worker.id, now, &directives) }
        case .tick: look(now, &directives)
        case .close: close(now, &directives)
        }
        settle(now, &directives)
    }

    func index(_ id: WorkerID) -> Int? { workers.firstIndex { $0.id == id } }

    mutating func update(_ id: WorkerID, _ body: (inout Worker) -> Void) {
        if let index = index(id) { body(&workers[index]) }
    }

    // MARK: Batches

    private mutating func withdraw(_ batch: BatchID, _ directives: inout [Directive]) {
        guard let entry = batches[batch], !entry.isWithdrawn else { return }
        directives.append(.fail(batch, .withdrawn))
        if let place = queue.firstIndex(of: batch) {
            queue.remove(at: place)
            batches[batch] = nil
        } else if let place = suspects.firstIndex(of: batch) {
            suspects.remove(at: place)
            batches[batch] = nil
        } else {
            // A worker has it, and will say something about it.
            batches[batch]?.isWithdrawn = true
        }
    }

    private mutating func answered(
        _ id: WorkerID, _ batch: BatchID, _ now: Tick, _ directives: inout [Directive]
    ) {
        // A dead worker holds nothing: what it still says is not heard, since the batch is another one's by now.
        guard let index = index(id), let place = workers[index].held.firstIndex(of: batch) else { return }
        workers[index].held.remove(at: place)
        workers[index].headSince = now
        workers[index].heard = now
        workers[index].hasAnswered = true
        if case .dumping(_, let before) = workers[index].phase { workers[index].phase = before }
        lastAnswer = now
        failures = 0
        if let entry = batches.removeValue(forKey: batch), !entry.isWithdrawn { directives.append(.deliver(batch)) }
    }

    /// A worker is gone, or as good as gone: its batches are somebody else's.
    mutating func lose(_ id: WorkerID, _ now: Tick, _ directives: inout [Directive]) {
        guard let index = index(id), workers[index].phase != .dead else { return }
        let worker = workers[index]
        workers[index].phase = .dead
        workers[index].since = now
        workers[index].held = []
        directives.append(.kill(id))
        var phase = worker.phase
        if case .dumping(_, let before) = phase { phase = before }
        count(worker, phase, now, &directives)
        for (place, batch) in worker.held.enumerated().reversed() {
            guard var entry = batches[batch] else { preconditionFailure("worker \(id) holds an unknown batch") }
            if entry.isWithdrawn {
                batches[batch] = nil
            } else if isClosing {
                batches[batch] = nil
                directives.append(.fail(batch, .closing))
            } else if place > 0 {
                if entry.isSuspect { suspects.prepend(batch) } else { queue.prepend(batch) }
            } else if entry.isSuspect {
                batches[batch] = nil
                directives.append(.fail(batch, .poison))
            } else {
                entry.deaths += 1
                entry.isSuspect = entry.deaths >= 2
                batches[batch] = entry
                if entry.isSuspect { suspects.append(batch) } else { queue.prepend(batch) }
            }
        }
    }

    /// What the end of a worker means for starting others.
    private mutating func count(_ worker: Worker, _ phase: Phase, _ now: Tick, _ directives: inout [Directive]) {
        guard phase != .finishing, !isClosing else { return }
        restarts += 1
        if worker.version != version {
            guard worker.version == incoming else { return }
            incomingFailures += 1
            guard incomingFailures >= settings.incomingFailures else { return }
            incoming = nil
            directives.append(.rejected(version: worker.version))
            for other in workers where other.version == worker.version { retire(other.id, now, &directives) }
            return
        }
        // Suspects are expected to kill their worker; that says nothing about the others.
        guard phase != .quarantine, phase != .draining else { return }
        crashes.append(now)
        while let first = crashes.first, now - first > settings.crashTime { crashes.removeFirst() }
        if !worker.hasAnswered { failures += 1 }
        if phase == .starting { failedStarts += 1 }
        var delay = Duration.zero
        if failures > 0 { delay = min(settings.firstBackOff * (1 << min(failures - 1, 20)), settings.lastBackOff) }
        if crashes.count > settings.crashes { delay = max(delay, settings.crashTime / settings.crashes) }
        nextStart = max(nextStart, now + delay)
    }
}
