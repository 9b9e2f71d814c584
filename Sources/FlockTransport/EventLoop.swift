// Flockwork · Apache-2.0 · see LICENSE

// One libuv loop on a thread of its own, which is a Swift executor as well: actors pinned to it, its connections and
// its timers share the thread and need no lock. Work from elsewhere is appended to a list under a mutex; the loop is
// woken only if it sleeps.
//
// A turn: I/O callbacks → work, jobs and turn hooks in rounds → every dirty connection is flushed once.
//
// To wake a thread takes longer than most turns. So whoever brings work to a loop that sleeps may borrow it
// (`perform`): run the turn itself and give the loop back, while the loop's own thread goes on blocking (LoopThread).

internal import CFlockRuntime
internal import CLibuv
public import FlockWire
internal import Glibc
internal import Synchronization

/// What a loop runs besides I/O.
enum LoopWork: Sendable {
    case call(@Sendable () -> Void)
    case actorJob(UnownedJob)
    case taskJob(UnownedJob, LoopTaskExecutor)
}

/// Something with uv handles, which a stopping loop tells to close them.
protocol LoopResident: AnyObject {
    func loopStops()
}

/// A libuv loop on its own thread; an executor for actors and tasks.
///
/// Runs until `stop()`. Work that comes after that is run at once, serially, by the thread that brings it, so that no
/// task hangs; connections and listeners cannot be made any more.
// Unchecked: everything but `inbox`, `owner` and `senders` is touched only by the thread that runs the loop (asserted).
public final class EventLoop: SerialExecutor, @unchecked Sendable {
    enum Phase { case running, closing, stopped }

    struct Inbox {
        var work: [LoopWork] = []
        var phase = Phase.running
        /// The loop is about to block or blocks: the next to append wakes it, or borrows it.
        var isAsleep = false
        /// A thread that brought work runs a turn while the loop's own thread blocks.
        var isLent = false
        /// The loop's own thread has something to do and waits until the loop is given back.
        var isWantedBack = false
        /// In phase `stopped`: a thread is running `work`.
        var isDraining = false
        var stopWaiters: [CheckedContinuation<Void, Never>] = []
        /// What is given back when nothing of the loop is left.
        var lastActs: [@Sendable () -> Void] = []
        var thread: pthread_t?
        var taskExecutor: LoopTaskExecutor?
    }

    /// For logs and the thread's name.
    public let name: String
    /// The bounds that connections, calls and stages of this loop met.
    public let limitsReached = LimitCounts()
    /// It always looks for work for a moment before it blocks, not only while that pays.
    public let busyPoll: Bool
    let handles: LoopHandles
    let inbox = Mutex(Inbox())
    /// The thread that runs the loop now: its own, one that borrows it, or (while it sleeps) none.
    let owner = Atomic<UInt>(0)
    /// Threads between the decision to wake the loop and the wake-up: the handle must outlive them.
    let senders = Atomic<Int>(0)
    /// The inbox is not empty; changed under its lock.
    let hasInboxWork = Atomic<Bool>(false)

    // Of the thread that runs the loop.
    var running: [LoopWork] = []
    var ownWork: [LoopWork] = []
    var armedHooks: [TurnHook] = []
    var runningHooks: [TurnHook] = []
    var dirty: [FrameStream] = []
    var settling: [FrameStream] = []
    var timers = TimerHeap()
    var residents: [ObjectIdentifier: any LoopResident] = [:]
    var isStopping = false
    var patience: LoopPatience
    /// What tests let go wrong with connections; on the loop.
    package var faults: LinkFaults?

    /// Starts the thread.
    /// - Throws: `system` when the process has no descriptors or threads left.
    public init(name: String, busyPoll: Bool = false) throws(FlockError) {
        _ = ProcessSetup.once
        self.name = name
        self.busyPoll = busyPoll
        patience = LoopPatience(isBusy: busyPoll)
        handles = try LoopHandles.make(loopName: name)
        handles.attach(to: self)
        let code = start()
        if code != 0 {
            handles.closeAll()
            throw FlockError(.system, "no thread for event loop \(name): \(String(cString: strerror(code)))")
        }
    }

    private func start() -> Int32 {
        var thread = pthread_t()
        let retained = Unmanaged.passRetained(self)
        let code = pthread_create(
            &thread, nil,
            { argument in
                Unmanaged<EventLoop>.fromOpaque(argument!).takeRetainedValue().run()
                return nil
            }, retained.toOpaque())
        if code != 0 {
            retained.release()
            return code
        }
        inbox.withLock { $0.thread = thread }
        return 0
    }

    deinit { handles.free() }

    /// The caller is what the loop runs: on its thread, or on one that borrows it.
    public var isCurrent: Bool { owner.load(ordering: .relaxed) == UInt(pthread_self()) }

    /// Monotonic time, that of `uv_hrtime`.
    public static var now: Tick { Tick(nanoseconds: uv_hrtime()) }

    /// Runs `work` on the loop, at the end of its turn; from any thread.
    public func execute(_ work: @escaping @Sendable () -> Void) { submit(.call(work)) }

    /// Runs short `work` on the loop, as `execute` does; if the loop sleeps, at once and on the calling thread.
    ///
    /// What the turn then does besides, up to writing to its connections, it does on this thread too. The caller must
    /// hold no lock that anything on the loop could want.
    public func perform(_ work: @escaping @Sendable () -> Void) { submit(.call(work), mayBorrow: true) }

    public func enqueue(_ job: consuming ExecutorJob) { submit(.actorJob(UnownedJob(job))) }

