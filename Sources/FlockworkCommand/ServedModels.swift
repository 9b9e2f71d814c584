// Flockwork · Apache-2.0 · see LICENSE

// Where the models of a node come from: folders of this machine, which a node of a cluster offers to those that come,
// or the nodes of a cluster, which this one joins with empty hands.

internal import FlockPython
internal import Flockwork
internal import Foundation
internal import Logging

/// What a node serves.
struct ServedModels {
    /// A folder, and wheels for it that lie elsewhere.
    struct Model {
        var folder: ModelFolder
        var wheelhouse: String?
    }

    /// How a model is to be run, as a node tells it to another.
    private struct Settings: Codable {
        var folder: FolderSettings
        var resultBytes: Int
    }

    static let standardResultBytes = 1024
    static let resultBytesAllowed = 16...1 << 20

    var models: [Model]
    /// Of each result.
    var resultBytes: Int
    /// What others may fetch.
    private(set) var shelf: ModelShelf?

    /// Folders of this machine.
    /// - Throws: `invalidInput` for two of one name.
    init(_ folders: [ModelFolder], wheelhouse: String?, resultBytes: Int?) throws(FlockError) {
        let names = folders.map(\.name)
        if let twice = names.first(where: { name in names.count { $0 == name } > 1 }) {
            throw FlockError(
                .invalidInput, "two folders are called \(twice); give one a \"name\" in flockwork.json")
        }
        models = folders.map { Model(folder: $0, wheelhouse: wheelhouse) }
        self.resultBytes = resultBytes ?? Self.standardResultBytes
    }

    /// Whatever the nodes serve that `configuration` joins. Waits until one of them answers.
    /// - Parameter wheelhouse: For what comes without wheels.
    init(joining configuration: NodeConfiguration, store: BundleStore, wheelhouse: String?) async throws {
        let shelf = try await ModelShelf.fetched(from: configuration, into: store)
        self.shelf = shelf
        models = []
        resultBytes = Self.standardResultBytes
        for offer in shelf.offers {
            let settings: Settings
            do {
                settings = try JSONDecoder().decode(Settings.self, from: Data(offer.settings.utf8))
            } catch {
                throw FlockError(
                    .incompatibleNode, "The settings of \(offer.folder) cannot be read: another version serves it.",
                    cause: error)
            }
            guard Self.resultBytesAllowed.contains(settings.resultBytes) else {
                throw FlockError(.incompatibleNode, "\(offer.folder) is offered with results of a size that cannot be.")
            }
            resultBytes = settings.resultBytes
            let folder = try ModelFolder(
                try shelf.files(of: offer.bundle), flags: settings.folder, title: offer.folder)
            let wheels = try offer.wheels.map { wheels throws(FlockError) in try shelf.files(of: wheels) }
            models.append(Model(folder: folder, wheelhouse: wheels ?? wheelhouse))
        }
    }

    /// Copies the folders, and wheels for those that need them and have none, for nodes that come.
    mutating func offer(from store: BundleStore) async throws {
        var shelf = ModelShelf(store)
        for model in models {
            let settings = Settings(folder: model.folder.settings, resultBytes: resultBytes)
            try await shelf.add(
                model.folder.path, wheels: ModelShelf.needsWheels(model.folder.path) ? model.wheelhouse : nil,
                settings: try JSONText.line(settings))
        }
        self.shelf = shelf
    }

    /// Each as it is called, with what runs it.
    /// - Parameter options: For all of them.
    func runnable(
        _ options: PythonModel.Options
    ) throws(FlockError) -> [(folder: ModelFolder, model: PythonModel)] {
        try models.map { served throws(FlockError) in
            var options = options
            options.environment.wheelhouse = served.wheelhouse
            return (served.folder, try served.folder.model(options: options))
        }
    }

    /// The versions with which the node begins.
    func versions(of runnable: [(folder: ModelFolder, model: PythonModel)], store: BundleStore) -> ModelVersions {
        let models = runnable.enumerated().map { place, one in
            let folder = one.folder
            // In the same order, if there is a shelf.
            return ServedModel(name: folder.name, model: one.model, offer: shelf?.offers[place]) {
                (path) throws(FlockError) in try folder.checkSuccessor(path)
            }
        }
        return ModelVersions(models, store: store)
    }

    /// Nodes that were given folders may have been given different ones: during an update on purpose.
    func compare(_ configuration: NodeConfiguration) async {
        guard let shelf, !configuration.join.isEmpty else { return }
        do {
            for other in try await shelf.differences(from: configuration) {
                configuration.logger.warning(
                    "another node serves a model of this name from other files, or in another way",
                    metadata: ["model": "\(other.folder)", "node": "\(other.node)"])
            }
        } catch {
            configuration.logger.notice("what others serve was not compared", metadata: ["error": "\(error)"])
        }
    }
}
