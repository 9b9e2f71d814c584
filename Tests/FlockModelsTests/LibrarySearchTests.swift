// Flockwork · Apache-2.0 · see LICENSE

// Looking for libraries and the errors of not finding them. None of this needs a vendor's library.

import FlockWire
import Foundation
import Testing

@testable import FlockModels

/// A folder for one test with empty files in it.
private final class Place {
    let root: String

    init(files: [String] = []) throws {
        root = FileManager.default.temporaryDirectory.appending(path: "flockwork-libs-\(UUID())").path
        try FileManager.default.createDirectory(atPath: root, withIntermediateDirectories: true)
        for file in files { try add(file) }
    }

    func add(_ file: String, _ contents: String = "no library") throws {
        let path = URL(filePath: "\(root)/\(file)")
        try FileManager.default.createDirectory(at: path.deletingLastPathComponent(), withIntermediateDirectories: true)
        try Data(contents.utf8).write(to: path)
    }

    // What is left in the temporary folder harms nobody.
    deinit { try? FileManager.default.removeItem(atPath: root) }

    func search(_ environment: [String: String] = [:], working: String = "here", program: String = "bin/program")
        -> LibrarySearch
    {
        LibrarySearch(
            environment: environment, workingFolder: "\(root)/\(working)", executable: "\(root)/\(program)")
    }
}

@Suite struct LibrarySearchTests {
    private static let onnx = "onnxruntime/capi/libonnxruntime.so"

