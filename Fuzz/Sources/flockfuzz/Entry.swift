// Flockwork · Apache-2.0 · see LICENSE

// What libFuzzer calls. One program has all targets, so that only one is built: FLOCKFUZZ_TARGET names which one runs.
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
            fputs("FLOCKFUZZ_TARGET must be one of \(allCases.map(\.rawValue))\n", stderr)
            exit(2)
        }
        return target
    }()
}

func environment(_ name: String) -> String? { getenv(name).map { String(cString: $0) } }

@_cdecl("LLVMFuzzerInitialize")
public func fuzzerInitialize(
    _ count: UnsafeMutablePointer<CInt>,
    _ arguments: UnsafeMutablePointer<UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>>
) -> CInt {
    let target = Target.chosen
    guard let folder = environment("FLOCKFUZZ_SEEDS") else { return 0 }
    do {
        for (index, seed) in try target.seeds().enumerated() {
            guard let file = fopen("\(folder)/seed-\(index)", "w") else { continue }
            fwrite(seed, 1, seed.count, file)
            fclose(file)
        }
        exit(0)
    } catch {
        fputs("\(error)\n", stderr)
        exit(2)
    }
}

@_cdecl("LLVMFuzzerTestOneInput")
public func fuzzerTestOneInput(_ bytes: UnsafePointer<UInt8>?, _ count: Int) -> CInt {
    Target.chosen.run(Array(UnsafeBufferPointer(start: bytes, count: count)))
    return 0
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
