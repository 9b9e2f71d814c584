// Flockwork · Apache-2.0 · see LICENSE

// A completion queue of gRPC's C core on a thread of its own, which is a Swift executor as well: calls, and actors that
// live there, share the thread and need no lock. An event costs a look-up and a method call; nothing is allocated, and
// nobody is woken who is awake. Other threads may borrow it: see CompletionQueue+Lending.swift.

internal import CFlockRuntime
internal import CGRPC
internal import FlockTransport
public import FlockWire
internal import Glibc
internal import Synchronization

/// Something that gRPC tells when it is done. The completion queue holds it while it is under way.
class Operation {
    /// Somebody wants to know at once when it is done.
    var isAwaited: Bool { true }

    func completed(_ isSuccess: Bool) {}
}

/// One thread that drives calls and servers; an executor for the actors that use them.
///
/// Runs until `stop()`.
// Unchecked: everything but `state`, `wakes` and `owner` is touched by the one thread that has the queue.
public final class CompletionQueue: SerialExecutor, @unchecked Sendable {
    enum Work {
        case call(@Sendable () -> Void)
        case job(UnownedJob)
        case taskJob(UnownedJob, QueueTaskExecutor)
    }

    struct State {
        var work: [Work] = []
        var ownThread = OwnThread.awake
        /// Another thread has the queue.
        var isLent = false
        var heldEvent: HeldEvent?
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
    let wakeCall: OpaquePointer
    private let wakeChannel: OpaquePointer
    let wakeTag: Unmanaged<Operation>
    let givenBack: UnsafeMutablePointer<sem_t>
    let state = Mutex(State())
    /// Whether the queue can be woken. Held by whoever wakes it; not `state`, which the woken thread needs at once.
    let wakes = Mutex(true)
    let owner = Atomic<UInt>(0)
    var running: [Work] = []
    var patience = LoopPatience()
    /// Calls and servers that are not done; the queue stops when there are none.
    private var residents: [ObjectIdentifier: any QueueResident] = [:]
    /// Operations under way that somebody waits for.
    private(set) var awaited = 0
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

    private enum Duty {
        case nothing, borrow, drain
        case wake(from: OwnThread)
    }

    private func submit(_ work: Work, mayBorrow: Bool = false) {
        let duty = state.withLock { state -> Duty in
            state.work.append(work)
            if state.isStopped {
                defer { state.isDraining = true }
                return state.isDraining ? .nothing : .drain
            }
            guard state.ownThread != .awake, !state.isLent else { return .nothing }
            guard mayBorrow, !state.isShutDown else {
                defer { state.ownThread = .awake }
                return .wake(from: state.ownThread)
            }
            state.isLent = true
            return .borrow
        }
        switch duty {
        case .nothing: break
        case .wake(let place): wake(from: place)
        case .borrow:
            // Not within what the thread is at: it may have a loop.
            if Errands.isOpen { Errands.leave(borrowForTasks) } else { borrowForCalls() }
        case .drain: drainAfterStop()
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

    // MARK: Calls and servers, on the queue

    func enter(_ resident: any QueueResident) { residents[ObjectIdentifier(resident)] = resident }

    func leave(_ resident: any QueueResident) {
        residents[ObjectIdentifier(resident)] = nil
        shutDownWhenEmpty()
    }

    /// Begins an operation that ends with `operation`; false if gRPC does not take it.
    func start(_ operation: Operation, _ begin: (UnsafeMutableRawPointer) -> Bool) -> Bool {
        let retained = Unmanaged.passRetained(operation)
        guard begin(retained.toOpaque()) else {
            retained.release()
            return false
        }
        if operation.isAwaited { awaited += 1 }
        return true
    }

    func take(_ event: grpc_event) {
        guard event.type == GRPC_OP_COMPLETE, event.tag != wakeTag.toOpaque() else { return }
        let operation = Unmanaged<Operation>.fromOpaque(event.tag).takeRetainedValue()
        if operation.isAwaited { awaited -= 1 }
        operation.completed(event.success != 0)
    }

    // MARK: The end

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

    func finish() {
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
final class QueueTaskExecutor: TaskExecutor {
    private let queue: CompletionQueue

    init(queue: CompletionQueue) { self.queue = queue }

    func enqueue(_ job: consuming ExecutorJob) { queue.enqueue(UnownedJob(job), of: self) }
}

/// A call or server of a queue, which a stopping queue tells to end.
protocol QueueResident: AnyObject {
    func queueStops()
}
