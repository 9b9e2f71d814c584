// Flockwork · Apache-2.0 · see LICENSE

// The end of a turn. Order matters: first all work that I/O callbacks caused, then the hooks that gather what the
// work produced into frames, then one write per connection.

internal import CLibuv
internal import Synchronization

/// Work at the end of a loop's turn: `body` runs once per turn in which the hook was armed, after I/O callbacks and
/// jobs and before connections are flushed.
public final class TurnHook: Sendable {
    private let loop: EventLoop
    private let body: @Sendable () -> Void
    // Touched on the loop's thread only (asserted in `arm`).
    nonisolated(unsafe) private var isArmed = false

    public init(on loop: EventLoop, _ body: @escaping @Sendable () -> Void) {
        self.loop = loop
        self.body = body
    }

    /// On the loop. Armed again while it runs, the hook runs again in the next round of the same turn; rounds are
    /// bounded, the rest is for the next turn.
    public func arm() {
        assert(loop.isCurrent, "turn hook armed outside of event loop \(loop.name)")
        guard !isArmed else { return }
        isArmed = true
        loop.armedHooks.append(self)
    }

    func fire() {
        isArmed = false
        body()
    }
}

extension EventLoop {
    /// Rounds of work and hooks in one turn, before I/O gets its turn.
    private static let roundLimit = 16

    func endTurn() {
        var rounds = 0
        repeat {
            repeat {
                let didWork = runWork()
                let didHooks = runHooks()
                if !didWork && !didHooks { break }
                rounds += 1
            } while rounds < Self.roundLimit
            settleStreams()
            rounds += 1
        } while hasOwnWork && rounds < Self.roundLimit
    }

    /// The turn of a thread that borrows the loop: what came so far and what that causes, without actors and tasks (a
    /// thread that is within a task cannot run another one). What is left is for the loop's own thread.
    func borrowedTurn() {
        guard runWork(isBorrowed: true) else { return }
        _ = runHooks()
        settleStreams()
    }

    /// There is something to do before the next I/O.
    var hasOwnWork: Bool { !ownWork.isEmpty || !armedHooks.isEmpty || !dirty.isEmpty }

    private func takeWork() {
        swap(&ownWork, &running)
        guard hasInboxWork.load(ordering: .acquiring) else { return }
        inbox.withLock { inbox in
            hasInboxWork.store(false, ordering: .relaxed)
            if running.isEmpty {
                swap(&inbox.work, &running)
            } else {
                running.append(contentsOf: inbox.work)
                inbox.work.removeAll(keepingCapacity: true)
            }
        }
    }

    /// Runs what has come. False if there was nothing, or (borrowed) not all of it could be run.
    private func runWork(isBorrowed: Bool = false) -> Bool {
        takeWork()
        guard !running.isEmpty else { return false }
        // By index, since work may append to `ownWork` but never to `running`.
        for index in running.indices {
            switch running[index] {
            case .call(let body): body()
            case .actorJob(let job):
                if isBorrowed { return leave(from: index) }
                job.runSynchronously(on: asUnownedSerialExecutor())
            case .taskJob(let job, let executor):
                if isBorrowed { return leave(from: index) }
                job.runSynchronously(on: executor.asUnownedTaskExecutor())
            }
        }
        running.removeAll(keepingCapacity: running.count <= 4096)
        return true
    }

    /// The rest waits, ahead of what the work before it has caused.
    private func leave(from index: Int) -> Bool {
        ownWork.insert(contentsOf: running[index...], at: 0)
        running.removeAll(keepingCapacity: true)
        return false
    }

    private func runHooks() -> Bool {
        guard !armedHooks.isEmpty else { return false }
        swap(&armedHooks, &runningHooks)
        for hook in runningHooks { hook.fire() }
        runningHooks.removeAll(keepingCapacity: true)
        return true
    }

    func settleStreams() {
        guard !dirty.isEmpty else { return }
        swap(&dirty, &settling)
        for stream in settling { stream.settle() }
        settling.removeAll(keepingCapacity: true)
    }
}
