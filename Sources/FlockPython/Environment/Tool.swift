// Flockwork · Apache-2.0 · see LICENSE

internal import FlockWire
internal import Foundation
internal import Synchronization

/// A program that is run to its end: pip, uv, an interpreter, a script of the model's.
struct Tool: Sendable {
    /// What became of it.
    struct Run: Sendable {
        var exit: ProcessExit
        /// Lines of its standard output, at most `keptOutput`.
        var output: [String]
        /// The last lines of both its outputs.
        var tail: String
        var ranOutOfTime: Bool
    }

    var executable: String
    var arguments: [String]
    var environment: [(name: String, value: String)]
    var folder: String

    private static let keptOutput = 20_000
    private static let keptTail = 40

    private struct State {
        var output: [String] = []
        var tail: [String] = []
        var exit: ProcessExit?
        var waiter: CheckedContinuation<Void, Never>?
        var isLate = false
    }

    /// Runs it; it is killed, with what it started, when the time is over or the task is cancelled.
    /// - Throws: `system` if it cannot be started.
    func run(
        within time: Duration, onLine: @escaping @Sendable (String) -> Void = { _ in }
    ) async throws(FlockError) -> Run {
        var limits = ProcessLimits()
        // Downloads and compilers write what they must.
        limits.fileBytes = 64 << 30
        limits.descriptors = 4096
        let state = Mutex(State())
        let child = try await ProcessThread.shared.launch(
            Launch(
                executable: executable, arguments: arguments, environment: environment, folder: folder, limits: limits)
        ) { event in
            switch event {
            case .line(let line, let isError):
                state.withLock { state in
                    if !isError, state.output.count < Self.keptOutput { state.output.append(line) }
                    state.tail.append(line)
                    if state.tail.count > Self.keptTail { state.tail.removeFirst() }
                }
                onLine(line)
            case .exited(let exit):
                let waiter = state.withLock { state in
                    state.exit = exit
                    return state.waiter.take()
                }
                waiter?.resume()
            case .dropped, .pong: break
            }
        }
        close(child.link)
        let clock = Task {
            // Cancelled when the program has ended.
            guard (try? await Task.sleep(for: time)) != nil else { return }
            state.withLock { $0.isLate = true }
            child.signal(SIGKILL, group: true)
        }
        await withTaskCancellationHandler {
            await withCheckedContinuation { continuation in
                let isOver = state.withLock { state in
                    if state.exit == nil { state.waiter = continuation }
                    return state.exit != nil
                }
                if isOver { continuation.resume() }
            }
        } onCancel: {
            child.signal(SIGKILL, group: true)
        }
        clock.cancel()
        return state.withLock { state in
            guard let exit = state.exit else { preconditionFailure("a tool that has not ended was waited for") }
            return Run(
                exit: exit, output: state.output, tail: state.tail.joined(separator: "\n"), ranOutOfTime: state.isLate)
        }
    }

    /// Runs it, and takes anything but success as an error.
    /// - Throws: `pythonFailed` that begins with `what` and ends with the last lines of the output; `system`.
    @discardableResult
    func succeed(
        _ what: String, within time: Duration, onLine: @escaping @Sendable (String) -> Void = { _ in }
    ) async throws(FlockError) -> [String] {
        let ran = try await run(within: time, onLine: onLine)
        guard ran.exit == .exited(0) else {
            let how = ran.ranOutOfTime ? "took longer than \(time)" : "\(ran.exit)"
            throw FlockError(.pythonFailed, "\(what): \(executable) \(how).\n\(ran.tail)")
        }
        return ran.output
    }
}
