// Flockwork · Apache-2.0 · see LICENSE

// Nodes as child processes: this program again, with other flags. A child reads its standard input and drains when it
// ends, so that no node outlives a launcher that was killed.

import Flockwork
import Foundation
import Synchronization

/// A node in a process of its own.
final class ChildNode: Sendable {
    let id: String
    let port: Int
    /// With which it was started.
    let arguments: [String]
    /// Set when the process has ended.
    let ended = OneShot<Int32>()
    private let ready = OneShot<Result<String, FlockError>>()
    private let process: Process
    private let input = Pipe()
    private let lastLines = Mutex<[String]>([])

    /// Starts the process, in a network namespace if one is named. `onLine` gets each line that it writes, ready lines
    /// included.
    init(
        id: String, port: Int, arguments: [String], namespace: String? = nil, program: URL? = nil,
        onLine: @escaping @Sendable (String) -> Void
    ) throws(FlockError) {
        self.id = id
        self.port = port
        self.arguments = arguments
        process = Process()
        let output = Pipe()
        // The running file itself, also when it was found through PATH or was replaced meanwhile.
        let program = program ?? URL(fileURLWithPath: "/proc/self/exe").resolvingSymlinksInPath()
        if let namespace {
            // Both become the program, and keep the process's number.
            process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
            process.arguments = ["ip", "netns", "exec", namespace, program.path] + arguments
        } else {
            process.executableURL = program
            process.arguments = arguments
        }
        process.standardInput = input
        process.standardOutput = output
        process.standardError = output
        let lines = LineSplitter { [weak self] line in
            self?.took(line)
            onLine(line)
        }
        output.fileHandleForReading.readabilityHandler = { handle in
            let data = handle.availableData
            if data.isEmpty {
                handle.readabilityHandler = nil
                lines.finish()
            } else {
                lines.take(data)
            }
        }
        process.terminationHandler = { [weak self] process in self?.terminated(process) }
        do {
            try process.run()
        } catch {
            throw FlockError(.system, "node \(id) could not be started: \(error)", cause: error)
        }
    }

    var pid: Int32 { process.processIdentifier }

    private func took(_ line: String) {
        lastLines.withLock { lines in
            lines.append(line)
            if lines.count > 20 { lines.removeFirst() }
        }
        if line.hasPrefix(ReadyLine.prefix) { ready.set(.success(line)) }
    }

    private func terminated(_ process: Process) {
        let status =
            process.terminationReason == .uncaughtSignal
            ? 128 + process.terminationStatus : process.terminationStatus
        let text = lastLines.withLock { $0.joined(separator: "\n") }
        ready.set(
            .failure(
                FlockError(.unavailable, "node \(id) ended with status \(status)\(text.isEmpty ? "" : ":\n\(text)")")))
        ended.set(status)
    }

    /// Returns when the node accepts connections; throws when it ended, or was not ready in time.
    func waitUntilReady(within limit: Duration) async throws(FlockError) {
        let ready = ready
        let result = await first(within: limit) { await ready.value() }
        switch result {
        case .success?: return
        case .failure(let error)?: throw error
        case nil: throw FlockError(.deadlineExceeded, "node \(id) was not ready within \(limit)")
        }
    }

    /// Asks the process to drain; kills it when that takes too long. Returns its status.
    func stop(within limit: Duration) async -> Int32 {
        if ended.peek == nil { kill(pid, SIGTERM) }
        let ended = ended
        if let status = await first(within: limit, { await ended.value() }) { return status }
        killNow()
        return await ended.value() ?? -1
    }

    /// Ends the process at once.
    func killNow() {
        if ended.peek == nil { kill(pid, SIGKILL) }
    }
}

/// The line by which a node says that it accepts connections.
enum ReadyLine {
    static let prefix = "ready "

    static func text(id: String, host: String, port: Int, details: String) -> String {
        "\(prefix)\(id) on \(host):\(port) · \(details)"
    }
}

/// Cuts what a pipe brings into lines.
private final class LineSplitter: Sendable {
    private static let longest = 64 << 10
    private let rest = Mutex(Data())
    private let onLine: @Sendable (String) -> Void

    init(onLine: @escaping @Sendable (String) -> Void) { self.onLine = onLine }

    func take(_ data: Data) {
        let lines = rest.withLock { rest in
            rest.append(data)
            var lines: [String] = []
            while let end = rest.firstIndex(of: 0x0A) {
                lines.append(String(decoding: rest[rest.startIndex..<end], as: UTF8.self))
                rest.removeSubrange(rest.startIndex...end)
            }
            if rest.count > Self.longest {
                lines.append(String(decoding: rest, as: UTF8.self))
                rest.removeAll()
            }
            return lines
        }
        lines.forEach(onLine)
    }

    func finish() {
        let last = rest.withLock { rest in
            defer { rest.removeAll() }
            return rest.isEmpty ? nil : String(decoding: rest, as: UTF8.self)
        }
        if let last { onLine(last) }
    }
}

/// A value that is set once and may be awaited by several tasks; the first setting counts.
final class OneShot<Value: Sendable>: Sendable {
    private struct State {
        var value: Value?
        var waiting: [Int: CheckedContinuation<Value?, Never>] = [:]
        var next = 0
    }
    private let state = Mutex(State())

    var peek: Value? { state.withLock { $0.value } }

    func set(_ value: Value) {
        let waiting = state.withLock { state in
            guard state.value == nil else { return [Int: CheckedContinuation<Value?, Never>]() }
            state.value = value
            defer { state.waiting = [:] }
            return state.waiting
        }
        for continuation in waiting.values { continuation.resume(returning: value) }
    }

    /// The value, when it is set; nil if the task is cancelled before.
    func value() async -> Value? {
        let ticket = state.withLock { state in
            state.next += 1
            return state.next
        }
        return await withTaskCancellationHandler {
            await withCheckedContinuation { continuation in
                let now: Value?? = state.withLock { state in
                    if let value = state.value { return .some(value) }
                    if Task.isCancelled { return .some(nil) }
                    state.waiting[ticket] = continuation
                    return nil
                }
                if let now { continuation.resume(returning: now) }
            }
        } onCancel: {
            state.withLock { $0.waiting.removeValue(forKey: ticket) }?.resume(returning: nil)
        }
    }
}

/// What `body` returns, or nil when it takes longer.
func first<Value: Sendable>(
    within limit: Duration, _ body: @escaping @Sendable () async -> Value?
) async -> Value? {
    await withTaskGroup(of: Value?.self) { group in
        group.addTask { await body() }
        group.addTask {
            // Cancelled as soon as the other task is through.
            do { try await Task.sleep(for: limit) } catch { return nil }
            return nil
        }
        defer { group.cancelAll() }
        return await group.next() ?? nil
    }
}
