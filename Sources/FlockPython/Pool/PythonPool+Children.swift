// Flockwork · Apache-2.0 · see LICENSE

internal import FlockGRPC
internal import FlockWire
internal import Flockwork
internal import Glibc
internal import Logging
internal import Synchronization

// Starting workers, reading their streams, and what is known of each.

/// A worker process, from its start to its end.
struct PoolChild {
    let version: Int
    var worker: PythonWorker?
    /// Also before there is a process.
    var isKilled = false
    /// How its process ended, and that everything it had said was read.
    var exit: ProcessExit?
    var isRead = false
    /// A batch took too long.
    var isHung = false
    var batches: UInt64 = 0
    var items: UInt64 = 0
    var busyNanoseconds: UInt64 = 0
    var lastAnswer: Tick?
    var residentBytes: UInt64 = 0
    /// Why the handler could not be loaded.
    var loadError: FlockError?
    /// The last lines that it wrote to stderr.
    var lastLines: [String] = []
    var dropped = 0

    mutating func count(_ answer: WorkerAnswer, items count: Int) {
        batches += 1
        items += UInt64(count)
        busyNanoseconds += answer.busyNanoseconds
        lastAnswer = .now
    }

    /// Of a process that ended before it was ready. Python ends a traceback, and sys.exit, with the line that says why;
    /// after a crash the last line is only where it was.
    func startError(of name: String, _ how: String) -> FlockError {
        var why = "."
        if case .exited = exit, let last = lastLines.last(where: { !$0.isEmpty }) { why = ": " + last }
        return FlockError(
            .pythonFailed,
            "The worker process of \(name) \(how) before it was ready\(why)"
                + lastLines.suffix(10).reduce(into: "") { $0 += "\n" + $1 })
    }
}

extension PythonWorker {
    /// With everything that it started, unless that has left its session.
    func kill() {
        process.signal(SIGKILL, group: true)
        cancel()
    }
}

extension PythonPool {
    /// Time for reading what a process had said before it ended.
    private static let lastWords = Duration.milliseconds(100)
    /// Lines of a dead worker's stderr that go to the log.
    private static let keptLines = 40

    func tags(of id: WorkerID) -> Logger.Metadata {
        let process = children[id]?.worker.map { "\($0.process.id)" } ?? "none"
        return ["stage": "\(name)", "child": "\(id)", "pid": "\(process)"]
    }

    func start(_ id: WorkerID, _ version: Int) {
        guard let installation = installations[version] else { preconditionFailure("no version \(version)") }
        children[id] = PoolChild(version: version)
        var program = installation.program
        program.environment = installation.environment.variables(
            interpreter: program.interpreter, threads: threads, folder: folder.make("\(id)"))
        let complete = program
        Task { await run(id, complete) }
    }

    private func run(_ id: WorkerID, _ program: WorkerProgram) async {
        let worker: PythonWorker
        do {
            worker = try await PythonWorker(program, on: queue, limits: limits) { [weak self, queue] event in
                guard let self else { return }
                queue.execute { self.assumeIsolated { $0.told(id, event) } }
            }
        } catch {
            children[id]?.loadError = error
            return ended(id, "could not be started: \(error.message)")
        }
        children[id]?.worker = worker
        if children[id]?.isKilled ?? true { worker.kill() }
        do {
            let ready = try await worker.open(program)
            log.debug(
                "a Python worker is ready",
                metadata: tags(of: id).merging(["python": "\(ready.pythonVersion)"]) { $1 })
            take(.ready(id))
            publish()
            if machine.wasFull { opening.take()?.resume(returning: .success(())) }
            // An answer is passed on where it is read: a task would be resumed on a thread of Swift's pool for it.
            try await worker.receiveAll { answer in self.assumeIsolated { $0.answered(id, answer) } }
        } catch let exception as PythonException {
            children[id]?.loadError = exception.loadError(of: name)
            if let version = children[id]?.version { loadErrors[version] = children[id]?.loadError }
            log.error(
                "the Python handler cannot be loaded",
                metadata: tags(of: id).merging(["traceback": "\(exception.traceback)"]) { $1 })
        } catch {
            // That the stream is cut off says less than how the process ends, which is told by `exited`.
            log.debug("the link to a Python worker ended", metadata: tags(of: id).merging(["why": "\(error)"]) { $1 })
        }
        children[id]?.isRead = true
        take(.lost(id))
        if let exit = children[id]?.exit { ended(id, "\(exit)") }
    }

    /// The last words of a process may still be in its socket: they are read first. If one that it started holds the
    /// socket open, that does not end, and is not waited for.
    private func exited(_ id: WorkerID, _ exit: ProcessExit) {
        children[id]?.exit = exit
        if children[id]?.isRead ?? true { return ended(id, "\(exit)") }
        let worker = children[id]?.worker
        Task {
            // Never cancelled.
            try? await Task.sleep(for: Self.lastWords)
            worker?.cancel()
        }
    }

