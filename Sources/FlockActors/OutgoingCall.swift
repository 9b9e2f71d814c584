// Flockwork · Apache-2.0 · see LICENSE

// An ordinary call, on the caller's side: first it collects the encoded arguments, then it waits in the peer's table.
// One object for both, so that a call costs one.

public import Distributed
internal import FlockTransport
internal import FlockWire

/// The arguments of one distributed call, then its place in the table of waiting calls.
public final class OutgoingCall: DistributedTargetInvocationEncoder, Sendable {
    public typealias SerializationRequirement = any Codable

    let limits: Limits
    // Touched by the calling task until the call is handed to the loop, then by the loop only.
    nonisolated(unsafe) private var writer: ByteWriter? = ByteWriter(capacity: 64)
    nonisolated(unsafe) private(set) var argumentCount: UInt16 = 0
    nonisolated(unsafe) private(set) var arguments = Bytes.empty
    // Of the loop.
    nonisolated(unsafe) private var continuation: UnsafeContinuation<Bytes, any Error>?
    nonisolated(unsafe) private(set) var isCancelled = false
    nonisolated(unsafe) var number: CallNumber?
    nonisolated(unsafe) var method: UInt32 = 0
    nonisolated(unsafe) var address = ActorAddress(node: NodeID(""), key: 0)
    nonisolated(unsafe) var deadline: Duration?

    init(limits: Limits) { self.limits = limits }

    /// Generic methods are refused: the receiver would have to look the sender's types up by name.
    public func recordGenericSubstitution<T>(_ type: T.Type) throws {
        throw FlockError(.invalidInput, "a generic distributed method cannot be called on another node")
    }

    public func recordArgument<Value: Codable>(_ argument: RemoteCallArgument<Value>) throws {
        guard argumentCount < CallHeader.raw - 1 else {
            throw FlockError(.tooLarge, "a distributed method with \(argumentCount) arguments")
        }
        guard var writer = writer.take() else { preconditionFailure("an argument after doneRecording") }
        try WireCoder.encode(argument.value, into: &writer, limits: limits)
        self.writer = consume writer
        argumentCount += 1
    }

    public func recordReturnType<R: Codable>(_ type: R.Type) throws {}

    public func recordErrorType<E: Error>(_ type: E.Type) throws {}

    public func doneRecording() throws {
        arguments = writer.take()?.finish() ?? .empty
        let room = limits.frameBytes - CallHeader.size
        guard arguments.count <= room else {
            throw FlockError(
                .tooLarge, "arguments of \(arguments.count) bytes, over \(room). Send less a call.",
                limit: .frameBytes)
        }
    }

    /// Waits for the reply's payload.
    func exchange(over peer: Peer) async throws -> Bytes {
        try await withTaskCancellationHandler {
            try await withUnsafeThrowingContinuation { continuation in
                if peer.loop.isCurrent {
                    begin(continuation, over: peer)
                } else {
                    peer.loop.execute { self.begin(continuation, over: peer) }
                }
            }
        } onCancel: {
            // The loop runs work in order: after `begin`, or before it if the task was cancelled before it suspended.
            peer.loop.execute { self.cancel(over: peer) }
        }
    }

    private func begin(_ continuation: UnsafeContinuation<Bytes, any Error>, over peer: Peer) {
        self.continuation = continuation
        if isCancelled {
            resume(throwing: FlockError(.cancelled, "the call was cancelled"))
        } else {
            peer.start(self)
        }
    }

    private func cancel(over peer: Peer) {
        isCancelled = true
        if let number { peer.cancel(number) }
    }

    func resume(returning payload: Bytes) {
        continuation.take()?.resume(returning: payload)
    }

    func resume(throwing error: FlockError) {
        continuation.take()?.resume(throwing: error)
    }
}

/// The arguments of one call, on the receiver's side.
public struct IncomingArguments: DistributedTargetInvocationDecoder, Sendable {
    public typealias SerializationRequirement = any Codable

    private var reader: ByteReader
    private var remaining: Int
    private let limits: Limits

    private let counts: LimitCounts

    init(_ bytes: Bytes, count: Int, limits: Limits, counts: LimitCounts) {
        reader = ByteReader(bytes)
        remaining = count
        self.limits = limits
        self.counts = counts
    }

    public mutating func decodeGenericSubstitutions() throws -> [any Any.Type] { [] }

    public mutating func decodeNextArgument<Argument: Codable>() throws -> Argument {
        guard remaining > 0 else { throw FlockError(.invalidInput, "the call has too few arguments") }
        let argument: Argument
        do {
            argument = try WireCoder.decode(Argument.self, from: &reader, limits: limits)
        } catch {
            counts.reached(by: error)
            throw error
        }
        remaining -= 1
        // Before the method runs, not after it.
        if remaining == 0 { try finish() }
        return argument
    }

    /// A call without arguments carries no bytes.
    func finishIfEmpty() throws {
        if remaining == 0 { try finish() }
    }

    private func finish() throws {
        guard reader.isAtEnd else {
            throw FlockError(.invalidInput, "\(reader.remaining) bytes after the call's last argument")
        }
    }

    public mutating func decodeErrorType() throws -> (any Any.Type)? { nil }

    public mutating func decodeReturnType() throws -> (any Any.Type)? { nil }
}

/// Turns what a method returned or threw into the reply.
public struct CallOutcome: DistributedTargetInvocationResultHandler {
    public typealias SerializationRequirement = any Codable

    let call: DirectCall

    public func onReturn<Success: Codable>(value: Success) async throws { call.reply(with: value) }

    public func onReturnVoid() async throws { call.replyFromAnywhere(.success(.empty)) }

    public func onThrow<Failure: Error>(error: Failure) async throws {
        call.replyFromAnywhere(.failure(FlockError(reportedFor: error)))
    }
}

extension FlockError {
    /// What a caller on another node is told about an error.
    init(reportedFor error: any Error) {
        switch error {
        case let error as FlockError: self = error
        case let error as WireError:
            self = FlockError(.invalidInput, "the call could not be read: \(error)", limit: Limit(of: error))
        case is CancellationError: self = FlockError(.cancelled, "the call was cancelled")
        default: self = FlockError(.callFailed, "\(type(of: error)): \(error)", cause: error)
        }
    }
}
