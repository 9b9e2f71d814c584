// Flockwork · Apache-2.0 · see LICENSE

internal import FlockWire
internal import Foundation
internal import Logging

/// Makes the byte code of an environment beside what else is done: while packages are installed, and while the first
/// workers start. Workers write none, and compile for themselves what is not there yet. It ends with this object.
final class ByteCode: Sendable {
    /// A file of an environment into which all is installed, and which has not all of its byte code.
    static let pending = "BYTECODE-PENDING"

    private let making: Task<Void, Never>

    /// Begins. Until everything is installed, those packages are compiled that are.
    init(of environment: String, within time: Duration, log: Logger) {
        making = Task {
            let script = String(decoding: PackageResources.compile_py, as: UTF8.self)
            let markers = [Self.pending, EnvironmentCache.marker].map { environment + "/" + $0 }
            let tool = Tool(
                executable: environment + "/bin/python3", arguments: ["-I", "-c", script] + markers,
                environment: EnvironmentBuilder.variables(), folder: environment)
            do throws(FlockError) {
                try await tool.succeed("Byte code cannot be made", within: time)
            } catch {
                // It works without: whoever uses it next tries again.
                guard !Task.isCancelled else { return }
                log.warning("a Python environment is without byte code", metadata: ["why": "\(error.message)"])
            }
        }
    }

    deinit { making.cancel() }

    /// Ends it unfinished.
    func cancel() { making.cancel() }

    /// Returns when nothing is compiled any more.
    func ended() async { await making.value }
}
