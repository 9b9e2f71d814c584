// Flockwork · Apache-2.0 · see LICENSE

// Which version of each model a node serves. It goes in two steps, so that a cluster can take the first one everywhere
// before anybody takes the second: what can be checked without touching what runs, then the exchange.

public import FlockWire
public import Flockwork
internal import Foundation
internal import Logging
internal import Synchronization

/// A model that a node serves and that can be exchanged while it runs.
public struct ServedModel: Sendable {
    /// What an operator calls it: as callers do, if one pipeline is all that uses it.
    public var name: String
    /// As it was given to the pipelines.
    public var model: PythonModel
    /// What other nodes fetch; nil to keep it to itself.
    public var offer: ModelOffer?
    /// Throws for a folder that is to be run in another way, since the way stays as it is.
    public var check: @Sendable (_ folder: String) throws(FlockError) -> Void

    /// A model, called `name`.
    public init(
        name: String, model: PythonModel, offer: ModelOffer? = nil,
        check: @escaping @Sendable (_ folder: String) throws(FlockError) -> Void = { _ throws(FlockError) in }
    ) {
        self.name = name
        self.model = model
        self.offer = offer
        self.check = check
    }
}

/// A version of a model, by its content.
struct ModelVersion: Codable, Sendable, Hashable {
    /// What the model is called.
    var model: String
    var bundle: ContentHash
    /// Wheels that do not lie in its folder.
    var wheels: ContentHash?

    var bundles: [ContentHash] { [bundle] + (wheels.map { [$0] } ?? []) }
}

/// The models of a node, each in the version that it has now.
public final class ModelVersions: Sendable {
    private struct Entry {
        let served: ServedModel
        var current: ModelVersion?
        /// Checked, and not taken over yet.
        var prepared: ModelVersion?
        /// The bundles of both.
        var holds: [BundleHold] = []
        var preparedHolds: [BundleHold] = []
        var isChanging = false
    }

    /// Where their files lie.
    public let store: BundleStore
    private let entries: Mutex<[Entry]>

    /// Models, and where their next versions are to lie. Of two with one name only the first can be exchanged.
    public init(_ models: [ServedModel], store: BundleStore) {
        self.store = store
        entries = Mutex(
            models.map { model in
                let current = model.offer.map { offer in
                    ModelVersion(model: model.name, bundle: offer.bundle, wheels: offer.wheels)
                }
                // One that is gone cannot be offered; the node runs the folder that it was given.
                let holds = current.flatMap { try? store.hold($0.bundles) } ?? []
                return Entry(served: model, current: current, holds: holds)
            })
    }

    /// What nodes that come are to serve.
    var offers: [ModelOffer] {
        entries.withLock { entries in
            entries.compactMap { entry in
                guard var offer = entry.served.offer, let current = entry.current else { return nil }
                offer.bundle = current.bundle
                offer.wheels = current.wheels
                return offer
            }
        }
    }

    /// Copies a folder of this machine into the store, with wheels if it needs them.
    /// - Parameter wheelhouse: nil for that of the version before.
    /// - Throws: `notFound` for no such model, `invalidInput`, `system`.
    func add(_ model: String, from folder: String, wheelhouse: String?) async throws(FlockError) -> ModelVersion {
        let served = try entry(model).served
        try served.check(folder)
        let bundle = try await store.add(folder).hash
        var version = ModelVersion(model: model, bundle: bundle)
        if ModelShelf.needsWheels(folder),
            let wheelhouse = wheelhouse ?? served.model.current.options.environment.wheelhouse
        {
            version.wheels = try await store.add(wheelhouse).hash
        }
        return version
    }

    /// Does for a version, which is in the store, whatever can be done without touching the one that runs.
    /// - Throws: `notFound`, `invalidInput`, `pythonFailed`, …; `unavailable` while another one takes over.
    func prepare(_ version: ModelVersion, log: Logger) async throws {
        let entry = try entry(version.model)
        guard entry.current != version else { return }
        let holds = try store.hold(version.bundles)
        let next = entry.served.model.at(try place(of: version, entry.served))
        try entry.served.check(next.folder)
        _ = try await ModelInstallation.environment(
            next.options.environment, of: try next.folderFound(), log: log)
        let isBusy = change(version.model) { entry in
            // What takes over stays prepared until it has.
            if entry.isChanging { return true }
            entry.prepared = version
            entry.preparedHolds = holds
            return false
        }
        if isBusy { throw Self.busy(version.model) }
    }

    /// Has a version take over that was prepared. Whether it is another one than that before.
    /// - Throws: `pythonFailed`, …: the one before goes on. `unavailable` while another one takes over.
    func adopt(_ version: ModelVersion) async throws -> Bool {
        let entry = try entry(version.model)
        guard entry.current != version else { return false }
        let refusal: FlockError? = change(version.model) { entry in
            if entry.isChanging { return Self.busy(version.model) }
            guard entry.prepared == version else {
                return FlockError(.invalidInput, "Another version of \(version.model) was prepared, or none.")
            }
            entry.isChanging = true
            return nil
        }
        if let refusal { throw refusal }
        defer { change(version.model) { $0.isChanging = false } }
        try await entry.served.model.update(to: try place(of: version, entry.served))
        change(version.model) { entry in
            entry.current = version
            entry.holds = entry.preparedHolds
            entry.prepared = nil
            entry.preparedHolds = []
        }
        return true
    }

    private static func busy(_ model: String) -> FlockError {
        FlockError(.unavailable, "Another version of \(model) is taking over: wait for it.")
    }

    private func place(of version: ModelVersion, _ served: ServedModel) throws(FlockError) -> RunningModels.Version {
        let shelf = ModelShelf(store)
        return RunningModels.Version(
            folder: try shelf.files(of: version.bundle),
            wheelhouse: try version.wheels.map { wheels throws(FlockError) in try shelf.files(of: wheels) }
                ?? served.model.options.environment.wheelhouse)
    }

    private func entry(_ model: String) throws(FlockError) -> Entry {
        let entries = entries.withLock { $0 }
        if let entry = entries.first(where: { $0.served.name == model }) { return entry }
        let names = entries.map(\.served.name).sorted().joined(separator: ", ")
        throw FlockError(.notFound, "No model \(model.debugDescription) to update; there are: \(names).")
    }

    @discardableResult
    private func change<Result: Sendable>(_ model: String, _ body: (inout Entry) -> Result) -> Result {
        entries.withLock { entries in
            guard let place = entries.firstIndex(where: { $0.served.name == model }) else {
                preconditionFailure("the model \(model) is gone")
            }
            return body(&entries[place])
        }
    }
}

extension NodeConfiguration {
    /// Lets operators exchange these models, and nodes that come fetch them. Instead of `offer(_:)`.
    ///
    /// An operator asks one node, at its admin socket, and that one all others, which take versions from members only,
    /// and only if they have a token (`tokenFile`).
    public mutating func serve(_ versions: ModelVersions) {
        atStart.append { node in
            await BundleLibrary.serve(versions.store, offers: versions.offers, in: node.system)
            await ModelUpdates.serve(versions, on: node)
        }
    }
}