    /// The error of opening a library with this search.
    private func failure(_ kind: LibraryKind, explicit: String? = nil, _ search: LibrarySearch) throws -> String {
        let error = try #require(throws: FlockError.self) {
            try SharedLibrary(kind, explicit: explicit, search: search)
        }
        #expect(error == .modelLoadFailed)
        return error.message
    }

    @Test("a path that is given is taken before the environment's, and nothing else is tried if it is missing")
    func explicit() throws {
        let place = try Place(files: ["here/.venv-libs/lib/python3.11/site-packages/\(Self.onnx)"])
        let search = place.search(["FLOCKWORK_ONNXRUNTIME": "/nowhere/environment.so"])
        #expect(
            try failure(.onnxRuntime, explicit: "/nowhere/explicit.so", search)
                .contains("there is no file /nowhere/explicit.so, which the model source names"))
        let text = try failure(.onnxRuntime, search)
        #expect(text.contains("there is no file /nowhere/environment.so, which FLOCKWORK_ONNXRUNTIME names"))
        #expect(text.contains("Install the wheel onnxruntime with `make libs`"))
    }

    @Test(
        "a library that is nowhere is an error that names the wheel, the command and the variable",
        arguments: [
            (LibraryKind.onnxRuntime, "onnxruntime", "FLOCKWORK_ONNXRUNTIME"),
            (.xgboost, "xgboost-cpu", "FLOCKWORK_XGBOOST"), (.lightGBM, "lightgbm", "FLOCKWORK_LIGHTGBM"),
        ])
    func nowhere(kind: LibraryKind, wheel: String, variable: String) throws {
        let place = try Place()
        // Nothing of that name may be in the system either.
        let absent = LibraryKind(
            name: kind.name, wheel: kind.wheel, variable: kind.variable, folder: kind.folder,
            file: "absent-" + kind.file, note: kind.note)
        let text = try failure(absent, place.search())
        #expect(text.contains("\(kind.name) is not installed (looked in the system's libraries)"))
        #expect(text.contains("Install the wheel \(wheel) with `make libs`") && text.contains("or set \(variable)"))
    }

    @Test("site-packages are those of the configured Python, then of .venv-libs here and above the program")
    func order() throws {
        let place = try Place(files: [
            "env/pyvenv.cfg", "env/bin/python", "env/lib/python3.11/site-packages/x",
            "here/.venv-libs/lib/python3.9/site-packages/x",
            "project/.venv-libs/lib64/python3.13/site-packages/x", "other/lib/python3/dist-packages/x",
        ])
        func found(_ search: LibrarySearch) -> [String] {
            search.sitePackages().map { String($0.dropFirst(place.root.count + 1)) }
        }
        let local = "here/.venv-libs/lib/python3.9/site-packages"
        let program = "project/.build/release/launcher"
        #expect(found(place.search()) == [local])
        #expect(
            found(place.search(["FLOCKWORK_PYTHON": "\(place.root)/env/bin/python"], program: program)) == [
                "env/lib/python3.11/site-packages", local, "project/.venv-libs/lib64/python3.13/site-packages",
            ])
        #expect(found(place.search(["FLOCKWORK_PYTHON": "\(place.root)/env"]))[0] == "env/lib/python3.11/site-packages")
        #expect(
            found(place.search(["FLOCKWORK_PYTHON": "\(place.root)/other"]))[0] == "other/lib/python3/dist-packages")
        #expect(found(place.search(["FLOCKWORK_PYTHON": "/nowhere/python"])) == [local])
    }

    @Test("a Python named like a command is looked for in PATH")
    func command() throws {
        let place = try Place(files: ["env/pyvenv.cfg", "env/bin/python9", "env/lib/python3.11/site-packages/x"])
        try FileManager.default.setAttributes(
            [.posixPermissions: 0o755], ofItemAtPath: "\(place.root)/env/bin/python9")
        let search = place.search(["FLOCKWORK_PYTHON": "python9", "PATH": "/nowhere:\(place.root)/env/bin"])
        #expect(search.sitePackages() == ["\(place.root)/env/lib/python3.11/site-packages"])
    }

    @Test("a .venv-libs that others may write to is passed over")
    func writable() throws {
        let place = try Place(files: ["here/.venv-libs/lib/python3.11/site-packages/x"])
        #expect(place.search().sitePackages().count == 1)
        try FileManager.default.setAttributes(
            [.posixPermissions: 0o777], ofItemAtPath: "\(place.root)/here/.venv-libs")
        #expect(place.search().sitePackages().isEmpty)
    }

    @Test("of several versions the last is taken, and nothing that only begins like the library")
    func versions() throws {
        let place = try Place(files: [
            "s/\(Self.onnx).1.9.0", "s/\(Self.onnx).1.32.0", "s/onnxruntime/capi/libonnxruntime_providers_shared.so",
        ])
        let search = place.search()
        #expect(search.file(of: .onnxRuntime, in: "\(place.root)/s") == "\(place.root)/s/\(Self.onnx).1.32.0")
        #expect(search.file(of: .xgboost, in: "\(place.root)/s") == nil)
    }

    @Test("a file that is no library is an error with the loader's reason")
    func noLibrary() throws {
        let place = try Place(files: ["here/.venv-libs/lib/python3.11/site-packages/xgboost/lib/libxgboost.so"])
        let text = try failure(.xgboost, place.search())
        #expect(text.contains("libxgboost.so cannot be loaded: ") && text.contains("`make libs`"))
    }

    @Test("a library without the functions is an error that names the first", arguments: ["libm.so.6", "libc.so.6"])
    func otherLibrary(name: String) throws {
        let path = ["/lib/x86_64-linux-gnu", "/lib/aarch64-linux-gnu", "/lib64", "/usr/lib"]
            .map { "\($0)/\(name)" }.first { FileManager.default.fileExists(atPath: $0) }
        let library = try #require(path, "the C library is somewhere else")
        let xgboost = try #require(throws: FlockError.self) { try XGBoostLibrary(explicit: library) }
        #expect(xgboost.message.contains("\(library) has no XGBoostVersion") && xgboost.message.contains("make libs"))
        let onnx = try #require(throws: FlockError.self) { try ONNXLibrary.shared(explicit: library) }
        #expect(onnx == .modelLoadFailed && onnx.message.contains("has no OrtGetApiBase"))
    }

    @Test("a model file that is missing, empty or a folder is named before any library is looked for")
    func files() async throws {
        let place = try Place()
        try place.add("empty", "")
        let sources: [(String) -> ModelSource] = [{ .xgboost($0) }, { .lightgbm($0) }]
        for source in sources + [{ .onnx($0) }] {
            for (path, says) in [("/nowhere/model", "there is no such file"), (place.root, "it is a folder")] {
                let error = try await #require(throws: FlockError.self) { try await source(path).load() }
                #expect(error == .modelLoadFailed && error.message.contains("\(path): "))
                #expect(error.message.contains(says))
            }
        }
        for source in sources {
            let error = try await #require(throws: FlockError.self) { try await source("\(place.root)/empty").load() }
            #expect(error.message.contains("the file is empty"))
        }
    }
}
