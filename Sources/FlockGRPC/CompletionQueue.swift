// Flockwork · Apache-2.0 · see LICENSE

// A completion queue of gRPC's C core on a thread of its own, which is a Swift executor as well: calls, and actors that
// live there, share the thread and need no lock. An event costs a look-up and a method call; nothing is allocated, and
// nobody is woken who is awake.
//
// While the thread waits for gRPC the queue belongs to nobody, and a thread that brings a call may borrow it
// (`execute`): it runs the call itself, up to the write to the socket, instead of waking the other one for that. gRPC
// allows that, as long as one thread at a time deals with a call. So does a thread that takes errands with the jobs of
// tasks.

internal import CFlockRuntime
internal import CGRPC
internal import FlockTransport
public import FlockWire
internal import Glibc
internal import Synchronization

/// Something that gRPC tells when it is done. The completion queue holds it while it is under way.
class Operation {
    func completed(_ isSuccess: Bool) {}
}

/// One thread that drives calls and servers; an executor for the actors that use them.
///
/// Runs until `stop()`.
// Unchecked: everything but `state` and `owner` is touched by the queue's thread only (asserted).
public final class CompletionQueue: SerialExecutor, @unchecked Sendable {
    private enum Work {
        case call(@Sendable () -> Void)
        case job(UnownedJob)
        case taskJob(UnownedJob, QueueTaskExecutor)
    }

    private struct State {
        var work: [Work] = []
        /// The thread waits for gRPC, or is about to.
        var isAsleep = false
        /// A thread that brought work runs it, while the queue's own waits.
        var isLent = false
        /// The queue's own thread has an event, and waits until the queue is given back.
        var isWantedBack = false
        var taskExecutor: QueueTaskExecutor?
        var isShutDown = false
        var isStopped = false
        /// After the end: a thread is running `work`.
        var isDraining = false
        var thread: pthread_t?
        var waiters: [CheckedContinuation<Void, Never>] = []
    }

    /// For logs and the thread's name.
    public let name: String
    let queue: OpaquePointer
    private let wakeCall: OpaquePointer
    private let wakeChannel: OpaquePointer
    private let wakeTag: Unmanaged<Operation>
    private let givenBack: UnsafeMutablePointer<sem_t>
    private let state = Mutex(State())
    /// Whether the queue can be woken. Held by whoever wakes it; not `state`, which the woken thread needs at once.
    private let wakes = Mutex(true)
    private let owner = Atomic<UInt>(0)
    private var running: [Work] = []
    private var patience = LoopPatience(isBusy: false)
    /// Calls and servers that are not done; the queue stops when there are none.
    private var residents: [ObjectIdentifier: any QueueResident] = [:]
    private(set) var isStopping = false
    /// No operation may be begun any more.
    private(set) var isShutDown = false

    /// Starts the thread.
    /// - Throws: `system` when the process has no threads left.
    public init(name: String) throws(FlockError) {
        grpc_init()
        self.name = name
        queue = grpc_completion_queue_create_for_next(nil)
        var channel: OpaquePointer?
        wakeCall = flock_grpc_call_nowhere(queue, &channel)
        guard let channel else { preconditionFailure("gRPC makes no channel") }
        wakeChannel = channel
        wakeTag = Unmanaged.passRetained(Operation())
        givenBack = .allocate(capacity: 1)
        sem_init(givenBack, 0, 0)
        var thread = pthread_t()
        let retained = Unmanaged.passRetained(self)
        let code = pthread_create(
            &thread, nil,
            { argument in
                Unmanaged<CompletionQueue>.fromOpaque(argument!).takeRetainedValue().run()
                return nil
            }, retained.toOpaque())
        guard code == 0 else {
            retained.release()
            isShutDown = true
            throw FlockError(.system, "no thread for completion queue \(name): \(String(cString: strerror(code)))")
        }
        state.withLock { $0.thread = thread }
    }

    deinit {
        if isShutDown { grpc_completion_queue_shutdown(queue) }
        grpc_call_unref(wakeCall)
        grpc_channel_destroy(wakeChannel)
        while flock_grpc_next(queue, false).type == GRPC_OP_COMPLETE {}
        grpc_completion_queue_destroy(queue)
        wakeTag.release()
        sem_destroy(givenBack)
        givenBack.deallocate()
        grpc_shutdown()
    }

    /// The caller runs on the queue's thread, or borrows the queue.
    public var isCurrent: Bool { owner.load(ordering: .relaxed) == UInt(pthread_self()) }

    public func checkIsolated() { precondition(isCurrent, "not on completion queue \(name)") }

    public func isIsolatingCurrentContext() -> Bool? { isCurrent }

