// Flockwork · Apache-2.0 · see LICENSE

import FlockWire
import FoundationEssentials
import Glibc

/// Reading the file of a model.
enum ModelFile {
    /// A file beyond this is refused before it is read.
    static let largestBytes = 2 << 30

    /// The contents of a file.
    ///
    /// Throws `modelLoadFailed` with what is wrong; the caller adds which model it is.
    static func contents(of path: String, atMost largest: Int = largestBytes) throws(FlockError) -> Data {
        try check(path, atMost: largest)
        let data: Data
        do {
            data = try Data(contentsOf: URL(filePath: path))
        } catch {
            throw FlockError(.modelLoadFailed, "the file cannot be read: \(error)", cause: error)
        }
        // Someone may be writing it at this moment.
        guard !data.isEmpty else { throw empty }
        return data
    }

    /// Throws `modelLoadFailed` unless there is a file with something in it that may be read.
    ///
    /// Pipes and devices are refused: reading one may never end.
    static func check(_ path: String, atMost largest: Int = largestBytes) throws(FlockError) {
        var status = stat()
        guard stat(path, &status) == 0 else {
            guard errno == ENOENT || errno == ENOTDIR else { throw unreadable(reason()) }
            // A path is usually wrong because the program was started somewhere else.
            let place = path.hasPrefix("/") ? "" : " in \(FileManager.default.currentDirectoryPath)"
            throw FlockError(.modelLoadFailed, "there is no such file\(place)")
        }
        switch status.st_mode & S_IFMT {
        case S_IFREG: break
        case S_IFDIR: throw unreadable("it is a folder; name the file in it")
        default: throw unreadable("it is no ordinary file but a pipe, a socket or a device")
        }
        guard access(path, R_OK) == 0 else {
            throw unreadable("\(reason()); this process runs as user \(geteuid())")
        }
        let size = Int(status.st_size)
        guard size <= largest else {
            throw FlockError(.modelLoadFailed, "\(size) bytes; at most \(largest) are read")
        }
        guard size > 0 else { throw empty }
    }

    private static let empty = FlockError(
        .modelLoadFailed, "the file is empty; save or copy the model again")

    private static func unreadable(_ why: String) -> FlockError {
        FlockError(.modelLoadFailed, "the file cannot be read: \(why)")
    }

    private static func reason() -> String { String(cString: strerror(errno)) }
}
