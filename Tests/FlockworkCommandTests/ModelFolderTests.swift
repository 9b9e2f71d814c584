// Flockwork · Apache-2.0 · see LICENSE

import ArgumentParser
import FlockPython
import Flockwork
import Foundation
import Testing

@testable import FlockworkCommand

@Suite("model folders")
struct ModelFolderTests {
    /// A folder with a `handler.py` and perhaps settings, which `body` gets and which is gone after.
    private func withFolder(_ settings: String? = nil, body: (String) throws -> Void) throws {
        let path = FileManager.default.temporaryDirectory.appendingPathComponent("model-\(UUID().uuidString)").path
        try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
        // A temporary folder.
        defer { try? FileManager.default.removeItem(atPath: path) }
        try "def transform_list(x): return x\n".write(
            toFile: path + "/handler.py", atomically: true, encoding: .utf8)
        try settings?.write(toFile: path + "/flockwork.json", atomically: true, encoding: .utf8)
        try body(path)
    }

    /// The form of what is served, or the error.
    private func form(_ path: String, _ flags: FolderSettings = FolderSettings()) -> String {
        do {
            let pipeline = try ModelFolder(path, flags: flags).pipeline(children: 1, options: PythonModel.Options())
            return pipeline.form.map { "\($0)" } ?? "none"
        } catch {
            return "\(error)"
        }
    }

    @Test("without settings it is Jet's transform_list of strings, called as the folder is")
    func defaults() throws {
        try withFolder { path in
            let model = try ModelFolder(path, flags: FolderSettings())
            #expect(model.handler == "transform_list")
            #expect(path.hasSuffix("/" + model.name))
            #expect(form(path) == "text -> text")
        }
    }

    @Test("the folder's own settings count, and flags count more")
    func settings() throws {
        try withFolder(#"{"handler": "score", "rows": 4, "outputs": 3, "name": "iris"}"#) { path in
            let model = try ModelFolder(path, flags: FolderSettings())
            #expect(model.name == "iris" && model.handler == "score")
            #expect(form(path) == "rows of 4 floats -> a row of floats")
            #expect(form(path, FolderSettings(rows: 2, outputs: 1)) == "rows of 2 floats -> a number")
        }
        try withFolder(#"{"bytes": true}"#) { path in
            #expect(form(path) == "bytes -> bytes")
            #expect(form(path, FolderSettings(bytes: false)) == "text -> text")
            #expect(form(path, FolderSettings(rows: 2)) == "rows of 2 floats -> a number")
        }
    }

    @Test("serve hands its flags for environments on, as absolute paths")
    func environments() throws {
        let here = FileManager.default.currentDirectoryPath
        let flags = ["models/churn", "--wheelhouse", ".", "--cache", "made/here", "--batch-time", "0.5"]
        let options = try ServeCommand.parse(flags).options
        #expect(options.environment.wheelhouse == here)
        #expect(options.environment.cacheFolder == here + "/made/here")
        #expect(options.batchTime == .milliseconds(500))
        let plain = try ServeCommand.parse(["models/churn"]).options
        #expect(plain.environment.wheelhouse == nil && plain.environment.cacheFolder == nil)
        #expect(throws: (any Error).self) { try ServeCommand.parse(["models/churn", "--wheelhouse", "/no/such"]) }
    }

    @Test("a folder takes another one's place if it does not say that it is called in another way")
    func successors() throws {
        try withFolder(#"{"handler": "score", "rows": 4}"#) { path in
            let model = try ModelFolder(path, flags: FolderSettings(name: "iris"))
            for same in [nil, "{}", #"{"handler": "score", "rows": 4, "outputs": 1, "bytes": false, "name": "iris"}"#] {
                try withFolder(same) { try model.checkSuccessor($0) }
            }
            for (key, value) in [
                ("handler", "\"other\""), ("rows", "5"), ("outputs", "2"), ("bytes", "true"), ("name", "\"lily\""),
            ] {
                try withFolder("{\"\(key)\": \(value)}") { next in
                    let error = #expect(throws: FlockError.self) { try model.checkSuccessor(next) }
                    #expect(error?.code == .invalidInput && error?.message.contains("\"\(key)\"") == true)
                }
            }
        }
    }

    @Test("what makes no sense is one clear line")
    func wrong() throws {
        try withFolder { path in
            #expect(form(path + "/none").contains("there is no folder"))
            #expect(form(path, FolderSettings(rows: 0)).contains("--rows is the number of columns"))
            #expect(form(path, FolderSettings(outputs: 2)).contains("goes with --rows"))
            #expect(form(path, FolderSettings(rows: 2, bytes: true)).contains("not both"))
            #expect(form(path, FolderSettings(handler: "a:b:c")).contains("module:score"))
            #expect(form(path, FolderSettings(handler: "")).contains("module:score"))
            try FileManager.default.removeItem(atPath: path + "/handler.py")
            #expect(form(path).contains("there is no handler.py"))
        }
        try withFolder(#"{"handlr": "score"}"#) { #expect(form($0).contains("no key \"handlr\"")) }
        try withFolder("not JSON") { #expect(form($0).contains("flockwork.json cannot be read")) }
    }
}
