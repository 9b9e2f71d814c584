// Flockwork · Apache-2.0 · see LICENSE

internal import DequeModule
internal import FlockWire

// The workers: who serves, who is spare, who starts, who ends.

/// The numbers of a pool.
struct PoolSettings: Sendable {
    /// Workers that take batches.
    var workers = 1
    /// Workers beside them that are ready.
    var spares = 1
    /// Batches that a worker holds at once.
    var window = 2
    /// Time for one batch before its worker hangs.
    var batchTime = Duration.seconds(30)
    /// Time for loading the handler.
    var loadTime = Duration.seconds(300)
    /// Time for a worker that hangs to write its stacks.
    var dumpTime = Duration.milliseconds(100)
    /// Time without a word after which a process is dead: its control thread answers while Python is busy.
    var silence = Duration.seconds(15)
    /// Time for a worker to end by itself.
    var endTime = Duration.seconds(5)
    /// Pauses before starts, when those before came to nothing.
    var firstBackOff = Duration.milliseconds(100)
    var lastBackOff = Duration.seconds(30)
    /// Crashes in `crashTime` after which starts come at that rate.
    var crashes = 20
    var crashTime = Duration.seconds(60)
    /// Starts that came to nothing, one after another, before waiting batches fail.
    var hopeless = 5
    /// The same for a new version before it is given up.
    var incomingFailures = 3
}

extension WorkerPool {
    mutating func ready(_ id: WorkerID, _ now: Tick) {
        guard let index = index(id), workers[index].phase == .starting else { return }
        workers[index].since = now
        workers[index].heard = now
        if workers[index].version == version { failedStarts = 0 }
        // Whether it is more than a spare is settled next.
        workers[index].phase = .spare
    }

    /// Ends a worker that is not to serve any more.
    mutating func retire(_ id: WorkerID, _ now: Tick, _ directives: inout [Directive]) {
        guard let index = index(id) else { return }
        switch workers[index].phase {
        case .dead, .finishing, .draining, .dumping: return
        case .starting:
            workers[index].phase = .dead
            directives.append(.kill(id))
        case .serving, .spare, .quarantine: workers[index].phase = .draining
        }
        workers[index].since = now
    }

    mutating func close(_ now: Tick, _ directives: inout [Directive]) {
        guard !isClosing else { return }
        isClosing = true
        incoming = nil
        for batch in queue + suspects {
            batches[batch] = nil
            directives.append(.fail(batch, .closing))
        }
        queue = []
        suspects = []
        for worker in workers { retire(worker.id, now, &directives) }
    }

    /// What takes too long.
    mutating func look(_ now: Tick, _ directives: inout [Directive]) {
        for worker in workers {
            switch worker.phase {
            case .starting where now - worker.since > settings.loadTime: lose(worker.id, now, &directives)
            case .finishing where now - worker.since > settings.endTime: lose(worker.id, now, &directives)
            case .draining where isClosing && now - worker.since > settings.endTime:
                lose(worker.id, now, &directives)
            case .dumping(let until, _):
                if now >= until { lose(worker.id, now, &directives) }
            case .serving, .quarantine, .draining, .spare:
                if now - worker.heard > settings.silence {
                    lose(worker.id, now, &directives)
                } else if !worker.held.isEmpty, now - worker.headSince > settings.batchTime {
                    directives.append(.dump(worker.id))
                    let until = now + settings.dumpTime
                    update(worker.id) { $0.phase = .dumping(until: until, before: worker.phase) }
                }
            case .starting, .finishing, .dead: break
            }
        }
    }

    // MARK: After every event

    mutating func settle(_ now: Tick, _ directives: inout [Directive]) {
        adopt(now, &directives)
        giveRoles(now, &directives)
        assign(now, &directives)
        start(now, &directives)
        giveUp(&directives)
        for worker in workers where worker.phase == .draining && worker.held.isEmpty {
            directives.append(.finish(worker.id))
            update(worker.id) {
                $0.phase = .finishing
                $0.since = now
            }
        }
        if isClosing, !isClosed, workers.isEmpty {
            isClosed = true
            directives.append(.closed)
        }
    }

    /// The traffic moves when as many workers of a new version are ready as serve.
    private mutating func adopt(_ now: Tick, _ directives: inout [Directive]) {
        guard let next = incoming, !isClosing,
            workers.count(where: { $0.version == next && $0.phase == .spare }) >= settings.workers
        else { return }
        version = next
        incoming = nil
        (failures, failedStarts) = (0, 0)
        for worker in workers where worker.version != next { retire(worker.id, now, &directives) }
        directives.append(.adopted(version: next))
    }

