// Flockwork · Apache-2.0 · see LICENSE

// A thread that belongs to one instance of a stage. Code that blocks, or computes for long in a foreign library, would
// keep a thread of Swift's pool, of which there is one a core; here it keeps its own. Jobs are appended under a lock;
// the thread is woken only if it sleeps, so a busy instance costs no system call.

internal import CFlockRuntime
public import FlockWire
internal import Glibc

/// A thread that runs tasks: give it as their executor preference.
///
/// Runs until `end()`. A job that comes later (no task should have any left) goes to Swift's pool, so that none hangs.
public final class OwnThread: TaskExecutor {
    private struct State {
        var jobs: [UnownedJob] = []
        /// The next to append wakes the thread.
        var isAsleep = false
        var isEnding = false
        var hasEnded = false
        /// Nil once it was joined or let go.
        var thread: pthread_t?
    }

    /// What `top -H` shows: at most 15 bytes.
    public let name: String
    private let state = AdaptiveMutex(State())
    // A semaphore may be used by every thread; it is freed when nobody can any more.
    private nonisolated(unsafe) let wakeUps: UnsafeMutablePointer<sem_t>

    /// Starts the thread. Of a longer name the first 15 bytes are used.
    /// - Throws: `system` when the process may have no more threads.
    public init(name: String) throws(FlockError) {
        self.name = Self.shortened(name)
        wakeUps = .allocate(capacity: 1)
        sem_init(wakeUps, 0, 0)
        // The lock keeps the thread from ending before it is known.
        let code = state.withLock { start(&$0) }
        if code != 0 {
            throw FlockError(
                .system,
                "No thread for an instance (\(name)): \(String(cString: strerror(code))). "
                    + "Run fewer instances, or raise the limit of threads (ulimit -u).")
        }
    }

    private func start(_ state: inout State) -> Int32 {
        var thread = pthread_t()
        let retained = Unmanaged.passRetained(self)
        let code = pthread_create(
            &thread, nil,
            { argument in
                if let argument { Unmanaged<OwnThread>.fromOpaque(argument).takeRetainedValue().run() }
                return nil
            }, retained.toOpaque())
        if code == 0 { state.thread = thread } else { retained.release() }
        return code
    }

    deinit {
        // The last one to hold it may be the thread itself, after its end.
        if let thread = state.withLock({ $0.thread.take() }) { pthread_detach(thread) }
        sem_destroy(wakeUps)
        wakeUps.deallocate()
    }

    private static func shortened(_ name: String) -> String {
        var short = name
        while short.utf8.count > 15 { short.removeLast() }
        return short
    }

    /// The caller runs on this thread.
    public var isCurrent: Bool {
        state.withLock { $0.thread.map { pthread_equal($0, pthread_self()) != 0 } ?? false }
    }

    public func enqueue(_ job: consuming ExecutorJob) {
        let job = UnownedJob(job)
        let (isTaken, wakes) = state.withLock { state in
            if state.hasEnded { return (false, false) }
            state.jobs.append(job)
            defer { state.isAsleep = false }
            return (true, state.isAsleep)
        }
        // Outside of the lock, which the woken thread takes first. It cannot end before: nobody else wakes it.
        if wakes { sem_post(wakeUps) }
        if !isTaken { globalConcurrentExecutor.enqueue(job) }
    }

    /// Ends the thread when it has run what it was given. From any thread, also from this one.
    public func end() {
        let wakes = state.withLock { state in
            state.isEnding = true
            defer { state.isAsleep = false }
            return state.isAsleep
        }
        if wakes { sem_post(wakeUps) }
    }

    /// After `end()`: waits for the thread, which must have next to nothing left to do.
    public func join() {
        guard let thread = state.withLock({ $0.thread.take() }) else { return }
        if pthread_equal(thread, pthread_self()) != 0 { pthread_detach(thread) } else { pthread_join(thread, nil) }
    }

    // MARK: The thread

    private enum Next { case run, sleep, end }

    private func run() {
        flock_name_thread(name)
        var jobs: [UnownedJob] = []
        while true {
            switch next(&jobs) {
            case .run:
                for job in jobs { job.runSynchronously(on: asUnownedTaskExecutor()) }
                jobs.removeAll(keepingCapacity: true)
            // A signal's handler interrupts the wait.
            case .sleep: while sem_wait(wakeUps) != 0 {}
            case .end: return
            }
        }
    }

    private func next(_ jobs: inout [UnownedJob]) -> Next {
        state.withLock { state in
            if !state.jobs.isEmpty {
                swap(&state.jobs, &jobs)
                return .run
            }
            state.hasEnded = state.isEnding
            state.isAsleep = !state.isEnding
            return state.isEnding ? .end : .sleep
        }
    }
}
