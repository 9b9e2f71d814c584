// Flockwork · Apache-2.0 · see LICENSE

// The distributed actor system of one process (or of one of several nodes in a test): its actors, its peers, its loop.
// Policy is elsewhere: the registry decides who may call what, the peers carry calls.

public import Distributed
public import FlockTransport
public import FlockWire
public import Logging
internal import Synchronization

/// Actors of this process, and the way to those of others.
///
/// Stop it: it holds its connections and named actors, and they hold it.
public final class FlockSystem: Sendable {
    /// For calls made within: the time each may take. Nil: `Limits.callTime`, of which the receiver does not hear.
    @TaskLocal public static var deadline: Duration?

    public let identity: Identity
    public let limits: Limits
    /// Connections, direct methods and pinned actors run here.
    public let loop: EventLoop
    let log: Logger
    let announcement: Bytes
    let registry: Registry
    let taskExecutor: any TaskExecutor
    let state = Mutex(SystemState())
    /// Of the loop: connections whose peer has not told its methods yet.
    nonisolated(unsafe) var newcomers: [ObjectIdentifier: Connection] = [:]

    /// `announcement`: bytes that every peer gets when it connects (`Peer.announcement`).
    public init(identity: Identity, loop: EventLoop, limits: Limits, log: Logger, announcement: Bytes = .empty) {
        self.identity = identity
        self.loop = loop
        self.limits = limits
        self.log = log
        self.announcement = announcement
        taskExecutor = loop.taskExecutor
        registry = Registry(names: .ofThisProgram, firstKey: .random(in: 0..<1 << 62))
    }

    public var node: NodeID { identity.node }

    /// For `nonisolated var unownedExecutor` of an actor that lives on the loop.
    public var loopExecutor: UnownedSerialExecutor { loop.asUnownedSerialExecutor() }

    // MARK: Actors

    /// Makes an actor that others find under `name`, and keeps it until `release` or `stop`.
    ///
    /// `make` must create an `A` with this system and return it; the first `A` that it creates gets the name. A name
    /// can be used again only after its release.
    public func named<A: DistributedActor>(
        _ name: String, exportedTo export: Export, make: () async throws -> A
    ) async rethrows -> A where A.ActorSystem == FlockSystem {
        let claim = NameClaim(type: A.self, key: ActorAddress.key(named: name))
        let actor = try await NameClaim.$current.withValue(claim) { try await make() }
        let address = ActorAddress(named: name, on: node)
        precondition(actor.id == address, "named(\(name)) did not make a new \(A.self)")
        registry.hold(actor, key: address.key)
        self.export(actor, to: export)
        return actor
    }

    /// Lets others call an actor.
    public func export<A: DistributedActor>(_ actor: A, to export: Export) where A.ActorSystem == FlockSystem {
        precondition(actor.id.node == node, "export of \(A.self), which lives on \(actor.id.node)")
        guard registry.export(key: actor.id.key, to: export) else { return }
        loop.execute {
            for client in self.state.withLock({ Array($0.clients.values) }) { client.sendNewClientMethods() }
        }
    }

    /// Lets a named actor go; calls to it fail with `notFound`.
    public func release(_ name: String) {
        registry.release(key: ActorAddress.key(named: name))
    }

    // MARK: Hot methods

    /// Answers direct calls (`Peer.call`) of a method by `body`: on the loop, at once, within the frame's callback.
    ///
    /// Register before `listen`. `body` is not isolated to the actor; a pinned actor may use `assumeIsolated`.
    public func direct<A: DistributedActor>(
        _ type: A.Type, _ method: String, _ body: @escaping @Sendable (A, DirectCall) -> Void
    ) where A.ActorSystem == FlockSystem {
        let method = DirectMethod(type, method)
        // The registry compares the types, so the cast cannot fail.
        let erased: DirectBody = { actor, call in body(unsafeDowncast(actor, to: A.self), call) }
        registry.setBody(erased, of: type, method: method.number, isRaw: true)
    }

    /// Answers ordinary calls of a method by `body`: on the loop, without a task and without the runtime's look-up.
    ///
    /// For actors that live on the loop (`loopExecutor`), and for methods that do not suspend and are quick. The types
    /// must be those of the method's arguments and result. Saves the receiver most of an ordinary call's cost.
    public func onLoop<A: DistributedActor, each Input: Codable & Sendable, Output: Codable & Sendable>(
        _ type: A.Type, _ method: String, _ body: @escaping @Sendable (isolated A, repeat each Input) throws -> Output
    ) where A.ActorSystem == FlockSystem {
        let method = DirectMethod(type, method)
        var count = 0
        for _ in repeat (each Input).self { count += 1 }
        let expected = registry.names[method.number].argumentCount
        precondition(count == expected, "onLoop(\(method)) with \(count) arguments instead of \(expected)")
        let (limits, loop) = (limits, loop)
        let erased: DirectBody = { actor, call in
            do {
                guard actor.unownedExecutor.asSerialExecutor() === loop else {
                    throw FlockError(.callFailed, "\(A.self) does not live on the loop: it has no loopExecutor")
                }
                var arguments = IncomingArguments(
                    call.arguments, count: expected, limits: limits, counts: loop.limitsReached)
                try arguments.finishIfEmpty()
                let input = (repeat try arguments.decodeNextArgument() as each Input)
                let output = try unsafeDowncast(actor, to: A.self).assumeIsolated { try body($0, repeat each input) }
                call.reply(with: output)
            } catch {
                call.fail(FlockError(reportedFor: error))
            }
        }
        registry.setBody(erased, of: type, method: method.number, isRaw: false)
    }
}

/// The name that waits for the actor that `named` makes.
final class NameClaim: Sendable {
    @TaskLocal static var current: NameClaim?

    private let type: ObjectIdentifier
    private let key: Mutex<UInt64?>

    init(type: any DistributedActor.Type, key: UInt64) {
        self.type = ObjectIdentifier(type)
        self.key = Mutex(key)
    }

    /// The key, for the first actor of the type only.
    func take(for type: any DistributedActor.Type) -> UInt64? {
        ObjectIdentifier(type) == self.type ? key.withLock { $0.take() } : nil
    }
}
