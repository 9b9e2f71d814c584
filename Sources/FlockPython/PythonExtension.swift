// Flockwork · Apache-2.0 · see LICENSE

internal import FlockWire
internal import Glibc

/// The library that a worker's interpreter loads.
enum PythonExtension {
    /// Says where it is, when it is not beside the program.
    static let variable = "FLOCKWORK_PYTHON_EXTENSION"
    private static let name = "libflockpython.so"

    /// Where it is: as the environment variable says, beside the program, or in `lib` next to the program's folder.
    /// - Throws: `pythonFailed` that names the places.
    static func path() throws(FlockError) -> String {
        var places: [String] = []
        if let named = getenv(variable) { places.append(String(cString: named)) }
        if let folder = programFolder() { places += ["\(folder)/\(name)", "\(folder)/../lib/\(name)"] }
        for place in places where access(place, R_OK) == 0 { return place }
        throw FlockError(
            .pythonFailed,
            "\(name) is not there (looked for \(places.joined(separator: ", "))): build it with"
                + " swift build --product flockpython, or name it in \(variable)")
    }

    private static func programFolder() -> String? {
        var bytes = [UInt8](repeating: 0, count: Int(PATH_MAX))
        let count = bytes.withUnsafeMutableBytes { raw in
            readlink("/proc/self/exe", raw.baseAddress!.assumingMemoryBound(to: CChar.self), raw.count)
        }
        guard count > 0, let slash = bytes[..<count].lastIndex(of: 0x2F) else { return nil }
        return String(decoding: bytes[..<slash], as: UTF8.self)
    }
}
