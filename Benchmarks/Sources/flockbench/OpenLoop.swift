// Flockwork · Apache-2.0 · see LICENSE

import CRawPingPong
import Flockwork
import Foundation
import Glibc
import Synchronization

/// One item is due every 10 us, whatever the pipeline does; its latency counts from when it was due.
///
/// Generator, model and sink run on one thread of their own, since a generator that sleeps must not hold a thread of
/// the cooperative pool, and since a change of thread costs more than the work.
enum OpenLoop {
    static let interval: UInt64 = 10_000
    static let period: UInt64 = 20_000

    static func measure(seconds: Double) async throws -> Measured {
        let thread = OwnThread()
        defer { thread.stop() }
        let state = Mutex((latency: Latency(), items: 0, wrong: 0))
        let expected = Served.expected
        let meter = try Meter()
        let start = monotonicNanoseconds()
        let end = start + UInt64(seconds * 1e9)
        let sink = ClosureSink<Float> { batch in
            let now = monotonicNanoseconds()
            batch.withScores { scores in
                state.withLock { state in
                    for index in scores.indices {
                        let item = batch.position + index
                        state.latency.record(now - (start + UInt64(item) * interval))
                        let difference = abs(scores[index] - expected[item % Dataset.rowCount])
                        if difference >= Served.tolerance { state.wrong += 1 }
                    }
                    state.items += scores.count
                }
            }
        }
        _ = try await withTaskExecutorPreference(thread) {
            try await Served.rows.run(from: DueItems(start: start, end: end), into: sink, lanes: 1)
        }
        let (latency, items, wrong) = state.withLock { ($0.latency, $0.items, $0.wrong) }
        guard wrong == 0 else { throw BenchmarkError("\(wrong) wrong scores") }
        return try meter.stop(items: items, latency: latency)
    }

    /// Hands out what is due, and sleeps on its own thread until something is.
    private final class DueItems: BatchSource {
        private let start: UInt64
        private let end: UInt64
        private let given = Atomic<Int>(0)

        init(start: UInt64, end: UInt64) {
            self.start = start
            self.end = end
        }

        func next() async -> Batch<Row>? {
            while true {
                let now = monotonicNanoseconds()
                guard now < end else { return nil }
                let from = given.load(ordering: .relaxed)
                let due = Int((now - start) / interval)
                let offset = from % Dataset.rowCount
                let count = min(due - from, Dataset.batch, Dataset.rowCount - offset)
                if count > 0 {
                    given.store(from + count, ordering: .relaxed)
                    var batch = Batch(Dataset.rows.slice(from: offset, count: count))
                    batch.position = from
                    return batch
                }
                var pause = timespec(tv_sec: 0, tv_nsec: Int(period))
                nanosleep(&pause, nil)
            }
        }
    }
}

/// A task executor on one thread.
final class OwnThread: TaskExecutor {
    private struct State {
        var jobs: [UnownedJob] = []
        var isStopped = false
    }
    private let state = Mutex(State())
    private let ready = DispatchSemaphore(value: 0)

    init() {
        Thread { [self] in
            raw_set_timer_slack(1000)
            serve()
        }.start()
    }

    func enqueue(_ job: consuming ExecutorJob) {
        let job = UnownedJob(job)
        state.withLock { $0.jobs.append(job) }
        ready.signal()
    }

    func stop() {
        state.withLock { $0.isStopped = true }
        ready.signal()
    }

    private func serve() {
        while true {
            let (jobs, isStopped) = state.withLock { state in
                defer { state.jobs = [] }
                return (state.jobs, state.isStopped)
            }
            for job in jobs { job.runSynchronously(on: asUnownedTaskExecutor()) }
            if jobs.isEmpty {
                if isStopped { return }
                ready.wait()
            }
        }
    }
}
