// Flockwork · Apache-2.0 · see LICENSE

internal import Glibc

// `Synchronization.Mutex` is a priority-inheriting futex on Linux: once it is contended, every unlock is a system call
// that hands the lock to a sleeper, and several threads that take it often form a convoy (measured: asks of a thousand
// tasks ran at half the rate). An adaptive pthread mutex spins for a moment and lets a running thread pass.

/// A lock around a value, for short critical sections that many threads enter all the time.
public final class AdaptiveMutex<State: ~Copyable>: Sendable {
    // Both are touched only while the lock is held (and the lock itself through pthread calls, which are thread-safe).
    private nonisolated(unsafe) let lock: UnsafeMutablePointer<pthread_mutex_t>
    private nonisolated(unsafe) let state: UnsafeMutablePointer<State>

    /// A lock around `state`.
    public init(_ state: consuming sending State) {
        lock = .allocate(capacity: 1)
        self.state = .allocate(capacity: 1)
        self.state.initialize(to: state)
        var attributes = pthread_mutexattr_t()
        pthread_mutexattr_init(&attributes)
        pthread_mutexattr_settype(&attributes, CInt(PTHREAD_MUTEX_ADAPTIVE_NP))
        let status = pthread_mutex_init(lock, &attributes)
        pthread_mutexattr_destroy(&attributes)
        precondition(status == 0, "pthread_mutex_init: \(status)")
    }

    deinit {
        pthread_mutex_destroy(lock)
        lock.deallocate()
        state.deinitialize(count: 1)
        state.deallocate()
    }

    /// Calls `body` with the lock held. It must neither suspend nor take the lock again.
    @inline(__always)
    public func withLock<Result: ~Copyable, Failure: Error>(
        _ body: (inout State) throws(Failure) -> Result
    ) throws(Failure) -> Result {
        pthread_mutex_lock(lock)
        defer { pthread_mutex_unlock(lock) }
        return try body(&state.pointee)
    }
}
