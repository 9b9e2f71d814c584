// Flockwork · Apache-2.0 · see LICENSE

import FlockWire
import FoundationEssentials

/// Reading the file of a model that a vendor's library takes from memory.
enum ModelFile {
    /// A file beyond this is refused before it is read.
    static let largestBytes = 2 << 30

    /// The contents of a file.
    ///
    /// Throws `modelLoadFailed` with what is wrong; the caller adds which model it is.
    static func contents(of path: String) throws(FlockError) -> Data {
        do {
            try check(path)
            let data = try Data(contentsOf: URL(filePath: path))
            guard !data.isEmpty else { throw FlockError(.modelLoadFailed, "the file is empty") }
            return data
        } catch let error as FlockError {
            throw error
        } catch {
            throw FlockError(.modelLoadFailed, "the file cannot be read: \(error)", cause: error)
        }
    }

    /// Throws `modelLoadFailed` unless there is a file that may be read.
    static func check(_ path: String) throws(FlockError) {
        var isFolder = false
        guard FileManager.default.fileExists(atPath: path, isDirectory: &isFolder) else {
            throw FlockError(.modelLoadFailed, "there is no such file")
        }
        guard !isFolder else { throw FlockError(.modelLoadFailed, "the file cannot be read: it is a folder") }
        let size: Int
        do {
            size = try FileManager.default.attributesOfItem(atPath: path)[.size] as? Int ?? 0
        } catch {
            throw FlockError(.modelLoadFailed, "the file cannot be read: \(error)", cause: error)
        }
        guard size <= largestBytes else {
            throw FlockError(.modelLoadFailed, "\(size) bytes; at most \(largestBytes) are read")
        }
    }
}
