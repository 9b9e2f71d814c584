// Flockwork · Apache-2.0 · see LICENSE

// Who has a completion queue. Its own thread does, but not while it waits in gRPC: then the queue belongs to nobody,
// and a thread that brings something may borrow it for one round of work. One that has sent something to another
// process and looks for the answer may keep it, and take from gRPC what comes; the queue's own thread is aside then,
// since two that wait in gRPC for one queue wait for each other. It stays there for a moment when the look is over, if
// nothing is awaited: to wake it takes 50 to 250 us where cores sleep, as long as whoever sends next has to wait for
// its answer.
//
//     own thread:  awake → asleep → awake           takes it at once, if nobody has it
//                           asleep → aside → awake   woken while it is lent: when it is given back, or nobody comes

internal import CFlockRuntime
internal import CGRPC
internal import FlockTransport
internal import FlockWire
internal import Glibc
internal import Synchronization

/// Where the queue's own thread is.
enum OwnThread {
    case awake
    /// It waits in gRPC, or is about to.
    case asleep
    /// It has left gRPC, and waits until the queue is given back.
    case aside
}

/// What the queue's own thread has woken for, when somebody else has the queue.
// Unchecked: one thread takes it.
struct HeldEvent: @unchecked Sendable {
    let event: grpc_event
}

/// A queue that a thread has borrowed and looks at.
private struct KeptQueue: Lookout {
    let queue: CompletionQueue

    func look() -> Bool { queue.lookOnce() }

    func end() { queue.giveBack(afterLook: true) }
}

extension CompletionQueue {
    /// How long the queue's own thread stays aside. What nobody awaits, such as the end of a worker that has nothing to
    /// do, is noticed so much later at most.
    static let timeAside = Duration.milliseconds(50)

    // MARK: Other threads

    /// Runs what was brought on this thread, one round of it, except for jobs of tasks, which may take their time. They
    /// and what comes meanwhile are for the queue's own thread.
    func borrowForCalls() {
        owner.store(UInt(pthread_self()), ordering: .relaxed)
        runRound(leavesJobs: true)
        giveBack(afterLook: false)
    }

    /// The same with jobs, where they are wanted. Who `keeps` the queue takes what comes meanwhile as well.
    func borrowForTasks(keeps: Bool) -> (any Lookout)? {
        owner.store(UInt(pthread_self()), ordering: .relaxed)
        runRound()
        if keeps { return KeptQueue(queue: self) }
        giveBack(afterLook: false)
        return nil
    }

    /// An event, if the queue's own thread is aside, and a round of work. What has been sent wakes that thread.
    fileprivate func lookOnce() -> Bool {
        let (isAside, held) = state.withLock { ($0.ownThread == .aside, $0.heldEvent.take()) }
        if isAside {
            let event = held?.event ?? flock_grpc_next(queue, false)
            // The queue's own thread gets it, too.
            guard event.type != GRPC_QUEUE_SHUTDOWN else { return false }
            take(event)
        }
        runRound()
        return true
    }

    fileprivate func giveBack(afterLook: Bool) {
        let mayStayAside = afterLook && awaited == 0
        owner.store(0, ordering: .relaxed)
        let before = state.withLock { state -> OwnThread in
            state.isLent = false
            let isNeeded =
                switch state.ownThread {
                case .awake: false
                case .asleep: !state.work.isEmpty
                case .aside: !mayStayAside || !state.work.isEmpty || state.heldEvent != nil || state.isShutDown
                }
            defer { if isNeeded { state.ownThread = .awake } }
            return isNeeded ? state.ownThread : .awake
        }
        wake(from: before)
    }

    /// By the one that has set `ownThread` to `awake`.
    func wake(from place: OwnThread) {
        switch place {
        case .awake: break
        case .asleep: wake()
        case .aside: sem_post(givenBack)
        }
    }

    /// Out of gRPC. The thread may have woken by itself meanwhile, and even have gone back to sleep: then it wakes once
    /// for nothing.
    private func wake() {
        wakes.withLock { isPossible in
            // One that is shut down takes no more operations; its thread wakes up by that.
            guard isPossible else { return }
            // Under a lock: starting batches on one call must not be done by two threads at once.
            let isTaken = flock_grpc_start_nothing(wakeCall, wakeTag.toOpaque())
            precondition(isTaken, "completion queue \(name) cannot be woken")
        }
    }

    // MARK: The queue's own thread

    /// Waits in gRPC, unless there is work.
    func sleep() -> grpc_event? {
        let isAsleep = state.withLock { state in
            guard state.work.isEmpty else { return false }
            state.ownThread = .asleep
            // Before another thread may borrow it.
            owner.store(0, ordering: .relaxed)
            return true
        }
        return isAsleep ? takeBack(with: flock_grpc_next(queue, true)) : nil
    }

    /// Goes on as soon as nobody has the queue; returns what is left to take.
    private func takeBack(with event: grpc_event) -> grpc_event? {
        let held = HeldEvent(event: event)
        let isLent = state.withLock { state in
            state.ownThread = state.isLent ? .aside : .awake
            if state.isLent { state.heldEvent = held }
            return state.isLent
        }
        if isLent { stayAside() }
        owner.store(UInt(pthread_self()), ordering: .relaxed)
        return isLent ? state.withLock { $0.heldEvent.take() }?.event : event
    }

    private func stayAside() {
        while !flock_wait_posted(givenBack, UInt64(Self.timeAside.clampedNanoseconds)) {
            let goesOn = state.withLock { state in
                // Else it is lent, or somebody is about to say that it is given back.
                guard state.ownThread == .aside, !state.isLent else { return false }
                state.ownThread = .awake
                return true
            }
            if goesOn { return }
        }
    }
}
