// Flockwork · Apache-2.0 · see LICENSE

import FlockTestKit
import FlockWire
import Testing

@testable import FlockPython

// A pool is walked through thousands of random events, with a model beside it that knows what was promised: what a
// worker may be given, and that every batch has exactly one answer.

/// What the world around a pool does, and what it must not see.
private struct World {
    var random: SeededRandom
    var pool: WorkerPool
    var now = Tick(nanoseconds: 1_000_000_000)
    /// Processes, with the batches that they were given, in order.
    var processes: [WorkerID: [BatchID]] = [:]
    var ready: Set<WorkerID> = []
    var told: Set<WorkerID> = []
    /// Sent a kill or a farewell; they end some time.
    var ending: Set<WorkerID> = []
    var waiting: Set<BatchID> = []
    var suspects: Set<BatchID> = []
    /// A worker that begins one of these dies.
    var deadly: Set<BatchID> = []
    var answers: [BatchID: Int] = [:]
    var poisoned: Set<BatchID> = []
    var problems: [String] = []
    var next: BatchID = 1
    var closed = false
    let settings: PoolSettings

    init(seed: UInt64) {
        random = SeededRandom(seed: seed)
        var settings = PoolSettings()
        settings.workers = Int.random(in: 1...4, using: &random)
        settings.spares = Int.random(in: 0...1, using: &random)
        settings.window = Int.random(in: 1...3, using: &random)
        self.settings = settings
        pool = WorkerPool(settings)
    }

    mutating func take(_ event: WorkerPool.Event) {
        var directives: [WorkerPool.Directive] = []
        pool.step(event, now: now, &directives)
        for directive in directives { obey(directive) }
        if processes.count > settings.mostProcesses { problems.append("\(processes.count) processes") }
    }

    private mutating func obey(_ directive: WorkerPool.Directive) {
        switch directive {
        case .start(let id, _):
            if closed || processes[id] != nil { problems.append("start of \(id)") }
            processes[id] = []
        case .assign(let batch, let id):
            if !ready.contains(id) || ending.contains(id) { problems.append("\(batch) for \(id), which is not there") }
            if !waiting.contains(batch) { problems.append("\(batch) is assigned and nobody waits") }
            if processes.contains(where: { !ending.contains($0.key) && $0.value.contains(batch) }) {
                problems.append("\(batch) is with two workers")
            }
            let isSuspect = pool.batches[batch]?.isSuspect ?? false
            if isSuspect && !(processes[id] ?? []).isEmpty { problems.append("suspect \(batch) is not alone") }
            processes[id, default: []].append(batch)
            let most = isSuspect ? 1 : settings.window
            if (processes[id]?.count ?? 0) > most { problems.append("more than a window for \(id)") }
        case .deliver(let batch): answer(batch)
        case .fail(let batch, let failure):
            answer(batch)
            if failure == .poison { poisoned.insert(batch) }
        case .kill(let id), .finish(let id): ending.insert(id)
        case .dump, .adopted, .rejected: break
        case .closed:
            closed = true
            if !processes.isEmpty { problems.append("closed with processes") }
        }
    }

    private mutating func answer(_ batch: BatchID) {
        answers[batch, default: 0] += 1
        if waiting.remove(batch) == nil { problems.append("\(batch) was answered, and nobody waits") }
    }

    mutating func submit(isSuspect: Bool, isDeadly: Bool) {
        waiting.insert(next)
        if isDeadly { deadly.insert(next) }
        next += 1
        take(.submit(next - 1, isSuspect: isSuspect))
    }

    /// A worker does something on its own.
    mutating func live(_ id: WorkerID, faults: Bool) {
        if ending.contains(id) {
            if random.chance(0.3), !told.contains(id) {
                told.insert(id)
                return take(.lost(id))
            }
            return end(id)
        }
        if !ready.contains(id) {
            if faults && random.chance(0.3) { return end(id) }
            ready.insert(id)
            return take(.ready(id))
        }
        if faults && random.chance(0.05) {
            if random.chance(0.5) { return end(id) }
            ending.insert(id)
            return take(.lost(id))
        }
        guard let batch = processes[id]?.first else { return take(.heard(id)) }
        if deadly.contains(batch) {
            ending.insert(id)
            return take(.lost(id))
        }
        processes[id]?.removeFirst()
        take(.answered(id, batch))
    }

    private mutating func end(_ id: WorkerID) {
        processes[id] = nil
        take(.ended(id))
    }

    mutating func turn(faults: Bool) {
        now = now + .milliseconds(Int64.random(in: 0...(random.chance(0.01) ? 20_000 : 30), using: &random))
        switch Int.random(in: 0..<10, using: &random) {
        case 0..<2 where faults:
            submit(isSuspect: random.chance(0.1), isDeadly: random.chance(0.05))
        case 2 where faults && random.chance(0.1):
            if let batch = waiting.sorted().randomElement(using: &random) { take(.withdraw(batch)) }
        case 3 where faults && random.chance(0.01): take(.replace(version: pool.version + 1))
        case 4: take(.tick)
        default:
            if let id = processes.keys.sorted().randomElement(using: &random) { live(id, faults: faults) }
        }
    }
}

@Suite("worker pool, walked")
struct WorkerPoolWalkTests {
    @Test("every batch ends in exactly one answer, and no worker gets what it must not", arguments: 1...32)
    func walk(seed: Int) {
        var world = World(seed: UInt64(seed))
        world.take(.tick)
        for _ in 0..<3000 where world.problems.isEmpty { world.turn(faults: true) }
        // Without more faults everything that waits is answered; nothing is forgotten.
        var turns = 0
        while !world.waiting.isEmpty, turns < 20_000, world.problems.isEmpty {
            world.turn(faults: false)
            turns += 1
        }
        #expect(world.problems == [], "seed \(seed)")
        #expect(world.waiting == [], "seed \(seed): no answer")
        #expect(world.answers.values.allSatisfy { $0 == 1 }, "seed \(seed)")
        #expect(world.answers.count == Int(world.next - 1), "seed \(seed)")
        #expect(world.pool.open == 0, "seed \(seed): batches are kept")
        if seed % 2 == 0 {
            world.take(.close)
            for _ in 0..<5000 where !world.closed { world.turn(faults: false) }
            #expect(world.closed, "seed \(seed): not closed")
        }
    }
}
