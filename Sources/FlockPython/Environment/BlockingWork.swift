// Flockwork · Apache-2.0 · see LICENSE

internal import FlockWire
internal import Foundation

/// Runs what waits for a disk on a thread of its own: Swift's have batches to work on.
func onOwnThread<Value: Sendable>(
    _ body: @escaping @Sendable () throws(FlockError) -> Value
) async throws(FlockError) -> Value {
    let result: Result<Value, FlockError> = await withCheckedContinuation { continuation in
        Thread.detachNewThread { continuation.resume(returning: Result(catching: body)) }
    }
    return try result.get()
}

/// A descriptor that is closed with this value.
struct OpenFile: ~Copyable {
    let descriptor: Int32

    /// - Throws: `system`, from `errno`, if it is none.
    init(_ descriptor: Int32, _ what: @autoclosure () -> String) throws(FlockError) {
        guard descriptor >= 0 else { throw FlockError(systemCallFor: what()) }
        self.descriptor = descriptor
    }

    deinit { close(descriptor) }
}

extension FlockError {
    /// What `errno` says.
    init(systemCallFor what: String) { self.init(.system, "\(what): \(String(cString: strerror(errno)))") }
}
