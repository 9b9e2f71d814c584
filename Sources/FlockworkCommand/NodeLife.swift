// Flockwork · Apache-2.0 · see LICENSE

internal import Flockwork
internal import Glibc
internal import UnixSignals

/// A started node until its end: a signal, an operator's order, or a cluster that does not have it.
struct NodeLife {
    let node: Node

    /// Returns when the node has ended. The first SIGTERM or Ctrl-C drains it, the second one ends the process at once,
    /// with 128 and the signal's number.
    ///
    /// - Parameter ready: Called when the node is a member, if it is to be one.
    /// - Throws: why the cluster goes on without it.
    func run(_ ready: @escaping @Sendable () async -> Void) async throws {
        let (first, signals) = await Self.signals()
        defer { signals.cancel() }
        let exclusion = await withTaskGroup(of: FlockError?.self) { group in
            group.addTask {
                for await _ in first { break }
                return nil
            }
            group.addTask {
                do {
                    try await node.joined()
                } catch {
                    return (error as? FlockError) ?? FlockError(.unavailable, "\(error)", cause: error)
                }
                await ready()
                await node.askedToLeave()
                return nil
            }
            group.addTask { await node.exclusion() }
            let exclusion = await group.next() ?? nil
            group.cancelAll()
            // The others wait until then.
            await node.shutDown()
            return exclusion
        }
        if let exclusion { throw exclusion }
    }

    /// Something to wait for that the first signal ends, and who watches for the second.
    private static func signals() async -> (AsyncStream<Void>, Task<Void, Never>) {
        let signals = await UnixSignalsSequence(trapping: .sigterm, .sigint)
        let (first, continuation) = AsyncStream.makeStream(of: Void.self, bufferingPolicy: .bufferingNewest(1))
        let watch = Task {
            var count = 0
            for await signal in signals {
                count += 1
                if count == 2 { _exit(128 + signal.rawValue) }
                continuation.yield()
            }
        }
        return (first, watch)
    }
}
