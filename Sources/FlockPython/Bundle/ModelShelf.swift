// Flockwork · Apache-2.0 · see LICENSE

// What a node of a cluster serves, for nodes that come and have nothing but its address: which bundles, and how they
// are to be run. A node that fetched them offers them in turn.

internal import Distributed
internal import FlockActors
public import FlockWire
public import Flockwork
internal import Foundation
internal import Logging

/// A model that a node serves.
public struct ModelOffer: Codable, Sendable, Hashable {
    /// What its folder is called, without where it lies.
    public var folder: String
    /// Its files.
    public var bundle: ContentHash
    /// Wheels for its requirements, where they do not lie in its folder.
    public var wheels: ContentHash?
    /// How it is to be run: text of whoever put it on the shelf.
    public var settings: String

    var bundles: [ContentHash] { [bundle] + (wheels.map { [$0] } ?? []) }
}

/// Models in a store, to be offered to other nodes.
public struct ModelShelf: Sendable {
    /// Where their files lie.
    public let store: BundleStore
    /// In the order in which they were added.
    public private(set) var offers: [ModelOffer] = []
    private var holds: [BundleHold] = []

    private static let settingsBytes = 4096

    /// An empty one.
    public init(_ store: BundleStore) { self.store = store }

    /// Whether the model in a folder needs packages, and brings no wheels for them.
    public static func needsWheels(_ folder: String) -> Bool {
        access(folder + "/requirements.txt", F_OK) == 0 && access(folder + "/wheels", F_OK) != 0
    }

    /// Copies a model's folder into the store, and wheels from elsewhere if it needs them, and offers it.
    /// - Throws: as `BundleStore.add`; `invalidInput` for settings of more than 4,096 bytes.
    public mutating func add(_ folder: String, wheels: String?, settings: String) async throws(FlockError) {
        let name = URL(fileURLWithPath: folder).standardizedFileURL.lastPathComponent
        try check(name, settings)
        let bundle = try await store.add(folder).hash
        var found: ContentHash?
        if let wheels { found = try await store.add(wheels).hash }
        try put(ModelOffer(folder: name, bundle: bundle, wheels: found, settings: settings))
    }

    private mutating func put(_ offer: ModelOffer) throws(FlockError) {
        holds += try store.hold(offer.bundles)
        offers.append(offer)
    }

    private func check(_ folder: String, _ settings: String) throws(FlockError) {
        guard try BundleNames.components(of: folder, store.limits).count == 1 else {
            throw FlockError(.invalidInput, "\(folder.debugDescription) is no name of a folder.")
        }
        guard settings.utf8.count <= Self.settingsBytes else {
            throw FlockError(.invalidInput, "Settings of more than \(Self.settingsBytes) bytes.")
        }
    }

    /// All models that a node of the cluster offers, with their files: from the nodes that `configuration` joins, of
    /// which one has to answer. Waits until one does.
    /// - Throws: `notFound` where they offer nothing; `invalidInput` where one is called as this node is, or an offer
    ///   makes no sense; `protocolViolation`, `unauthenticated`, `system`, …
    public static func fetched(
        from configuration: NodeConfiguration, into store: BundleStore
    ) async throws -> ModelShelf {
        try await Guest.visiting(configuration) { system, nodes in
            var silent: FlockError?
            for node in nodes {
                let offers: [ModelOffer]
                do {
                    offers = try await Self.offers(of: node, over: system)
                } catch let error as FlockError where error.code == .unavailable || error.code == .deadlineExceeded {
                    silent = error
                    continue
                }
                guard !offers.isEmpty else { continue }
                var shelf = ModelShelf(store)
                for offer in offers {
                    if store.files(of: offer.bundle) == nil {
                        configuration.logger.notice("fetching a model", metadata: ["model": "\(offer.folder)"])
                    }
                    try await shelf.fetch(offer, from: nodes, over: system)
                }
                return shelf
            }
            throw silent
                ?? FlockError(
                    .notFound,
                    "The nodes at \(configuration.join.joined(separator: ", ")) serve no models that can be fetched.")
        }
    }

    /// The nodes to join that answer, and serve other files under the name of one of these models.
    /// - Throws: `unauthenticated`, `incompatibleNode`, …
    public func differences(
        from configuration: NodeConfiguration
    ) async throws -> [(node: NodeID, folder: String)] {
        try await Guest.visiting(configuration, waits: false) { system, nodes in
            var found: [(node: NodeID, folder: String)] = []
            for node in nodes where node != configuration.id {
                for offer in try await Self.offers(of: node, over: system) {
                    guard let own = offers.first(where: { $0.folder == offer.folder }) else { continue }
                    if own != offer { found.append((node, own.folder)) }
                }
            }
            return found
        }
    }

    private static func offers(of node: NodeID, over system: FlockSystem) async throws -> [ModelOffer] {
        let library = try BundleLibrary.resolve(
            id: ActorAddress(named: BundleLibrary.name, on: node), using: system)
        do {
            return try await FlockSystem.$deadline.withValue(.seconds(20)) { try await library.offers() }
        } catch let error as FlockError where error.code == .notFound {
            // A program of its own, with nothing to give.
            return []
        }
    }

    private mutating func fetch(_ offer: ModelOffer, from nodes: [NodeID], over system: FlockSystem) async throws {
        try check(offer.folder, offer.settings)
        for bundle in offer.bundles { _ = try await store.fetch(bundle, from: nodes, over: system) }
        try put(offer)
    }

    /// Where the files of a model, or its wheels, lie.
    /// - Throws: `notFound` when they are not there any more.
    public func files(of bundle: ContentHash) throws(FlockError) -> String {
        guard let path = store.files(of: bundle) else {
            throw FlockError(.notFound, "There is no bundle \(bundle) here.")
        }
        return path
    }
}

extension NodeConfiguration {
    /// Lets other nodes of the cluster fetch these models from this one, which does not exchange them: for that see
    /// `serve(_:)`.
    public mutating func offer(_ shelf: ModelShelf) {
        atStart.append { node in await BundleLibrary.serve(shelf.store, offers: shelf.offers, in: node.system) }
    }
}