    public func enqueue(_ job: consuming ExecutorJob) { submit(.job(UnownedJob(job))) }

    /// Runs tasks (not actors) on the queue's thread. A separate object: as one executor for both, jobs are enqueued
    /// twice.
    package var taskExecutor: any TaskExecutor {
        state.withLock { state in
            if let existing = state.taskExecutor { return existing }
            let made = QueueTaskExecutor(queue: self)
            // The two hold each other until the queue stops.
            if !state.isStopped { state.taskExecutor = made }
            return made
        }
    }

    fileprivate func enqueue(_ job: UnownedJob, of executor: QueueTaskExecutor) {
        submit(.taskJob(job, executor), mayBorrow: Errands.isOpen)
    }

    /// Runs short `work` on the queue: at once if the caller is there, or if the queue's thread waits for gRPC; then
    /// the caller must hold no lock that anything on the queue could want. After the queue stopped it runs at once,
    /// serially, on the caller's thread, so that no task hangs.
    package func execute(_ work: @escaping @Sendable () -> Void) {
        if isCurrent { work() } else { submit(.call(work), mayBorrow: true) }
    }

    private enum Duty { case nothing, wake, borrow, drain }

    private func submit(_ work: Work, mayBorrow: Bool = false) {
        let duty = state.withLock { state -> Duty in
            state.work.append(work)
            if state.isStopped {
                defer { state.isDraining = true }
                return state.isDraining ? .nothing : .drain
            }
            guard state.isAsleep else { return .nothing }
            state.isAsleep = false
            guard mayBorrow, !state.isShutDown else { return .wake }
            state.isLent = true
            return .borrow
        }
        switch duty {
        case .nothing: break
        case .wake: wake()
        case .borrow:
            // Not within what the thread is at: it may have a loop.
            if Errands.isOpen { Errands.leave { self.borrow(withJobs: true) } } else { borrow(withJobs: false) }
        case .drain: drainAfterStop()
        }
    }

    /// Runs what was brought on this thread, one round of it; jobs of tasks, which may take their time, only where they
    /// are wanted. What comes meanwhile is for the queue's own thread.
    private func borrow(withJobs: Bool) {
        owner.store(UInt(pthread_self()), ordering: .relaxed)
        runRound(leavesJobs: !withJobs)
        owner.store(0, ordering: .relaxed)
        let (isWantedBack, hasWork) = state.withLock { state in
            state.isLent = false
            defer { state.isWantedBack = false }
            state.isAsleep = !state.isWantedBack && state.work.isEmpty
            return (state.isWantedBack, !state.work.isEmpty)
        }
        if isWantedBack { sem_post(givenBack) } else if hasWork { wake() }
    }

    /// By the one that has found the thread asleep, or has kept it so. It may have woken by itself meanwhile, and even
    /// have gone back to sleep: then it wakes once for nothing.
    private func wake() {
        wakes.withLock { isPossible in
            // One that is shut down takes no more operations; its thread wakes up by that.
            guard isPossible else { return }
            // Under a lock: starting batches on one call must not be done by two threads at once.
            let isTaken = flock_grpc_start_nothing(wakeCall, wakeTag.toOpaque())
            precondition(isTaken, "completion queue \(name) cannot be woken")
        }
    }

    /// After the end: whoever brings work runs it, one thread at a time.
    private func drainAfterStop() {
        // What runs may let go of the last reference to the queue, and an executor is called without one.
        let held = Unmanaged.passRetained(self)
        defer { held.release() }
        owner.store(UInt(pthread_self()), ordering: .relaxed)
        repeat {
            runWork()
        } while !state.withLock { state in
            guard state.work.isEmpty else { return false }
            state.isDraining = false
            owner.store(0, ordering: .relaxed)
            return true
        }
    }

    // MARK: The thread

    func enter(_ resident: any QueueResident) { residents[ObjectIdentifier(resident)] = resident }

    func leave(_ resident: any QueueResident) {
        residents[ObjectIdentifier(resident)] = nil
        shutDownWhenEmpty()
    }

    private func run() {
        owner.store(UInt(pthread_self()), ordering: .relaxed)
        flock_name_thread(String(name.prefix(15)))
        while true {
            runWork()
            let event = next()
            switch event.type {
            case GRPC_OP_COMPLETE:
                if event.tag != wakeTag.toOpaque() {
                    Unmanaged<Operation>.fromOpaque(event.tag).takeRetainedValue().completed(event.success != 0)
                }
            case GRPC_QUEUE_SHUTDOWN: return finish()
            default: break
            }
        }
    }

