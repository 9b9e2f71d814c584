// Flockwork · Apache-2.0 · see LICENSE

internal import FlockWire
internal import Foundation

/// What decides how a virtual environment turns out. Two models with the same recipe share one.
struct EnvironmentRecipe: Sendable {
    let interpreter: Interpreter
    /// The folder of the model, with a `requirements.txt`.
    let folder: String
    let requirements: Requirements
    /// A folder with wheels: nothing is downloaded then.
    let wheelhouse: String?
    let seesSystemPackages: Bool
    /// The model has an `init.sh`, which may want a pip in the environment.
    let hasScript: Bool
    /// 64 hexadecimal digits.
    let key: String

    /// Nil for a model without requirements. To be called on a thread that may wait.
    /// - Throws: `invalidInput`, `system`.
    init?(of folder: String, _ interpreter: Interpreter, _ environment: PythonEnvironment) throws(FlockError) {
        guard access(folder + "/requirements.txt", F_OK) == 0 else { return nil }
        let own = folder + "/wheels"
        wheelhouse = access(own, F_OK) == 0 ? own : environment.wheelhouse
        self.folder = folder
        self.interpreter = interpreter
        requirements = try Requirements("requirements.txt", in: folder)
        seesSystemPackages = environment.seesSystemPackages
        var parts = [
            "flockwork environment 1", interpreter.path, interpreter.fullVersion, interpreter.tag, interpreter.platform,
            "\(seesSystemPackages)", "\(requirements.lines.count)",
        ]
        parts += requirements.lines
        if let wheelhouse { parts += try Self.wheels(in: wheelhouse) }
        // It may install things, which are for none but models with the same script.
        let script = FileManager.default.contents(atPath: folder + "/init.sh")
        hasScript = script != nil
        if let script { parts.append("init.sh \(ContentHash(of: Bytes(Array(script))))") }
        var hasher = ContentHasher()
        for part in parts { hasher.update("\(part.utf8.count) \(part)\n") }
        key = "\(hasher.finish())"
    }

    /// Bytes at the end of a wheel that name it: a wheel is a zip, whose directory is there, with a checksum of every
    /// file.
    private static let tail = 256 << 10

    private static func wheels(in folder: String) throws(FlockError) -> [String] {
        guard let list = opendir(folder) else {
            throw FlockError(systemCallFor: "the folder of wheels \(folder)")
        }
        defer { closedir(list) }
        var wheels: [String] = []
        while let entry = readdir(list) {
            let bytes = withUnsafeBytes(of: &entry.pointee.d_name) { Array($0.prefix { $0 != 0 }) }
            let name = String(decoding: bytes, as: UTF8.self)
            guard !name.hasPrefix(".") else { continue }
            let file = try OpenFile(open("\(folder)/\(name)", O_RDONLY | O_CLOEXEC | O_NONBLOCK), "\(folder)/\(name)")
            let status = try file.status()
            guard status.st_mode & S_IFMT == S_IFREG else { continue }
            let size = Int(status.st_size)
            let end = try file.read(min(size, tail), from: max(0, size - tail))
            wheels.append("wheel \(name) \(size) \(ContentHash(of: end))")
        }
        return wheels.sorted()
    }
}
