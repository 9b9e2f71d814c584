// Flockwork · Apache-2.0 · see LICENSE

// What the compiler and the Distributed module ask of an actor system.

public import Distributed
internal import FlockTransport
internal import FlockWire

extension FlockSystem: DistributedActorSystem {
    public typealias ActorID = ActorAddress
    public typealias InvocationEncoder = OutgoingCall
    public typealias InvocationDecoder = IncomingArguments
    public typealias ResultHandler = CallOutcome
    public typealias SerializationRequirement = any Codable

    /// The actor if it lives here; nil, which makes a proxy, if it lives elsewhere.
    public func resolve<A: DistributedActor>(
        id: ActorAddress, as type: A.Type
    ) throws -> A? where A.ID == ActorAddress {
        guard id.node == node else { return nil }
        guard let actor = registry.actor(key: id.key) as? A else {
            throw FlockError(.notFound, "no \(A.self) with the address \(id)", node: node)
        }
        return actor
    }

    public func assignID<A: DistributedActor>(_ type: A.Type) -> ActorAddress where A.ID == ActorAddress {
        ActorAddress(node: node, key: NameClaim.current?.take(for: type) ?? registry.takeKey())
    }

    public func actorReady<A: DistributedActor>(_ actor: A) where A.ID == ActorAddress {
        registry.insert(actor, key: actor.id.key)
    }

    public func resignID(_ id: ActorAddress) { registry.remove(key: id.key) }

    public func makeInvocationEncoder() -> OutgoingCall { OutgoingCall(limits: limits) }

    /// Calls an actor of another process.
    /// - Throws: what the receiver threw, as a `FlockError`; `unavailable`, `deadlineExceeded`, `cancelled`,
    ///   `overloaded`, `notFound`, `tooLarge`, `invalidInput`.
    public func remoteCall<A: DistributedActor, Failure: Error, Success: Codable>(
        on actor: A, target: RemoteCallTarget, invocation: inout OutgoingCall, throwing: Failure.Type,
        returning: Success.Type
    ) async throws -> Success where A.ID == ActorAddress {
        let payload = try await exchange(invocation, target: target, address: actor.id)
        do {
            var reader = ByteReader(payload)
            let value = try WireCoder.decode(Success.self, from: &reader, limits: limits)
            try reader.finish()
            return value
        } catch let error as WireError {
            loop.limitsReached.reached(by: error)
            throw FlockError(.invalidInput, "the answer to \(target) could not be read: \(error)", node: actor.id.node)
        }
    }

    /// The same for a method that returns nothing.
    public func remoteCallVoid<A: DistributedActor, Failure: Error>(
        on actor: A, target: RemoteCallTarget, invocation: inout OutgoingCall, throwing: Failure.Type
    ) async throws where A.ID == ActorAddress {
        _ = try await exchange(invocation, target: target, address: actor.id)
    }

    private func exchange(
        _ call: OutgoingCall, target: RemoteCallTarget, address: ActorAddress
    ) async throws -> Bytes {
        guard let method = registry.names.number(of: target.identifier) else {
            throw FlockError(.invalidInput, "\(target) is generic or not of this program: it cannot be called remotely")
        }
        guard let peer = peer(at: address.node) else {
            throw isStopped
                ? FlockError(.shuttingDown, "the system of \(node) was stopped")
                : FlockError(.unavailable, "no connection to \(address.node)", node: address.node)
        }
        call.method = method
        call.address = address
        call.deadline = Self.deadline
        return try await call.exchange(over: peer)
    }

    // MARK: The receiving side

    /// Runs a method that passed the registry's checks, and answers.
    func run(
        _ identifier: String, on actor: any DistributedActor, arguments: IncomingArguments, for call: DirectCall
    ) async {
        guard let deadline = call.deadline else {
            return await run(identifier, opened: actor, arguments: arguments, for: call)
        }
        await Self.$deadline.withValue(deadline) {
            await run(identifier, opened: actor, arguments: arguments, for: call)
        }
    }

    private func run<A: DistributedActor>(
        _ identifier: String, opened actor: A, arguments: IncomingArguments, for call: DirectCall
    ) async {
        var arguments = arguments
        do {
            try arguments.finishIfEmpty()
            try await executeDistributedTarget(
                on: actor, target: RemoteCallTarget(identifier), invocationDecoder: &arguments,
                handler: CallOutcome(call: call))
        } catch {
            call.replyFromAnywhere(.failure(FlockError(reportedFor: error)))
        }
    }
}
