// Flockwork · Apache-2.0 · see LICENSE

// The workers of one model on one node, as `WorkerPool` wants them. It lives on the thread of the completion queue,
// with the streams to its workers: between a caller's task and the socket there is one change of thread each way.
// Callers encode and decode on their own tasks.

internal import FlockGRPC
internal import FlockWire
package import Flockwork
internal import Glibc
internal import Logging
internal import Synchronization

/// The worker processes of one Python model on one node.
package actor PythonPool {
    /// A batch, and who waits for it.
    struct Submission {
        let message: Bytes
        let count: Int
        let waiter: CheckedContinuation<Result<WorkerAnswer.Content, FlockError>, Never>
        let call: StepCall?
    }

    let queue: CompletionQueue
    package nonisolated var unownedExecutor: UnownedSerialExecutor { queue.asUnownedSerialExecutor() }
    let name: String
    let log: Logger
    let limits: Limits
    let folder: PrivateFolder
    let place: SharedContext
    let metrics: PoolMetrics?
    let threads: Int
    nonisolated let published = Mutex<[ChildStatus]>([])
    private nonisolated let nextBatch = Atomic<UInt64>(1)

    var machine: WorkerPool
    /// By version.
    var installations: [Int: ModelInstallation] = [:]
    /// Old versions that clean up.
    var endings: [Task<Void, Never>] = []
    private let models: RunningModels
    var children: [WorkerID: PoolChild] = [:]
    var submissions: [BatchID: Submission] = [:]
    var lastError = ""
    /// Why a version's handler could not be loaded.
    var loadErrors: [Int: FlockError] = [:]
    /// How the last process ended that was not told to.
    var lastDeath = "no process has ended yet"
    /// Tracebacks written to the log in this second; what is more is counted.
    var logged = (second: UInt64(0), count: 0, dropped: 0)
    var opening: CheckedContinuation<Result<Void, FlockError>, Never>?
    var closing: CheckedContinuation<Void, Never>?
    private var replacing: CheckedContinuation<Result<Void, FlockError>, Never>?
    private var nextVersion = 1
    /// When those that cannot even be killed are not waited for any more.
    private var closesBy = Tick.never
    private var events: [WorkerPool.Event] = []
    private var directives: [WorkerPool.Directive] = []
    private var isStepping = false
    /// What the worker said of the batch whose `answered` is in `events`.
    private var answers: [BatchID: WorkerAnswer.Content] = [:]
    private var armed = Tick.never
    private var ticker: Task<Void, Never>?
    var ticks = 0

    private init(
        _ settings: PoolSettings, _ installation: ModelInstallation, _ model: PythonModel, queue: CompletionQueue,
        for place: SharedContext
    ) throws(FlockError) {
        self.queue = queue
        name = model.name
        models = model.running
        self.place = place
        log = place.node.log
        limits = place.node.limits
        threads = max(1, place.node.cores / settings.workers)
        folder = try PrivateFolder()
        metrics = PoolMetrics(for: place)
        machine = WorkerPool(settings)
        installations[1] = installation
    }

    /// Starts the workers; returns when all are ready.
    /// - Throws: `pythonFailed`, with the traceback, when the handler cannot be loaded.
    static func open(
        _ model: PythonModel, _ form: PythonForm, for place: SharedContext
    ) async throws -> PythonPool {
        let node = place.node
        let model = model.current
        // One thread for all Python of the node.
        let queue = try await node.whole.shared("python") {
            let queue = try CompletionQueue(name: "python")
            // It ends after the pools, which are of lanes.
            node.whole.atEnd { await queue.stop() }
            return queue
        }
        var settings = PoolSettings()
        settings.workers = max(1, place.instances)
        settings.spares = model.options.spares
        settings.window = model.options.window
        settings.batchTime = model.options.batchTime
        settings.loadTime = model.options.loadTime
        let installation = try await ModelInstallation(model, form, log: node.log)
        if settings.workers > 1 { await installation.byteCodeMade() }
        let pool: PythonPool
        do {
            pool = try PythonPool(settings, installation, model, queue: queue, for: place)
        } catch {
            await installation.end()
            throw error
        }
        node.atEnd { await pool.close() }
        node.tellsChildren { pool.published.withLock { $0 } }
        try await pool.begin()
        model.running.add(pool)
        return pool
    }

    private func begin() async throws {
        ticker = Task { await keepTime() }
        let started = await withCheckedContinuation { continuation in
            opening = continuation
            take(.tick)
        }
        do {
            try started.get()
        } catch {
            await close()
            throw error
        }
    }

    /// Has workers of another folder, interpreter or function take over: they are started beside the old ones, then the
    /// traffic moves, then the old ones finish what they have and end. One at a time.
    /// - Throws: `pythonFailed` when they cannot be started; the old ones go on then.
    package func replace(with model: PythonModel) async throws {
        guard replacing == nil, !machine.isClosing else {
            throw FlockError(.unavailable, "The model is being replaced already, or the node is ending.", stage: name)
        }
        guard let form = installations[machine.version]?.program.form else {
            preconditionFailure("no version \(machine.version)")
        }
        let installation = try await ModelInstallation(model, form, log: log)
        // The old ones work meanwhile.
        await installation.byteCodeMade()
        guard !machine.isClosing else {
            await installation.end()
            throw error(.closing)
        }
        nextVersion += 1
        installations[nextVersion] = installation
        let replaced = await withCheckedContinuation { continuation in
            let other = replacing
            replacing = continuation
            other?.resume(returning: .failure(FlockError(.cancelled, "Another version came.", stage: name)))
            take(.replace(version: nextVersion))
        }
        try replaced.get()
    }

    /// Ends the workers, after what they hold. May be called twice.
    package func close() async {
        guard !machine.isClosed else { return }
        await withCheckedContinuation { continuation in
            let other = closing.take()
            closing = continuation
            other?.resume()
            closesBy = .now + machine.settings.endTime * 2
            take(.close)
        }
        ticker?.cancel()
        models.remove(self)
        endings += installations.values.map { installation in Task { await installation.end() } }
        installations = [:]
        for ending in endings { await ending.value }
        folder.remove()
    }

    // MARK: Batches

    /// Has a worker's handler called with the items; gives one result an item.
    /// - Throws: `pythonFailed` when the handler raised or returned what it must not; `poison` when the items were
    /// alone in   a process that died, after others had; `unavailable` when no process can be started.
    package nonisolated func process(_ items: PythonItems) async throws(FlockError) -> PythonItems {
        let batch = nextBatch.add(1, ordering: .relaxed).oldValue
        let message = WorkerRequest.batch(sequence: batch, items)
        let call = StepCall.current
        let isSuspect = call?.isSuspect ?? false
        let count = items.count
        let answer = await withCheckedContinuation { continuation in
            let submission = Submission(message: message, count: count, waiter: continuation, call: call)
            queue.execute {
                self.assumeIsolated { pool in
                    pool.submissions[batch] = submission
                    pool.take(.submit(batch, isSuspect: isSuspect))
                }
            }
        }
        switch try answer.get() {
        case .failed(let exception): throw exception.error(limits: limits, stage: name)
        case .items(let field, let bytes):
            do throws(WireError) {
                return try PythonItems(field: field, bytes, count: count, limits: limits)
            } catch {
                throw FlockError(.pythonFailed, "The Python worker's answer cannot be read: \(error)", stage: name)
            }
        }
    }

    /// A worker has said something about a batch. Whether it has others.
    func answered(_ worker: WorkerID, _ answer: WorkerAnswer) -> Bool {
        let count = submissions[answer.sequence]?.count ?? 0
        children[worker]?.count(answer, items: count)
        metrics?.count(answer, items: count)
        if case .failed(let exception) = answer.content { note(exception, of: worker) }
        answers[answer.sequence] = answer.content
        take(.answered(worker, answer.sequence))
        answers[answer.sequence] = nil
        return machine.index(worker).map { !machine.workers[$0].held.isEmpty } ?? true
    }

    // MARK: Events and directives

    /// Takes an event in and does what follows. Called again from within, it waits for its turn.
    func take(_ event: WorkerPool.Event) {
        events.append(event)
        guard !isStepping else { return }
        isStepping = true
        var next = 0
        while next < events.count {
            let now = Tick.now
            machine.step(events[next], now: now, &directives)
            next += 1
            for directive in directives { carryOut(directive) }
            directives.removeAll(keepingCapacity: true)
        }
        events.removeAll(keepingCapacity: true)
        isStepping = false
        arm()
    }

    private func carryOut(_ directive: WorkerPool.Directive) {
        switch directive {
        case .assign(let batch, let worker):
            guard let submission = submissions[batch] else { preconditionFailure("batch \(batch) is not there") }
            children[worker]?.worker?.send(submission.message)
        case .deliver(let batch):
            guard let answer = answers[batch] else { preconditionFailure("batch \(batch) has no answer") }
            submissions.removeValue(forKey: batch)?.waiter.resume(returning: .success(answer))
        case .fail(let batch, let failure):
            submissions.removeValue(forKey: batch)?.waiter.resume(returning: .failure(error(failure)))
        case .start(let id, let version): start(id, version)
        case .dump(let id):
            log.warning("a Python worker takes too long; it writes its stacks and is killed", metadata: tags(of: id))
            children[id]?.isHung = true
            children[id]?.worker?.process.signal(SIGUSR1)
        case .kill(let id):
            children[id]?.isKilled = true
            children[id]?.worker?.kill()
        case .finish(let id): children[id]?.worker?.finish()
        case .adopted(let version):
            log.notice(
                "a new version of the Python model has taken over",
                metadata: ["stage": "\(name)", "folder": "\(installations[version]?.program.folder ?? "")"])
            replacing.take()?.resume(returning: .success(()))
        case .rejected(let version):
            log.error(
                "a new version of the Python model cannot be started; the old one goes on",
                metadata: [
                    "stage": "\(name)", "folder": "\(installations[version]?.program.folder ?? "")",
                    "error": "\(lastError)",
                ])
            replacing.take()?.resume(
                returning: .failure(
                    loadErrors[version] ?? FlockError(.pythonFailed, "The new version: \(lastError)", stage: name)))
        case .closed:
            closing.take()?.resume()
            replacing.take()?.resume(returning: .failure(error(.closing)))
        }
    }

    private func error(_ failure: WorkerPool.Failure) -> FlockError {
        switch failure {
        case .poison:
            FlockError(
                .poison, "Each process of the Python handler that had it died or hung; of the last: \(lastDeath).",
                stage: name)
        case .noWorkers:
            FlockError(
                .unavailable, "No process of the Python handler can be started: \(lastError.withoutPaths)",
                stage: name)
        case .closing: FlockError(.shuttingDown, "The node is shutting down.", stage: name)
        case .withdrawn: FlockError(.cancelled, "Nobody waits for the batch any more.", stage: name)
        }
    }

    // MARK: Time

    /// How often workers are pinged and looked at.
    static let beat = Duration.milliseconds(250)

    private func keepTime() async {
        while !Task.isCancelled {
            // Cancellation ends the loop.
            try? await Task.sleep(for: Self.beat)
            beat()
            if closesBy < .now, let closing = closing.take() {
                log.error("Python workers did not end, though killed", metadata: ["stage": "\(name)"])
                closing.resume()
            }
        }
    }

    /// Has a tick come earlier than the next beat, if it is wanted.
    private func arm() {
        guard let wanted = machine.wakeUp, wanted != armed else { return }
        armed = wanted
        let delay = wanted - Tick.now
        guard delay < Self.beat else {
            armed = .never
            return
        }
        Task {
            // Never cancelled.
            try? await Task.sleep(for: delay)
            armed = .never
            take(.tick)
        }
    }
}
