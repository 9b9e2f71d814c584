// Flockwork · Apache-2.0 · see LICENSE

// Who runs a loop, and when. Its own thread does, but not while it waits for I/O: then the loop belongs to nobody, and
// a thread that brings work may borrow it for one turn. That saves the wake-up (20 to 35 us on a virtual machine whose
// cores have gone to sleep) and both changes of thread.
//
// Before that it may look for a moment (LoopPatience).
//
//     own thread:  runs → asleep → runs             takes it at once, or waits until it is given back
//     others:            asleep → lent → asleep     or → awake, if there is more to do than one turn

internal import CFlockRuntime
internal import CLibuv
internal import FlockWire
internal import Glibc
internal import Synchronization

extension EventLoop {
    func run() {
        owner.store(UInt(pthread_self()), ordering: .relaxed)
        flock_name_thread(String(name.prefix(15)))
        flock_set_timer_slack(1000)
        while !isStopping {
            var isReadable = true
            if !hasOwnWork && flock_uv_may_block(handles.loop) != 0 { isReadable = waitForWork() }
            if isReadable { uv_run(handles.loop, UV_RUN_NOWAIT) }
            endTurn()
        }
        shutDown()
    }

    /// Returns when there is something to do. False: certainly nothing of it is I/O.
    private func waitForWork() -> Bool {
        let start = uv_hrtime()
        var isReadable = true
        if !patience.looks(at: start) || !look(from: start) { isReadable = sleep() }
        patience.waited(uv_hrtime() - start)
        return isReadable
    }

    /// Looks for work without blocking: whoever brings some need not wake the loop. False if there is none.
    private func look(from start: UInt64) -> Bool {
        var look = Look(from: start)
        repeat {
            if hasInboxWork.load(ordering: .acquiring) || flock_is_readable(uv_backend_fd(handles.loop)) != 0 {
                return true
            }
            // To whoever else wants this core.
            sched_yield()
        } while look.goesOn(at: uv_hrtime())
        patience.ended(look)
        return false
    }

    /// For what serves a busy-polling loop on other threads: looks for as long as the loop does, until `isDone`.
    public static func spin(until isDone: () -> Bool) {
        let end = uv_hrtime() + LoopPatience.longestLook
        while !isDone() && uv_hrtime() < end {}
    }

    /// Blocks until there is something to do, unless there is already. False: certainly nothing of it is I/O.
    private func sleep() -> Bool {
        let isAsleep = inbox.withLock { inbox in
            inbox.isAsleep = inbox.work.isEmpty && inbox.phase == .running
            // Before another thread may borrow it.
            if inbox.isAsleep { owner.store(0, ordering: .relaxed) }
            return inbox.isAsleep
        }
        guard isAsleep else { return true }
        let readable = flock_wait_readable(uv_backend_fd(handles.loop), handles.wakeUp)
        takeBack()
        if readable & 2 != 0 {
            var wakes: UInt64 = 0
            _ = read(handles.wakeUp, &wakes, MemoryLayout<UInt64>.size)
        }
        return readable & 1 != 0
    }

    /// The loop's own thread goes on.
    private func takeBack() {
        let isLent = inbox.withLock { inbox in
            inbox.isAsleep = false
            inbox.isWantedBack = inbox.isLent
            return inbox.isLent
        }
        while isLent && sem_wait(handles.givenBack) != 0 {}
        owner.store(UInt(pthread_self()), ordering: .relaxed)
    }

    /// Runs one turn on this thread, while the loop's own blocks. `inbox.isLent` was set by the caller.
    func borrow() {
        owner.store(UInt(pthread_self()), ordering: .relaxed)
        borrowedTurn()
        let isIdle = !hasOwnWork && flock_uv_may_block(handles.loop) != 0
        // From here on nothing of the loop is touched.
        owner.store(0, ordering: .relaxed)
        let (isWantedBack, isLeft) = inbox.withLock { inbox in
            inbox.isLent = false
            if inbox.isWantedBack {
                inbox.isWantedBack = false
                return (true, false)
            }
            inbox.isAsleep = isIdle && inbox.work.isEmpty
            if !inbox.isAsleep { senders.add(1, ordering: .relaxed) }
            return (false, !inbox.isAsleep)
        }
        if isWantedBack { sem_post(handles.givenBack) }
        if isLeft { wake() }
    }

    /// Wakes the loop's own thread. The caller has counted itself in `senders`, so that the descriptor is there.
    func wake() {
        var one: UInt64 = 1
        _ = write(handles.wakeUp, &one, MemoryLayout<UInt64>.size)
        senders.subtract(1, ordering: .releasing)
    }
}
