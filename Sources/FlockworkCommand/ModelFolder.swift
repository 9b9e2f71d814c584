// Flockwork · Apache-2.0 · see LICENSE

// What is to be served: a folder of Python, and the form of its requests. The folder may say it itself, in a file
// `flockwork.json` beside its `handler.py`; what is given on the command line counts more.

internal import FlockPython
internal import Flockwork
internal import Foundation

/// The keys of `flockwork.json`, all of them optional.
struct FolderSettings: Codable, Equatable {
    static let fileName = "flockwork.json"

    /// A function of `handler.py`, or `module:function`.
    var handler: String?
    /// Floats of a request that is a row.
    var rows: Int?
    /// Numbers of a result, for rows.
    var outputs: Int?
    /// Requests are bytes.
    var bytes: Bool?
    /// What callers call it, if not by the folder's name.
    var name: String?
    /// What a node must have to run it.
    var labels: [String]?

    private enum CodingKeys: String, CodingKey, CaseIterable {
        case handler, rows, outputs, bytes, name, labels
    }

    /// Reads the file of a folder; without one, everything is nil.
    static func read(from folder: String) throws(FlockError) -> FolderSettings {
        let path = folder + "/" + fileName
        guard FileManager.default.fileExists(atPath: path) else { return FolderSettings() }
        do {
            let data = try Data(contentsOf: URL(fileURLWithPath: path))
            let known = CodingKeys.allCases.map(\.rawValue)
            if let object = try JSONSerialization.jsonObject(with: data) as? [String: Any],
                let unknown = object.keys.sorted().first(where: { !known.contains($0) })
            {
                throw FlockError(
                    .invalidInput, "\(path): no key \"\(unknown)\"; there are \(known.joined(separator: ", "))")
            }
            return try JSONDecoder().decode(FolderSettings.self, from: data)
        } catch let error as FlockError {
            throw error
        } catch {
            throw FlockError(.invalidInput, "\(path) cannot be read: \(error)", cause: error)
        }
    }

    /// These, where they say something, over others.
    func over(_ other: FolderSettings) -> FolderSettings {
        // A form replaces a form: the rows of one do not go with the bytes of the other.
        let hasForm = rows != nil || bytes != nil
        return FolderSettings(
            handler: handler ?? other.handler, rows: hasForm ? rows : other.rows, outputs: outputs ?? other.outputs,
            bytes: hasForm ? bytes : other.bytes, name: name ?? other.name, labels: labels ?? other.labels)
    }
}

/// A folder of Python, as a pipeline of plain data.
struct ModelFolder {
    let path: String
    let settings: FolderSettings
    /// What the folder is called where somebody wrote it.
    let title: String

    /// - Parameter title: nil for the folder's own name.
    /// - Throws: `invalidInput` when the folder is not there, or its settings make no sense together.
    init(_ path: String, flags: FolderSettings, title: String? = nil) throws(FlockError) {
        var isFolder: ObjCBool = false
        guard FileManager.default.fileExists(atPath: path, isDirectory: &isFolder), isFolder.boolValue else {
            throw FlockError(
                .invalidInput,
                "there is no folder \(path); name one with a handler.py, as in `flockwork serve models/churn`")
        }
        self.path = path
        self.title = title ?? URL(fileURLWithPath: path).standardizedFileURL.lastPathComponent
        settings = flags.over(try FolderSettings.read(from: path))
        let isElsewhere = settings.handler?.contains(":") == true
        guard isElsewhere || FileManager.default.fileExists(atPath: path + "/handler.py") else {
            throw FlockError(
                .invalidInput,
                "there is no handler.py in \(path); put the function there, or say --handler module:function")
        }
        if name.isEmpty { throw FlockError(.invalidInput, "callers need a name for \(path); --name is empty") }
        if settings.rows != nil, settings.bytes == true {
            throw FlockError(.invalidInput, "a request is a row or bytes, not both; say --rows N, --strings or --bytes")
        }
        if let rows = settings.rows, !(1...65_536).contains(rows) {
            throw FlockError(.invalidInput, "rows of \(rows) floats; --rows is the number of columns, 1 to 65536")
        }
        if let outputs = settings.outputs, settings.rows == nil || !(1...65_536).contains(outputs) {
            throw FlockError(.invalidInput, "\(outputs) outputs; --outputs is 1 to 65536, and goes with --rows")
        }
    }

    /// What callers call it.
    var name: String { settings.name ?? title }

    /// The function; Jet's name for it where nothing is said.
    var handler: String { settings.handler ?? "transform_list" }

    /// The function, to be run so.
    func model(options: PythonModel.Options) throws(FlockError) -> PythonModel {
        let parts = handler.split(separator: ":", omittingEmptySubsequences: false)
        guard parts.count <= 2, parts.allSatisfy({ !$0.isEmpty }) else {
            throw FlockError(.invalidInput, "\"\(handler)\" is no function; --handler is `score`, or `module:score`")
        }
        return PythonModel.python(path, handler: handler, options: options, title: title)
    }

    /// The pipeline of `children` processes a node.
    func pipeline(children: Int?, options: PythonModel.Options) throws(FlockError) -> any ServablePipeline {
        pipeline(of: try model(options: options), children: children)
    }

    /// The same of a model that was made before.
    func pipeline(of model: PythonModel, children: Int?) -> any ServablePipeline {
        let instances: Instances = children.map { .perNode($0) } ?? .perCore
        if let rows = settings.rows {
            let pipeline = Pipeline(name, rowsOf: rows)
            let outputs = settings.outputs ?? 1
            return outputs == 1
                ? pipeline.model(model, instances: instances, labels: settings.labels)
                : pipeline.model(model, outputs: outputs, instances: instances, labels: settings.labels)
        }
        return settings.bytes == true
            ? Pipeline(name, of: Bytes.self).model(model, instances: instances, labels: settings.labels)
            : Pipeline(name, of: String.self).model(model, instances: instances, labels: settings.labels)
    }

    /// Whether a folder's own settings, if it has any, are these: callers and other nodes rely on them.
    /// - Throws: `invalidInput` that names the first one that is not.
    func checkSuccessor(_ path: String) throws(FlockError) {
        let next = try FolderSettings.read(from: path)
        let pairs: [(key: String, next: String?, own: String)] = [
            ("handler", next.handler, handler),
            ("rows", next.rows.map { "\($0)" }, settings.rows.map { "\($0)" } ?? "none"),
            ("outputs", next.outputs.map { "\($0)" }, "\(settings.outputs ?? 1)"),
            ("bytes", next.bytes.map { "\($0)" }, "\(settings.bytes ?? false)"),
            ("name", next.name, name),
        ]
        for (key, next, own) in pairs {
            guard let next, next != own else { continue }
            throw FlockError(
                .invalidInput,
                "\(FolderSettings.fileName) says \"\(key)\": \(next), and \(name) runs with \(own). An update "
                    + "keeps how a model is called: leave the key out, or start the nodes again with the new folder.")
        }
    }
}
