// Flockwork · Apache-2.0 · see LICENSE

// One worker process and the stream to it. It lives on the completion queue's thread, so that a batch costs no hop between
// executors. What to do about a worker that fails is decided elsewhere; here every batch ends with an answer or an error.

internal import FlockGRPC
internal import FlockWire
internal import Glibc

/// The program and handler of a worker.
struct WorkerProgram: Sendable {
    /// The environment's interpreter.
    var interpreter: String
    /// `libflockpython.so`.
    var extensionPath: String
    /// Handler code and model files.
    var folder: String
    /// Module and function of the handler.
    var module: String
    var function: String
    var form: PythonForm
    var environment: [(name: String, value: String)]
    var limits: ProcessLimits
}

/// A worker process that serves batches.
actor PythonWorker {
    /// What a worker tells of itself, in order, on the process thread.
    typealias Events = @Sendable (ProcessEvent) -> Void

    private let queue: CompletionQueue
    nonisolated var unownedExecutor: UnownedSerialExecutor { queue.asUnownedSerialExecutor() }
    nonisolated let process: ChildProcess
    private let channel: GRPCChannel
    private let limits: Limits
    private var stream: GRPCClientStream?
    private var nextSequence: UInt64 = 0
    private var waiting: [UInt64: CheckedContinuation<Result<PythonItems, any Error>, Never>] = [:]
    private var failure: FlockError?
    /// What it said when it was ready.
    private(set) var ready: WorkerReady?

    /// Starts the process; `open` then loads the handler.
    /// - Throws: `system` when the interpreter cannot be started.
    init(
        _ program: WorkerProgram, on queue: CompletionQueue, limits: Limits, events: @escaping Events
    ) async throws(FlockError) {
        let launch = Launch(
            executable: program.interpreter,
            arguments: [
                "-u", "-c", String(decoding: PackageResources.bootstrap_py, as: UTF8.self), program.extensionPath,
                program.module,
            ],
            environment: program.environment, folder: program.folder, limits: program.limits)
        process = try await ProcessThread.shared.launch(launch, onEvent: events)
        channel = GRPCChannel(overDescriptor: process.link, on: queue, limits: limits)
        self.queue = queue
        self.limits = limits
    }

    /// Loads the handler and returns when it is ready.
    /// - Throws: `pythonFailed` with the traceback when the handler cannot be loaded or the process ends.
    func open(_ program: WorkerProgram) async throws -> WorkerReady {
        let stream = try await channel.stream("/flockwork.python.v1.Worker/Run")
        self.stream = stream
        do throws(FlockError) {
            try await stream.both.send(
                WorkerRequest.open(
                    folder: program.folder, module: program.module, function: program.function, form: program.form,
                    resultLimit: limits.frameBytes))
            guard let first = try await stream.both.receive() else { throw Self.gone }
            switch Result(catching: { () throws(WireError) in try WorkerMessage(first, limits: limits) }) {
            case .success(.ready(let ready)):
                self.ready = ready
                Task { await receive(from: stream.both) }
                return ready
            case .success(.failed(let exception)): throw exception.error(of: "cannot be loaded")
            default: throw FlockError(.pythonFailed, "the worker said something else than that it is ready")
            }
        } catch {
            throw error.code == .pythonFailed ? error : Self.gone
        }
    }

    private static let gone = FlockError(.pythonFailed, "the worker process ended before it was ready")

    /// Has a batch worked on. Several may be under way; they are worked on in order.
    /// - Throws: `PythonException` when the handler threw; `pythonFailed` when the process ended.
    func process(_ items: PythonItems) async throws -> PythonItems {
        if let failure { throw failure }
        guard let stream else { preconditionFailure("a batch for a worker that is not open") }
        let sequence = nextSequence
        nextSequence += 1
        let message = WorkerRequest.batch(sequence: sequence, items)
        let result = await withCheckedContinuation { continuation in
            waiting[sequence] = continuation
            // In order, because this runs on the call's own thread.
            stream.both.push(message)
        }
        return try result.get()
    }

    /// No more batches come; the process ends after those that it has.
    func finish() { stream?.finishSending() }

    private func receive(from stream: GRPCStream) async {
        var ending = FlockError(.pythonFailed, "the worker process ended")
        do throws(FlockError) {
            while let bytes = try await stream.receive() {
                let message = Result { () throws(WireError) in try WorkerMessage(bytes, limits: limits) }
                guard case .success(.result(let sequence, _, let result)) = message else {
                    throw FlockError(.pythonFailed, "the worker sent a message that cannot be read")
                }
                waiting.removeValue(forKey: sequence)?.resume(returning: result.mapError { $0 })
            }
        } catch {
            if error.code == .pythonFailed || error.code == .overloaded { ending = error }
            stream.cancel()
        }
        failure = ending
        let left = waiting
        waiting = [:]
        for continuation in left.values { continuation.resume(returning: .failure(ending)) }
    }
}

extension PythonException {
    /// What callers see: the class and the message; the traceback is for the log.
    func error(of what: String) -> FlockError {
        FlockError(.pythonFailed, "the Python handler \(what): \(type): \(message)")
    }
}
