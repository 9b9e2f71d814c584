// Flockwork · Apache-2.0 · see LICENSE

internal import FlockWire
internal import Foundation

/// Where bundles and environments are kept.
enum CacheFolder {
    /// Says where instead.
    static let variable = "FLOCKWORK_CACHE"

    /// `~/.cache/flockwork`, or what the variables `FLOCKWORK_CACHE` and `XDG_CACHE_HOME` say.
    static var standard: String {
        let variables = ProcessInfo.processInfo.environment
        if let named = variables[variable], named.hasPrefix("/") { return named }
        if let caches = variables["XDG_CACHE_HOME"], caches.hasPrefix("/") { return caches + "/flockwork" }
        return (variables["HOME"] ?? NSHomeDirectory()) + "/.cache/flockwork"
    }

    /// Makes a folder of this user alone, with those above it. What is in it is executed.
    /// - Throws: `system`; `invalidInput` if it is another user's, or others may write there.
    static func make(_ path: String) throws(FlockError) {
        var made = path.hasPrefix("/") ? "/" : ""
        for component in path.split(separator: "/") {
            made += component
            guard mkdir(made, 0o700) == 0 || errno == EEXIST else { throw FlockError(systemCallFor: made) }
            made += "/"
        }
        let folder = try OpenFile(open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC), path)
        let status = try folder.status()
        guard status.st_uid == geteuid(), status.st_mode & 0o022 == 0 else {
            throw FlockError(
                .invalidInput, "\(path) is another user's, or others may write there: run chmod go-w, or name another.")
        }
    }
}
