// Flockwork · Apache-2.0 · see LICENSE

import FlockTestKit
import FlockWire
import Testing

@testable import FlockPython

@Suite("worker pool")
struct WorkerPoolTests {
    typealias Directive = WorkerPool.Directive

    /// A pool with its workers ready and the time at `now`.
    struct Bench {
        var pool: WorkerPool
        var now = Tick(nanoseconds: 1_000_000_000)
        var last: [Directive] = []

        init(workers: Int = 2, spares: Int = 1, window: Int = 2) {
            var settings = PoolSettings()
            (settings.workers, settings.spares, settings.window) = (workers, spares, window)
            pool = WorkerPool(settings)
        }

        @discardableResult
        mutating func step(_ event: WorkerPool.Event, after time: Duration = .zero) -> [Directive] {
            now = now + time
            last = []
            pool.step(event, now: now, &last)
            return last
        }

        /// Starts everything that is wanted, if it has to be waited for.
        mutating func begin() {
            step(.tick, after: .milliseconds(400))
            while let starting = pool.workers.first(where: { $0.phase == .starting }) { step(.ready(starting.id)) }
        }

        /// The worker that has a batch.
        func holder(of batch: BatchID) -> WorkerPool.Worker? { pool.workers.first { $0.held.contains(batch) } }
    }

    @Test("batches go to the worker with the fewest, up to its window, and the rest wait")
    func leastLoaded() {
        var bench = Bench(workers: 2, window: 2)
        bench.begin()
        for batch in 1...5 { bench.step(.submit(BatchID(batch), isSuspect: false)) }
        #expect(bench.pool.workers.filter { $0.phase == .serving }.map(\.held.count) == [2, 2])
        #expect(Array(bench.pool.queue) == [5])
        let first = bench.pool.workers[0]
        let done = bench.step(.answered(first.id, first.held[0]))
        #expect(done == [.deliver(first.held[0]), .assign(5, to: first.id)])
    }

    @Test("the spare takes the place of a worker that dies, with its batches, at once")
    func spare() throws {
        var bench = Bench(workers: 1)
        bench.begin()
        bench.step(.submit(1, isSuspect: false))
        bench.step(.submit(2, isSuspect: false))
        let dead = try #require(bench.holder(of: 1)).id
        let spare = try #require(bench.pool.workers.first { $0.phase == .spare }).id
        bench.step(.lost(dead))
        #expect(bench.last.contains(.kill(dead)))
        #expect(bench.last.contains(.assign(1, to: spare)) && bench.last.contains(.assign(2, to: spare)))
        // What the dead one had still sent is not heard.
        #expect(!bench.step(.answered(dead, 1)).contains(.deliver(1)))
    }

