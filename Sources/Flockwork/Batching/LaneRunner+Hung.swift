// Flockwork · Apache-2.0 · see LICENSE

internal import FlockTransport
internal import FlockWire
internal import Logging
internal import Synchronization

// Calls of user code that do not return. The watch is one timer a lane, which only runs while an attempt does.

extension LaneRunner {
    /// Looks for overdue attempts later. On any thread.
    func watch(after delay: Duration) {
        loop.schedule(after: delay) { [weak self] in self?.look() }
    }

    private func look() {
        let (findings, hung, stopping, refused) = state.withLock { state in
            let findings = state.instances.look(at: EventLoop.now)
            for _ in 0..<findings.replacements { replace(as: state.instances.add()) }
            // Asks the tasks to end, which helps where user code listens to that.
            let hung = findings.lost.compactMap { state.tasks.removeValue(forKey: $0.instance) }
            // Not joined any more: it ends by itself if the call ever returns.
            for (instance, _) in findings.lost { state.threads[instance] = nil }
            // Within the lock, so that an instance that returns at this moment comes before or after it.
            let refused = state.instances.alive == 0 ? mailbox.refuse() : []
            return (findings, hung, state.takeStopping(), refused)
        }
        for task in hung { task.cancel() }
        for (_, runs) in findings.lost {
            for work in runs { work.assignment.ended(work.run, .lost) }
        }
        report(findings)
        for work in refused { Mailbox.endRefused(work, stage: name) }
        for continuation in stopping { continuation.resume() }
        if let delay = findings.lookAfter { watch(after: delay) }
    }

    private func replace(as instance: Int) {
        guard let makeInstance else { preconditionFailure("an instance to make, and no way to") }
        Task {
            do {
                try start(try await makeInstance(), as: instance)
            } catch {
                log?.error(
                    "no instance in the place of a hung one", metadata: ["stage": "\(name)", "error": "\(error)"])
                couldNotMake()
            }
        }
    }

    private func couldNotMake() {
        let (stopping, refused) = state.withLock { state in
            state.instances.remove()
            return (state.takeStopping(), state.instances.alive == 0 ? mailbox.refuse() : [])
        }
        for continuation in stopping { continuation.resume() }
        loop.execute { [name] in
            for work in refused { Mailbox.endRefused(work, stage: name) }
        }
    }

    private func report(_ findings: LaneInstances<[WorkRun]>.Findings) {
        for (_, runs) in findings.lost {
            loop.limitsReached.reached(.attemptTime)
            log?.warning(
                "a stage did not return in time; its instance is abandoned",
                metadata: [
                    "stage": "\(name)", "items": "\(runs.reduce(0) { $0 + $1.run.count })",
                    "time": "\(limits.attemptTime)",
                ])
        }
        guard findings.isExhausted else { return }
        let (alive, hanging) = state.withLock { ($0.instances.alive, $0.instances.hangingCount) }
        log?.error(
            "too many instances hang; no more are made in their place",
            metadata: ["stage": "\(name)", "hanging": "\(hanging)", "left": "\(alive)"])
    }
}

extension LaneRunner.State {
    /// Those to resume, if the last instance has ended.
    mutating func takeStopping() -> [UnsafeContinuation<Void, Never>] {
        guard instances.alive == 0 else { return [] }
        defer { stopping = [] }
        return stopping
    }
}
