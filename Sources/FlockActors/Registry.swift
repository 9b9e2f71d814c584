// Flockwork · Apache-2.0 · see LICENSE

// Who is at which address, and which method numbers are theirs. Actors are held weakly, except named ones, which live
// until they are released: nobody else may hold a service that only remote callers use.

internal import Distributed
internal import FlockWire
internal import Synchronization

/// A hot method's body: the actor is of the type that it was registered for.
typealias DirectBody = @Sendable (any DistributedActor, DirectCall) -> Void

/// What a call frame leads to.
enum CallTarget {
    /// A body that runs on the loop, at once.
    case direct(any DistributedActor, DirectBody)
    /// The actor's own method, in a task.
    case method(any DistributedActor)
    /// No such actor, not for this caller, or no such method of it: callers cannot tell which.
    case missing
    /// The method is there and takes another number of arguments.
    case wrongArgumentCount
}

/// The actors of one system.
final class Registry: Sendable {
    private struct Entry {
        weak var actor: (any DistributedActor)?
        var held: (any DistributedActor)?
        let type: ObjectIdentifier
        var export: Export
    }

    private struct Method {
        var owner: ObjectIdentifier?
        /// For direct calls: bytes in, bytes out.
        var raw: DirectBody?
        /// For ordinary calls, instead of a task.
        var typed: DirectBody?
    }

    private struct State {
        var nextKey: UInt64
        var actors: [UInt64: Entry] = [:]
        var methods: [Method]
        var types: Set<ObjectIdentifier> = []
        /// Methods of types of which an actor was exported to clients, in the order of export.
        var clientMethods: [UInt32] = []
        var clientTypes: Set<ObjectIdentifier> = []

        mutating func learn(_ type: ObjectIdentifier, owned: [UInt32]) {
            guard types.insert(type).inserted else { return }
            for number in owned { methods[Int(number)].owner = type }
        }
    }

    let names: MethodNames
    private let state: Mutex<State>

    /// `firstKey` differs between incarnations of a node, so that an address of an earlier one leads nowhere.
    init(names: MethodNames, firstKey: UInt64) {
        self.names = names
        let methods = Array(repeating: Method(), count: names.all.count)
        state = Mutex(State(nextKey: firstKey & ~(1 << 63), methods: methods))
    }

    var count: Int { state.withLock { $0.actors.count } }

    func takeKey() -> UInt64 {
        state.withLock { state in
            state.nextKey = (state.nextKey + 1) & ~(1 << 63)
            return state.nextKey
        }
    }

    func insert<A: DistributedActor>(_ actor: A, key: UInt64) {
        let type = ObjectIdentifier(A.self)
        // The search goes through all names: once a type, outside of the lock.
        let isKnown = state.withLock { $0.types.contains(type) }
        let owned = isKnown ? [] : names.numbers(of: A.self)
        state.withLock { state in
            state.learn(type, owned: owned)
            precondition(state.actors[key]?.actor == nil, "an actor with the key \(key) is registered already")
            state.actors[key] = Entry(actor: actor, held: nil, type: type, export: .nobody)
        }
    }

    /// After the actor's deinit, or after its init threw.
    func remove(key: UInt64) {
        // An entry with a living actor belongs to a successor of the same name.
        state.withLock { state in
            if let entry = state.actors[key], entry.actor == nil { state.actors[key] = nil }
        }
    }

    /// Keeps the actor alive until `release`.
    func hold<A: DistributedActor>(_ actor: A, key: UInt64) {
        state.withLock { $0.actors[key]?.held = actor }
    }

    func release(key: UInt64) {
        // The reference goes outside of the lock: the actor's deinit comes back to `remove`.
        let released = state.withLock { state -> Entry? in state.actors.removeValue(forKey: key) }
        withExtendedLifetime(released) {}
    }

    /// Lets named actors and direct bodies go, which may hold the system.
    func releaseAll() {
        let released = state.withLock { state in
            let released = (state.actors, state.methods)
            for key in Array(state.actors.keys) { state.actors[key]?.held = nil }
            for number in state.methods.indices {
                state.methods[number].raw = nil
                state.methods[number].typed = nil
            }
            return released
        }
        withExtendedLifetime(released) {}
    }

    /// Returns whether the methods that clients may call became more.
    func export(key: UInt64, to export: Export) -> Bool {
        state.withLock { state in
            guard let type = state.actors[key]?.type else { return false }
            state.actors[key]?.export = export
            guard export == .clients, state.clientTypes.insert(type).inserted else { return false }
            let methods = state.methods.indices.filter { state.methods[$0].owner == type }
            state.clientMethods += methods.map { UInt32($0) }
            return true
        }
    }

    func actor(key: UInt64) -> (any DistributedActor)? { state.withLock { $0.actors[key]?.actor } }

    /// Methods that clients may know, from the `sent`-th on.
    func clientMethods(after sent: Int) -> [UInt32] { state.withLock { Array($0.clientMethods.dropFirst(sent)) } }

    func setBody<A: DistributedActor>(_ body: @escaping DirectBody, of type: A.Type, method: UInt32, isRaw: Bool) {
        let owned = names.numbers(of: A.self)
        state.withLock { state in
            state.learn(ObjectIdentifier(A.self), owned: owned)
            if isRaw {
                state.methods[Int(method)].raw = body
            } else {
                state.methods[Int(method)].typed = body
            }
        }
    }

    /// Every check that a call from outside must pass, in one place.
    func target(actor key: UInt64, method: UInt32, argumentCount: UInt16, from role: Export) -> CallTarget {
        state.withLock { state in
            guard let entry = state.actors[key], entry.export >= role, let actor = entry.actor,
                method < UInt32(state.methods.count), state.methods[Int(method)].owner == entry.type
            else { return .missing }
            let body = state.methods[Int(method)]
            if argumentCount == CallHeader.raw {
                return body.raw.map { .direct(actor, $0) } ?? .missing
            }
            guard Int(argumentCount) == names[method].argumentCount else { return .wrongArgumentCount }
            return body.typed.map { .direct(actor, $0) } ?? .method(actor)
        }
    }
}
