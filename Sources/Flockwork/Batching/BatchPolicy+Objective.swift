// Flockwork · Apache-2.0 · see LICENSE

internal import FlockWire

extension BatchPolicy {
    /// A batch that keeps the objective, and what is shed because it would be late: either may be empty.
    func take(
        from queue: inout WorkQueue, for objective: LatencyObjective?, idle: Int, now: Tick, limits: Limits
    ) -> (batch: [WorkRun], late: [WorkRun]) {
        guard let oldest = queue.oldest else { return ([], []) }
        let first = size(of: queue, oldest: oldest, objective, idle: idle, now: now, limits: limits)
        let end = now + (objective?.expected(min(first.items, queue.items)) ?? .zero)
        let late = queue.shed(endingAt: end, now: now)
        guard let oldest = queue.oldest else { return ([], late) }
        // Without those that had waited longest, there may be time for more.
        let size =
            late.isEmpty
            ? first : size(of: queue, oldest: oldest, objective, idle: idle, now: now, limits: limits)
        return (queue.cut(items: size.items, bytes: size.bytes), late)
    }

    private func size(
        of queue: WorkQueue, oldest: WorkRun, _ objective: LatencyObjective?, idle: Int, now: Tick, limits: Limits
    ) -> (items: Int, bytes: Int) {
        let waited = now - oldest.arrived
        let atMost = objective?.limit(waiting: queue.items, waited: waited) ?? .max
        let decision = decide(
            items: queue.items, bytes: queue.bytes, waited: waited, idle: idle, draining: true, limits: limits,
            atMost: atMost)
        // An objective does not linger: `draining` says so.
        guard case .take(let items, let bytes) = decision else { preconditionFailure("\(self) waits") }
        return (items, bytes)
    }
}
