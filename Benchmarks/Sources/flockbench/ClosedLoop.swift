// Flockwork · Apache-2.0 · see LICENSE

/// A closed loop: each task does the next thing when the one before is done.
enum ClosedLoop {
    /// `step` returns the items that it did. Turns are numbered: task t does t, t + tasks, t + 2 tasks, …
    static func measure(
        tasks: Int, seconds: Double, children: [Int32], _ step: @escaping @Sendable (_ turn: Int) async throws -> Int
    ) async throws -> Measured {
        let meter = try Meter(children: children)
        let end = monotonicNanoseconds() + UInt64(seconds * 1e9)
        let all = try await withThrowingTaskGroup(of: (items: Int, nanoseconds: [UInt32]).self) { group in
            for task in 0..<tasks {
                group.addTask {
                    // Plain times, since a histogram for each of a thousand tasks would fill the caches.
                    var times: [UInt32] = []
                    var items = 0
                    var turn = task
                    var now = monotonicNanoseconds()
                    while now < end {
                        items += try await step(turn)
                        turn += tasks
                        let then = now
                        now = monotonicNanoseconds()
                        times.append(UInt32(clamping: now - then))
                    }
                    return (items, times)
                }
            }
            var all: [(items: Int, nanoseconds: [UInt32])] = []
            for try await one in group { all.append(one) }
            return all
        }
        var measured = try meter.stop(items: all.reduce(0) { $0 + $1.items })
        var latency = Latency()
        for one in all {
            for nanoseconds in one.nanoseconds { latency.record(UInt64(nanoseconds)) }
        }
        measured.latency = latency
        return measured
    }
}