    /// The next event; none if there is work. Before the thread blocks it may look for a moment, so that a worker that
    /// answers need not wake it: see `LoopPatience`.
    private func next() -> grpc_event {
        let start = Tick.now.nanoseconds
        var event = flock_grpc_next(queue, false)
        if event.type == GRPC_QUEUE_TIMEOUT, patience.looks(at: start) { event = look(from: start) }
        if event.type == GRPC_QUEUE_TIMEOUT, fallAsleep() {
            event = flock_grpc_next(queue, true)
            takeBack()
        }
        patience.waited(Tick.now.nanoseconds - start)
        return event
    }

    private func look(from start: UInt64) -> grpc_event {
        var last = start
        while true {
            // To whoever else wants this core.
            sched_yield()
            let event = flock_grpc_next(queue, false)
            guard event.type == GRPC_QUEUE_TIMEOUT, !hasWork else { return event }
            let now = Tick.now.nanoseconds
            if now - last > LoopPatience.disturbance {
                patience.disturbed(at: now)
                return event
            }
            guard now - start < LoopPatience.longestLook else { return event }
            last = now
        }
    }

    private var hasWork: Bool { state.withLock { !$0.work.isEmpty } }

    private func runWork() {
        repeat { runRound() } while hasWork
    }

    /// Runs what has come so far.
    private func runRound(leavesJobs: Bool = false) {
        state.withLock { state in
            state.isAsleep = false
            swap(&state.work, &running)
        }
        for index in running.indices {
            switch running[index] {
            case .call(let body): body()
            case .job(let job):
                if leavesJobs { return leave(from: index) }
                job.runSynchronously(on: asUnownedSerialExecutor())
            case .taskJob(let job, let executor):
                if leavesJobs { return leave(from: index) }
                job.runSynchronously(on: executor.asUnownedTaskExecutor())
            }
        }
        running.removeAll(keepingCapacity: true)
    }

    /// The rest waits for the queue's own thread, ahead of what has come since.
    private func leave(from index: Int) {
        state.withLock { $0.work.insert(contentsOf: running[index...], at: 0) }
        running.removeAll(keepingCapacity: true)
    }

    private func fallAsleep() -> Bool {
        state.withLock { state in
            state.isAsleep = state.work.isEmpty
            // Before another thread may borrow it.
            if state.isAsleep { owner.store(0, ordering: .relaxed) }
            return state.isAsleep
        }
    }

    /// The queue's own thread goes on.
    private func takeBack() {
        let isLent = state.withLock { state in
            state.isAsleep = false
            state.isWantedBack = state.isLent
            return state.isLent
        }
        while isLent && sem_wait(givenBack) != 0 {}
        owner.store(UInt(pthread_self()), ordering: .relaxed)
    }

    /// Ends all calls and servers, then the thread. Returns when nothing of the queue is left; may be called twice.
    public func stop() async {
        await withCheckedContinuation { continuation in
            let isStopped = state.withLock { state in
                if !state.isStopped { state.waiters.append(continuation) }
                return state.isStopped
            }
            if isStopped {
                continuation.resume()
            } else {
                submit(.call { [self] in beginStop() })
            }
        }
        guard let thread = state.withLock({ $0.thread.take() }) else { return }
        if pthread_equal(thread, pthread_self()) != 0 { pthread_detach(thread) } else { pthread_join(thread, nil) }
    }

    private func beginStop() {
        guard !isStopping else { return }
        isStopping = true
        for resident in Array(residents.values) { resident.queueStops() }
        shutDownWhenEmpty()
    }

    private func shutDownWhenEmpty() {
        guard isStopping, residents.isEmpty, !isShutDown else { return }
        isShutDown = true
        state.withLock { $0.isShutDown = true }
        wakes.withLock { $0 = false }
        grpc_completion_queue_shutdown(queue)
    }

    private func finish() {
        // What was submitted meanwhile runs here; after `isStopped` nothing may come.
        while true {
            runWork()
            let waiters = state.withLock { state -> [CheckedContinuation<Void, Never>]? in
                guard state.work.isEmpty else { return nil }
                state.isStopped = true
                state.taskExecutor = nil
                defer { state.waiters = [] }
                return state.waiters
            }
            guard let waiters else { continue }
            owner.store(0, ordering: .relaxed)
            for waiter in waiters { waiter.resume() }
            return
        }
    }
}

/// Runs tasks on a `CompletionQueue`.
private final class QueueTaskExecutor: TaskExecutor {
    private let queue: CompletionQueue

    init(queue: CompletionQueue) { self.queue = queue }

    func enqueue(_ job: consuming ExecutorJob) { queue.enqueue(UnownedJob(job), of: self) }
}

/// A call or server of a queue, which a stopping queue tells to end.
protocol QueueResident: AnyObject {
    func queueStops()
}