    /// What is left to do for whoever brought work.
    private enum Duty { case nothing, wake, borrow, drain }

    func submit(_ work: LoopWork, mayBorrow: Bool = false) {
        // No lock and no wake-up: whatever runs on this thread is followed by the end of a turn. Behind work that came
        // from elsewhere before, it queues there: work runs in the order in which it came.
        if isCurrent && !hasInboxWork.load(ordering: .acquiring) {
            ownWork.append(work)
            return
        }
        let duty = inbox.withLock { inbox -> Duty in
            inbox.work.append(work)
            hasInboxWork.store(true, ordering: .releasing)
            if inbox.phase == .stopped {
                defer { inbox.isDraining = true }
                return inbox.isDraining ? .nothing : .drain
            }
            guard inbox.isAsleep, inbox.phase == .running else { return .nothing }
            inbox.isAsleep = false
            if mayBorrow {
                inbox.isLent = true
                return .borrow
            }
            senders.add(1, ordering: .relaxed)
            return .wake
        }
        switch duty {
        case .nothing: break
        case .wake: wake()
        case .borrow: borrow()
        case .drain: drainAfterStop()
        }
    }

    public func checkIsolated() {
        precondition(isCurrent, "not on event loop \(name)")
    }

    public func isIsolatingCurrentContext() -> Bool? { isCurrent }

    /// Runs tasks (not actors) on the loop. A separate object: as one executor for both, jobs are enqueued twice.
    public var taskExecutor: any TaskExecutor {
        inbox.withLock { inbox in
            if let existing = inbox.taskExecutor { return existing }
            let made = LoopTaskExecutor(loop: self)
            // The two hold each other until the loop stops.
            if inbox.phase != .stopped { inbox.taskExecutor = made }
            return made
        }
    }

    // MARK: The end

    /// Closes everything and joins the thread. Returns when nothing of the loop is left; may be called twice.
    public func stop() async {
        await withCheckedContinuation { continuation in
            let isStopped = inbox.withLock { inbox in
                if inbox.phase != .stopped { inbox.stopWaiters.append(continuation) }
                return inbox.phase == .stopped
            }
            if isStopped {
                continuation.resume()
            } else {
                execute { [unowned self] in isStopping = true }
            }
        }
        guard let thread = inbox.withLock({ $0.thread.take() }) else { return }
        // A task of the loop's own executor is resumed by the ending thread itself.
        if pthread_equal(thread, pthread_self()) != 0 { pthread_detach(thread) } else { pthread_join(thread, nil) }
    }

    /// Has something done when nothing of the loop is left, before `stop` returns. False if it is too late for that.
    func atEnd(_ act: @escaping @Sendable () -> Void) -> Bool {
        inbox.withLock { inbox in
            guard inbox.phase != .stopped else { return false }
            inbox.lastActs.append(act)
            return true
        }
    }

    /// On the loop's own thread, at its end.
    func shutDown() {
        isStopping = true
        for resident in Array(residents.values) { resident.loopStops() }
        // At once, whatever else the turn has to do: the handles must be on their way to be closed.
        settleStreams()
        for timer in timers.removeAll() { timer.drop() }
        endTurn()
        inbox.withLock { inbox in
            inbox.phase = .closing
            inbox.isAsleep = false
        }
        while senders.load(ordering: .acquiring) > 0 { sched_yield() }
        // Close callbacks of streams and requests run here; jobs they cause run below.
        handles.closeAll()
        precondition(residents.isEmpty, "event loop \(name) ends with \(residents.count) open handles")
        repeat { endTurn() } while !becomeStopped()
        let waiters = inbox.withLock { inbox in
            inbox.taskExecutor = nil
            defer {
                inbox.stopWaiters = []
                inbox.lastActs = []
            }
            return (stop: inbox.stopWaiters, acts: inbox.lastActs)
        }
        owner.store(0, ordering: .relaxed)
        for act in waiters.acts { act() }
        for waiter in waiters.stop { waiter.resume() }
    }

    private func becomeStopped() -> Bool {
        if hasOwnWork { return false }
        return inbox.withLock { inbox in
            guard inbox.work.isEmpty else { return false }
            inbox.phase = .stopped
            return true
        }
    }

    /// After the end: whoever brings work runs it, one thread at a time.
    private func drainAfterStop() {
        // What runs may let go of the last reference to the loop, and an executor is called without one.
        let held = Unmanaged.passRetained(self)
        defer { held.release() }
        while true {
            let work = inbox.withLock { inbox -> [LoopWork] in
                defer { inbox.work = [] }
                hasInboxWork.store(false, ordering: .relaxed)
                if inbox.work.isEmpty { inbox.isDraining = false }
                return inbox.work
            }
            if work.isEmpty { return }
            owner.store(UInt(pthread_self()), ordering: .relaxed)
            ownWork.append(contentsOf: work)
            repeat { endTurn() } while hasOwnWork
            owner.store(0, ordering: .relaxed)
        }
    }
}

/// Runs tasks on an `EventLoop`.
final class LoopTaskExecutor: TaskExecutor {
    private let loop: EventLoop

    init(loop: EventLoop) { self.loop = loop }

    func enqueue(_ job: consuming ExecutorJob) { loop.submit(.taskJob(UnownedJob(job), self)) }
}

/// Settings of the process that a transport needs, made once.
enum ProcessSetup {
    static let once: Void = {
        // A write to a closed socket is an error, not the end of the process.
        signal(SIGPIPE, SIG_IGN)
        flock_tune_malloc()
    }()
}