    /// What a child does; those of a worker that has ended are not heard any more.
    private func told(_ id: WorkerID, _ event: ProcessEvent) {
        switch event {
        case .line(let line, let isError):
            let extra: Logger.Metadata = ["stream": isError ? "stderr" : "stdout", "line": "\(line)"]
            log.info("a Python worker printed", metadata: tags(of: id).merging(extra) { $1 })
            guard isError else { return }
            children[id]?.lastLines.append(line)
            if (children[id]?.lastLines.count ?? 0) > Self.keptLines { children[id]?.lastLines.removeFirst() }
        case .dropped(let lines):
            children[id]?.dropped += lines
            metrics?.dropped(lines)
            log.warning(
                "a Python worker prints too much; lines were dropped",
                metadata: tags(of: id).merging(["lines": "\(lines)"]) { $1 })
        case .pong: take(.heard(id))
        case .exited(let exit): exited(id, exit)
        }
    }

    private func ended(_ id: WorkerID, _ how: String) {
        guard let child = children[id] else { return }
        let phase = machine.index(id).map { machine.workers[$0].phase }
        let wasExpected = phase == .finishing || machine.isClosing
        if !wasExpected {
            lastDeath = child.isHung ? "it took too long" : "the process \(how)"
            lastError = child.loadError.map { String($0.message.prefix { $0 != "\n" }) } ?? lastDeath
            let tail = child.lastLines.suffix(Self.keptLines).joined(separator: "\n")
            log.error(
                "a Python worker ended", metadata: tags(of: id).merging(["how": "\(how)", "stderr": "\(tail)"]) { $1 })
            metrics?.restarted()
        }
        folder.remove("\(id)")
        if let opening = opening.take() {
            opening.resume(returning: .failure(child.loadError ?? child.startError(of: name, how)))
        }
        take(.ended(id))
        children[id] = nil
        endOldVersions()
        publish()
    }

    /// What a version leaves is cleaned up when its last process has ended.
    func endOldVersions() {
        for (version, installation) in installations where version != machine.version && version != machine.incoming {
            guard !children.values.contains(where: { $0.version == version }) else { continue }
            installations[version] = nil
            loadErrors[version] = nil
            endings.append(Task { await installation.end() })
        }
    }

    // MARK: Now and then

    func beat() {
        ticks += 1
        for (id, child) in children {
            child.worker?.process.ping(UInt64(ticks))
            if ticks % 4 == 0, let process = child.worker?.process.id {
                children[id]?.residentBytes = ProcessMemory.resident(of: process)
            }
        }
        if ticks % 4 == 0 {
            // Their lane may have given them up; and it is told that the others are still at work.
            let given = submissions.filter { !($0.value.call?.goesOn() ?? true) }
            for batch in given.keys { take(.withdraw(batch)) }
        }
        take(.tick)
        endOldVersions()
        publish()
    }

    func publish() {
        let now = Tick.now
        let list = machine.workers.compactMap { worker -> ChildStatus? in
            guard let child = children[worker.id] else { return nil }
            return ChildStatus(
                pipeline: place.pipeline, stage: place.stage, number: worker.id,
                process: child.worker?.process.id ?? 0, state: worker.phase.name, batches: child.batches,
                items: child.items, busyNanoseconds: child.busyNanoseconds, restarts: machine.restarts,
                lastError: lastError.withoutPaths, residentBytes: child.residentBytes,
                idleNanoseconds: child.lastAnswer.map { (now - $0).clampedNanoseconds })
        }
        metrics?.set(list)
        published.withLock { $0 = list }
    }

    /// Tracebacks that go to the log in a second.
    private static let tracebacks = 10

    /// The traceback of an exception goes to the log; its last line is the caller's.
    func note(_ exception: PythonException, of id: WorkerID) {
        lastError = exception.lastLine
        let second = Tick.now.nanoseconds / 1_000_000_000
        if second != logged.second { logged = (second, 0, logged.dropped) }
        guard logged.count < Self.tracebacks else {
            logged.dropped += 1
            return
        }
        logged.count += 1
        var extra: Logger.Metadata = ["traceback": "\(exception.traceback)"]
        if logged.dropped > 0 { extra["dropped"] = "\(logged.dropped)" }
        logged.dropped = 0
        log.error("a Python handler raised", metadata: tags(of: id).merging(extra) { $1 })
    }
}

extension WorkerPool.Phase {
    /// In the status.
    var name: String {
        switch self {
        case .starting: "starting"
        case .serving: "serving"
        case .spare: "spare"
        case .quarantine: "quarantine"
        case .draining, .finishing: "draining"
        case .dumping: "hung"
        case .dead: "ended"
        }
    }
}
