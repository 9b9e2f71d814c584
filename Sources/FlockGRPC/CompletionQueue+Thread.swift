// Flockwork · Apache-2.0 · see LICENSE

// What the thread of a completion queue does: work, then an event, then work again.

internal import CFlockRuntime
internal import CGRPC
internal import FlockWire
internal import Glibc
internal import Synchronization

extension CompletionQueue {
    func run() {
        owner.store(UInt(pthread_self()), ordering: .relaxed)
        flock_name_thread(String(name.prefix(15)))
        while true {
            runWork()
            let event = next()
            guard event.type != GRPC_QUEUE_SHUTDOWN else { return finish() }
            take(event)
        }
    }

    /// The next event; none if there is work. Before the thread blocks it may look for a moment, so that a worker that
    /// answers need not wake it: see `LoopPatience`.
    private func next() -> grpc_event {
        let start = Tick.now.nanoseconds
        var event = flock_grpc_next(queue, false)
        if event.type == GRPC_QUEUE_TIMEOUT, patience.looks(at: start) { event = look(from: start) }
        if event.type == GRPC_QUEUE_TIMEOUT, let woken = sleep() { event = woken }
        patience.waited(Tick.now.nanoseconds - start)
        return event
    }

    private func look(from start: UInt64) -> grpc_event {
        var look = Look(from: start)
        var event: grpc_event
        repeat {
            // To whoever else wants this core.
            sched_yield()
            event = flock_grpc_next(queue, false)
            guard event.type == GRPC_QUEUE_TIMEOUT, !hasWork else { return event }
        } while look.goesOn(at: Tick.now.nanoseconds)
        patience.ended(look)
        return event
    }

    private var hasWork: Bool { state.withLock { !$0.work.isEmpty } }

    func runWork() {
        repeat { runRound() } while hasWork
    }

    /// Runs what has come so far.
    func runRound(leavesJobs: Bool = false) {
        state.withLock { swap(&$0.work, &running) }
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
}
