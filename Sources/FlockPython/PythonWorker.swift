// Flockwork · Apache-2.0 · see LICENSE

// One worker process and the stream to it. What to do about a worker that fails is decided elsewhere.

internal import FlockGRPC
internal import FlockWire
internal import Glibc

/// The program and handler of a worker.
struct WorkerProgram: Sendable {
    /// The environment's interpreter.
    var interpreter: String
    /// `libflockpython.so`; nil: not to be loaded.
    var extensionPath: String?
    /// Where that cannot be loaded the worker on grpcio serves.
    var mayFallBack = false
    /// Handler code and model files.
    var folder: String
    /// Module and function of the handler.
    var module: String
    var function: String
    var form: PythonForm
    var environment: [(name: String, value: String)]
    var limits: ProcessLimits
}

/// A worker process that serves batches. For an actor on the completion queue: there a batch costs no change of thread.
struct PythonWorker: Sendable {
    /// What a worker tells of itself, in order, on the process thread.
    typealias Events = @Sendable (ProcessEvent) -> Void

    let process: ChildProcess
    let stream: GRPCClientStream
    // Keeps the connection.
    private let channel: GRPCChannel
    private let limits: Limits

    /// Starts the process; `open` then loads the handler.
    /// - Throws: `system` when the interpreter cannot be started.
    init(
        _ program: WorkerProgram, on queue: CompletionQueue, limits: Limits, events: @escaping Events
    ) async throws(FlockError) {
        let launch = Launch(
            executable: program.interpreter,
            arguments: [
                "-u", "-c", String(decoding: PackageResources.bootstrap_py, as: UTF8.self), program.extensionPath ?? "",
                program.module,
                program.mayFallBack ? String(decoding: PackageResources.grpcio_worker_py, as: UTF8.self) : "",
            ],
            environment: program.environment, folder: program.folder, limits: program.limits)
        process = try await ProcessThread.shared.launch(launch, onEvent: events)
        self.limits = limits
        // The elements of a result are bounded; its head comes on top.
        var frames = limits
        frames.frameBytes = Self.resultBytes(limits) + 64 << 10
        channel = GRPCChannel(overDescriptor: process.link, on: queue, limits: frames)
        do {
            stream = try await channel.stream("/flockwork.python.v1.Worker/Run")
        } catch {
            process.signal(SIGKILL, group: true)
            throw error
        }
    }

    /// Bytes of the results of one batch: strings and arrays of a model may be larger than what went in.
    private static func resultBytes(_ limits: Limits) -> Int { 4 * limits.batchBytes }

    /// Loads the handler and returns when it is ready.
    /// - Throws: `PythonException` when the handler cannot be loaded; else `FlockError`.
    func open(_ program: WorkerProgram) async throws -> WorkerReady {
        try await stream.both.send(
            WorkerRequest.open(
                folder: program.folder, module: program.module, function: program.function, form: program.form,
                resultLimit: Self.resultBytes(limits)))
        guard let first = try await stream.both.receive() else { throw Self.gone }
        switch try Self.message(first) {
        case .ready(let ready): return ready
        case .failed(let exception): throw exception
        case .result: throw FlockError(.pythonFailed, "the worker said something else than that it is ready")
        }
    }

    static let gone = FlockError(.pythonFailed, "the worker process ended before it was ready")

    /// Has a batch of `WorkerRequest.batch` worked on. Several may be under way; they are worked on in order. On the
    /// queue's thread.
    func send(_ batch: Bytes) { stream.both.push(batch) }

    /// Has `take` called with each answer, on the queue's thread; returns after the last one of a worker that ends
    /// well. `take` says whether there are batches without an answer.
    func receiveAll(_ take: @escaping @Sendable (WorkerAnswer) -> Bool) async throws(FlockError) {
        try await stream.both.receiveAll(expected: false) { (bytes) throws(FlockError) in
            guard case .result(let answer) = try Self.message(bytes) else {
                throw FlockError(.pythonFailed, "the worker said that it is ready, again")
            }
            return take(answer)
        }
    }

    /// No more batches come; the process ends after those that it has.
    func finish() { stream.finishSending() }

    /// Nothing is read from it any more.
    func cancel() { stream.both.cancel() }

    static func message(_ bytes: Bytes) throws(FlockError) -> WorkerMessage {
        do throws(WireError) {
            return try WorkerMessage(bytes)
        } catch {
            throw FlockError(.pythonFailed, "the worker sent a message that cannot be read: \(error)")
        }
    }
}
