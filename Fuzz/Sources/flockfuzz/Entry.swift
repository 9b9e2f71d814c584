// Flockwork · Apache-2.0 · see LICENSE

// What libFuzzer runs. One program has all targets, so that only one is built: FLOCKFUZZ_TARGET names which one runs.
// With FLOCKFUZZ_SEEDS=folder it writes the target's first inputs there and ends.

import FlockWire
import Glibc

/// Something that reads bytes of strangers. A trap, a sanitizer's finding or a failed `precondition` is a crash.
enum Target: String, CaseIterable {
    case frames, values, messages, handshake

    func run(_ input: [UInt8]) {
        switch self {
        case .frames: FrameTarget.run(input)
        case .values: ValueTarget.run(input)
        case .messages: MessageTarget.run(input)
        case .handshake: HandshakeTarget.run(input)
        }
    }

    func seeds() throws -> [[UInt8]] {
        switch self {
        case .frames: FrameTarget.seeds()
        case .values: try ValueTarget.seeds()
        case .messages: try MessageTarget.seeds()
        case .handshake: HandshakeTarget.seeds()
        }
    }

    static let chosen: Target = {
        let name = environment("FLOCKFUZZ_TARGET") ?? ""
        guard let target = Target(rawValue: name) else {
            complain("FLOCKFUZZ_TARGET must be one of \(allCases.map(\.rawValue))")
            exit(2)
        }
        return target
    }()
}

func complain(_ text: String) {
    let line = Array("\(text)\n".utf8)
    _ = write(2, line, line.count)
}

func environment(_ name: String) -> String? { getenv(name).map { String(cString: $0) } }

// libFuzzer's own entry, for programs that bring `main` as SwiftPM's executables do.
@_silgen_name("LLVMFuzzerRunDriver")
private func runDriver(
    _ count: UnsafeMutablePointer<CInt>,
    _ arguments: UnsafeMutablePointer<UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>>,
    _ body: @convention(c) (UnsafePointer<UInt8>?, Int) -> CInt
) -> CInt

@main
enum Entry {
    static func main() throws {
        let target = Target.chosen
        if let folder = environment("FLOCKFUZZ_SEEDS") {
            for (index, seed) in try target.seeds().enumerated() {
                guard let file = fopen("\(folder)/seed-\(index)", "w") else { continue }
                fwrite(seed, 1, seed.count, file)
                fclose(file)
            }
            return
        }
        var count = CommandLine.argc
        var arguments = CommandLine.unsafeArgv
        exit(
            runDriver(&count, &arguments) { bytes, count in
                Target.chosen.run(Array(UnsafeBufferPointer(start: bytes, count: count)))
                return 0
            })
    }
}

/// Small ones, so that they are reached.
let fuzzLimits: Limits = {
    var limits = Limits()
    limits.frameBytes = 64 << 10
    limits.payloadBytes = 4096
    limits.itemsPerRun = 1024
    limits.runsPerFrame = 64
    limits.codingElements = 4096
    limits.methods = 64
    return limits
}()