    private mutating func giveRoles(_ now: Tick, _ directives: inout [Directive]) {
        guard !isClosing else { return }
        let own = workers.indices.filter { workers[$0].version == version }
        var serving = own.count { workers[$0].phase == .serving || workers[$0].isDumping(from: .serving) }
        var hasQuarantine = own.contains {
            workers[$0].phase == .quarantine || workers[$0].isDumping(from: .quarantine)
        }
        for index in own where workers[index].phase == .quarantine && workers[index].held.isEmpty && suspects.isEmpty {
            workers[index].phase = .spare
            hasQuarantine = false
        }
        var spares = 0
        for index in own where workers[index].phase == .spare {
            if serving == 0 || (serving < settings.workers && (suspects.isEmpty || hasQuarantine)) {
                workers[index].phase = .serving
                serving += 1
            } else if !suspects.isEmpty, !hasQuarantine {
                workers[index].phase = .quarantine
                hasQuarantine = true
            } else {
                spares += 1
                if spares > settings.spares { retire(workers[index].id, now, &directives) }
            }
        }
        if serving == settings.workers { wasFull = true }
    }

    private mutating func assign(_ now: Tick, _ directives: inout [Directive]) {
        while !queue.isEmpty {
            var best: Int?
            for index in workers.indices where workers[index].phase == .serving && workers[index].version == version {
                guard workers[index].held.count < settings.window else { continue }
                if best.map({ workers[index].held.count < workers[$0].held.count }) ?? true { best = index }
            }
            guard let best, let batch = queue.popFirst() else { break }
            give(batch, to: best, now, &directives)
        }
        guard !suspects.isEmpty,
            let index = workers.firstIndex(where: { $0.phase == .quarantine && $0.held.isEmpty }),
            let batch = suspects.popFirst()
        else { return }
        give(batch, to: index, now, &directives)
    }

    private mutating func give(_ batch: BatchID, to index: Int, _ now: Tick, _ directives: inout [Directive]) {
        if workers[index].held.isEmpty { workers[index].headSince = now }
        workers[index].held.append(batch)
        directives.append(.assign(batch, to: workers[index].id))
    }

    /// Workers of a version that should be there and are not.
    func missing(_ wanted: Int) -> Int {
        if isClosing { return 0 }
        let there = workers.count { worker in
            guard worker.version == wanted else { return false }
            switch worker.phase {
            case .starting, .serving, .spare, .quarantine: return true
            case .dumping, .draining, .finishing, .dead: return false
            }
        }
        // A suspect needs a worker of its own, where there is no spare.
        let hasSuspect = !suspects.isEmpty || workers.contains { $0.phase == .quarantine }
        let spares = wanted == version && wasFull ? max(settings.spares, hasSuspect ? 1 : 0) : 0
        return max(0, settings.workers + spares - there)
    }

    private mutating func start(_ now: Tick, _ directives: inout [Directive]) {
        for wanted in [version, incoming].compactMap(\.self) {
            var count = missing(wanted)
            if wanted == version {
                guard now >= nextStart else { continue }
                // One shows whether it makes sense to start the others.
                let isStarting = workers.contains { $0.version == wanted && $0.phase == .starting }
                if failures > 0 || crashes.count > settings.crashes { count = min(count, isStarting ? 0 : 1) }
            }
            for _ in 0..<count where workers.count < settings.mostProcesses {
                workers.append(Worker(id: nextWorker, version: wanted, headSince: now, since: now, heard: now))
                directives.append(.start(nextWorker, version: wanted))
                nextWorker += 1
            }
        }
    }

    /// Batches do not wait for workers that will not come.
    private mutating func giveUp(_ directives: inout [Directive]) {
        guard failedStarts >= settings.hopeless, serving == 0, !(queue.isEmpty && suspects.isEmpty) else { return }
        for batch in queue + suspects {
            batches[batch] = nil
            directives.append(.fail(batch, .noWorkers))
        }
        queue = []
        suspects = []
    }
}

extension PoolSettings {
    /// Of a pool: its own, those of another version, and as many that are dying.
    var mostProcesses: Int { 4 * (workers + spares) }
}

extension WorkerPool.Worker {
    fileprivate func isDumping(from phase: WorkerPool.Phase) -> Bool {
        if case .dumping(_, phase) = self.phase { true } else { false }
    }
}
