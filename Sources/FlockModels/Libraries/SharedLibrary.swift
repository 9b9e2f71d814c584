// Flockwork · Apache-2.0 · see LICENSE

// A library is opened with RTLD_LOCAL, so that the copies of OpenMP, protobuf and the like that vendors ship do not
// meet. It is never closed: some keep threads and thread-local state until the process ends.

import FlockWire
import Glibc

/// A library that was loaded into this process.
struct SharedLibrary: Sendable {
    let kind: LibraryKind
    /// Its file, or its name if the system's loader found it.
    let path: String
    // A handle of dlopen is valid for ever and may be used by every thread.
    nonisolated(unsafe) private let handle: UnsafeMutableRawPointer

    /// Loads the library: the explicit path, the environment's, Python's site-packages, the system's, in this order.
    ///
    /// Throws `modelLoadFailed` that says where it was looked for and how to install it.
    init(_ kind: LibraryKind, explicit: String?, search: LibrarySearch = .process) throws(FlockError) {
        if let (path, by) = search.named(kind, explicit: explicit) {
            guard access(path, F_OK) == 0 else {
                throw FlockError(
                    .modelLoadFailed,
                    "\(kind.name): there is no file \(path), which \(by) names. \(kind.remedy)")
            }
            try self.init(kind, file: path)
            return
        }
        let folders = search.sitePackages()
        for folder in folders {
            guard let path = search.file(of: kind, in: folder) else { continue }
            try self.init(kind, file: path)
            return
        }
        guard let handle = dlopen(kind.file, RTLD_NOW | RTLD_LOCAL) else {
            // The loader's reason says more if there is one that cannot be loaded.
            let reason = Self.lastError()
            guard reason.contains("\(kind.file): cannot open shared object file") else {
                throw FlockError(
                    .modelLoadFailed,
                    "\(kind.name): the system's \(kind.file) cannot be loaded: \(reason). \(kind.remedy)")
            }
            let places = folders.isEmpty ? "" : "\(folders.joined(separator: ", ")) and "
            throw FlockError(
                .modelLoadFailed,
                "\(kind.name) is not installed (looked in \(places)the system's libraries). \(kind.remedy)")
        }
        self.init(kind, path: kind.file, handle: handle)
    }

    private init(_ kind: LibraryKind, file path: String) throws(FlockError) {
        // A bare name would make the loader search instead of taking the file.
        let name = path.contains("/") ? path : "./\(path)"
        guard let handle = dlopen(name, RTLD_NOW | RTLD_LOCAL) else {
            throw FlockError(
                .modelLoadFailed, "\(kind.name): \(path) cannot be loaded: \(Self.lastError()). \(kind.remedy)")
        }
        self.init(kind, path: path, handle: handle)
    }

    private init(_ kind: LibraryKind, path: String, handle: UnsafeMutableRawPointer) {
        self.kind = kind
        self.path = path
        self.handle = handle
    }

    /// A function of the library. `Function` must be the `@convention(c)` type that the vendor documents.
    ///
    /// Throws `modelLoadFailed` for a library that does not have it: another one, or another version.
    func function<Function>(_ symbol: String, as type: Function.Type = Function.self) throws(FlockError) -> Function {
        guard let address = dlsym(handle, symbol) else {
            throw FlockError(
                .modelLoadFailed,
                "\(kind.name): \(path) has no \(symbol): another library, or a version that is not known. "
                    + kind.remedy)
        }
        return unsafeBitCast(address, to: type)
    }

    private static func lastError() -> String {
        dlerror().map { String(cString: $0) } ?? "no reason is given"
    }
}