    @Test("only the batch in work is charged with a death; two deaths bring it into quarantine, where a third is proof")
    func poison() throws {
        var bench = Bench(workers: 1)
        bench.begin()
        bench.step(.submit(1, isSuspect: false))
        bench.step(.submit(2, isSuspect: false))
        for _ in 0..<2 {
            bench.step(.lost(try #require(bench.holder(of: 1)).id))
            bench.begin()
        }
        let jail = try #require(bench.holder(of: 1))
        #expect(jail.phase == .quarantine && jail.held == [1])
        let free = try #require(bench.holder(of: 2))
        #expect(free.phase == .serving && bench.pool.batches[2]?.deaths == 0)
        #expect(bench.step(.lost(jail.id)).contains(.fail(1, .poison)))
        #expect(bench.step(.answered(free.id, 2)).contains(.deliver(2)))
    }

    @Test("suspects run one at a time, and a worker whose suspect was innocent serves again")
    func quarantine() throws {
        var bench = Bench(workers: 1)
        bench.begin()
        bench.step(.submit(1, isSuspect: true))
        bench.step(.submit(2, isSuspect: true))
        let jail = try #require(bench.holder(of: 1))
        #expect(jail.held == [1] && bench.holder(of: 2) == nil)
        bench.step(.answered(jail.id, 1))
        #expect(bench.holder(of: 2)?.id == jail.id)
        bench.step(.answered(jail.id, 2))
        #expect(bench.pool.workers.first { $0.id == jail.id }?.phase == .spare)
    }

    @Test("a batch over its time has its worker write its stacks, then killed, and is tried elsewhere")
    func hang() throws {
        var bench = Bench(workers: 1)
        bench.begin()
        bench.step(.submit(1, isSuspect: false))
        let hung = try #require(bench.holder(of: 1)).id
        for worker in bench.pool.workers { bench.step(.heard(worker.id), after: .seconds(10)) }
        for worker in bench.pool.workers { bench.step(.heard(worker.id), after: .seconds(11)) }
        #expect(bench.step(.tick).contains(.dump(hung)))
        #expect(bench.pool.wakeUp == bench.now + .milliseconds(100))
        #expect(bench.step(.tick, after: .milliseconds(99)) == [])
        #expect(bench.step(.tick, after: .milliseconds(1)).contains(.kill(hung)))
        #expect(bench.holder(of: 1) != nil)
    }

    @Test("a process without a word for long is dead, however idle")
    func silence() throws {
        var bench = Bench(workers: 1)
        bench.begin()
        let quiet = try #require(bench.pool.workers.first { $0.phase == .serving }).id
        for worker in bench.pool.workers where worker.id != quiet { bench.step(.heard(worker.id), after: .seconds(16)) }
        #expect(bench.step(.tick).contains(.kill(quiet)))
    }

    @Test("starts that come to nothing are tried again later and later, one at a time, and waiting batches fail")
    func backOff() {
        var bench = Bench(workers: 2)
        var starts: [Tick] = []
        bench.step(.tick)
        bench.step(.submit(1, isSuspect: false))
        var failed = false
        for _ in 0..<20_000 where starts.count < 12 {
            for worker in bench.pool.workers {
                if worker.phase == .starting { starts.append(bench.now) }
                bench.step(.ended(worker.id))
                failed = failed || bench.last.contains(.fail(1, .noWorkers))
            }
            bench.step(.tick, after: .milliseconds(50))
        }
        let gaps = zip(starts.dropFirst(2), starts.dropFirst(3)).map { $1 - $0 }
        #expect(failed)
        #expect(zip(gaps, gaps.dropFirst()).allSatisfy { $0 <= $1 }, "\(gaps)")
        #expect(gaps.last == .seconds(30), "\(gaps)")
    }

    @Test("workers that are killed as soon as they are ready are slow to come back, but no batch fails for that")
    func killedIdle() {
        var bench = Bench(workers: 1)
        bench.begin()
        for _ in 0..<10 {
            for worker in bench.pool.workers { bench.step(.ended(worker.id)) }
            bench.step(.tick, after: .seconds(31))
            bench.begin()
        }
        for worker in bench.pool.workers { bench.step(.ended(worker.id)) }
        #expect(bench.step(.submit(1, isSuspect: false)) == [])
        bench.step(.tick, after: .seconds(31))
        bench.begin()
        #expect(bench.holder(of: 1) != nil)
    }

    @Test("a new version takes the traffic when all its workers are ready; the old ones finish what they have")
    func version() throws {
        var bench = Bench(workers: 2)
        bench.begin()
        bench.step(.submit(1, isSuspect: false))
        let old = try #require(bench.holder(of: 1)).id
        bench.step(.replace(version: 2))
        let new = bench.pool.workers.filter { $0.version == 2 }
        #expect(new.count == 2)
        bench.step(.ready(new[0].id))
        bench.step(.submit(2, isSuspect: false))
        #expect(bench.holder(of: 2)?.version == 1)
        #expect(bench.step(.ready(new[1].id)).contains(.adopted(version: 2)))
        bench.step(.submit(3, isSuspect: false))
        #expect(bench.holder(of: 3)?.version == 2)
        #expect(!bench.last.contains(.finish(old)))
        #expect(bench.step(.answered(old, 1)) == [.deliver(1), .finish(old)])
    }

    @Test("a new version that cannot be started is given up, and the old one goes on")
    func rejected() {
        var bench = Bench(workers: 1)
        bench.begin()
        bench.step(.replace(version: 2))
        var rejected = false
        for _ in 0..<5 {
            guard let worker = bench.pool.workers.first(where: { $0.version == 2 }) else { break }
            bench.step(.ended(worker.id))
            rejected = rejected || bench.last.contains(.rejected(version: 2))
        }
        #expect(rejected)
        bench.step(.submit(1, isSuspect: false))
        #expect(bench.holder(of: 1)?.version == 1)
    }

    @Test("a pool that closes fails what waits, lets workers finish, and ends with the last of them")
    func close() throws {
        var bench = Bench(workers: 1, window: 1)
        bench.begin()
        bench.step(.submit(1, isSuspect: false))
        bench.step(.submit(2, isSuspect: false))
        let worker = try #require(bench.holder(of: 1)).id
        #expect(bench.step(.close).contains(.fail(2, .closing)))
        #expect(bench.step(.submit(3, isSuspect: false)) == [.fail(3, .closing)])
        #expect(bench.step(.answered(worker, 1)) == [.deliver(1), .finish(worker)])
        // Its link ends first, and it may take its time after that, though not for ever.
        #expect(bench.step(.lost(worker)) == [])
        #expect(bench.step(.tick, after: .seconds(4)) == [])
        #expect(bench.step(.tick, after: .seconds(2)).contains(.kill(worker)))
        for worker in bench.pool.workers { bench.step(.ended(worker.id)) }
        #expect(bench.last.contains(.closed))
    }
}
