// Flockwork · Apache-2.0 · see LICENSE

internal import Dispatch
internal import FlockWire
internal import Foundation
internal import Glibc

/// Where the children of a pool write what they must: home and temporary folder of each, of this user alone.
struct PrivateFolder: Sendable {
    let path: String

    init() throws(FlockError) {
        let parent = ProcessInfo.processInfo.environment["TMPDIR"] ?? "/tmp"
        var template = Array("\(parent)/flockwork-XXXXXX".utf8CString)
        guard let made = mkdtemp(&template) else {
            throw FlockError(.system, "no private folder in \(parent): \(String(cString: strerror(errno)))")
        }
        path = String(cString: made)
    }

    /// A folder in it. If it cannot be made, the child hears so when it writes.
    func make(_ name: String) -> String {
        mkdir("\(path)/\(name)", 0o700)
        return "\(path)/\(name)"
    }

    /// All of it, or one folder in it; later, on another thread.
    func remove(_ name: String? = nil) {
        let path = name.map { "\(self.path)/\($0)" } ?? path
        DispatchQueue.global().async {
            // A child's grandchild may still write there; it is a temporary folder.
            try? FileManager.default.removeItem(atPath: path)
        }
    }
}

/// Memory of another process.
enum ProcessMemory {
    /// Bytes in use, its own and shared; 0 for a process that has ended.
    static func resident(of process: Int32) -> UInt64 {
        guard let file = fopen("/proc/\(process)/statm", "r") else { return 0 }
        defer { fclose(file) }
        var line = [CChar](repeating: 0, count: 128)
        guard fgets(&line, Int32(line.count), file) != nil else { return 0 }
        let words = String(decoding: line.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
            .split(separator: " ")
        guard words.count > 1, let pages = UInt64(words[1]) else { return 0 }
        return pages * UInt64(sysconf(Int32(_SC_PAGESIZE)))
    }
}
