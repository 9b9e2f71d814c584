// Flockwork · Apache-2.0 · see LICENSE

// 64 MB of distinct rows, so that no cache holds them, and the bare loop over them. The obvious loop
// (`sum += dot(row, weights)`) is no limit: its chain of float additions is slower than the pipeline. The limit is the
// same kernel over blocks of 1,024 rows into a scratch buffer, which is then summed.

import FlockWire
import Synchronization

/// Rows of 16 floats, all distinct, and the linear model that scores them.
enum Dataset {
    static let width = 16
    static let batch = 1024
    static let rowCount = 1 << 20

    static let weights: [Float] = (0..<width).map { Float($0 + 1) / 64 - 0.1 }
    static let bias: Float = 0.25

    static let rows: Rows<Float> = makeRows(count: rowCount, seed: 0x9E37_79B9_7F4A_7C15)

    static func makeRows(count: Int, seed: UInt64) -> Rows<Float> {
        Rows(count: count, width: width) { elements in
            var state = seed
            for index in elements.indices {
                state ^= state << 13
                state ^= state >> 7
                state ^= state << 17
                elements[index] = Float(state >> 40) / Float(1 << 24) - 0.5
            }
        }
    }

    /// The same rows as structs, in batches.
    static func structBatches() -> [[Features]] {
        (0..<rowCount / batch).map { block in
            rows.withElements { elements in
                (0..<batch).map { Features(elements[(block * batch + $0) * width..<(block * batch + $0 + 1) * width]) }
            }
        }
    }

    /// Scores `count` rows. One call a block: nothing here is done per item but arithmetic.
    @inline(never)
    static func score(_ rows: UnsafePointer<Float>, count: Int, into scores: UnsafeMutablePointer<Float>) {
        let weights = weights.withUnsafeBytes { $0.loadUnaligned(as: SIMD16<Float>.self) }
        let raw = UnsafeRawPointer(rows)
        for index in 0..<count {
            let product = raw.loadUnaligned(fromByteOffset: index * 64, as: SIMD16<Float>.self) * weights
            let eight = product.lowHalf + product.highHalf
            let four = eight.lowHalf + eight.highHalf
            let two = four.lowHalf + four.highHalf
            scores[index] = two.x + two.y + bias
        }
    }

    @inline(never)
    static func sum(_ scores: UnsafePointer<Float>, count: Int) -> Float {
        var lanes = SIMD16<Float>(repeating: 0)
        let raw = UnsafeRawPointer(scores)
        for index in 0..<count / 16 {
            lanes += raw.loadUnaligned(fromByteOffset: index * 64, as: SIMD16<Float>.self)
        }
        var sum = lanes.sum()
        for index in count / 16 * 16..<count { sum += scores[index] }
        return sum
    }

    /// The limit of `batch-linear16`: each thread scores and sums every fourth block until the time is up.
    static func bareLoop(threads: Int, seconds: Double) throws -> Measured {
        let rows = rows
        let tally = Tally()
        let meter = try Meter()
        let end = monotonicNanoseconds() + UInt64(seconds * 1e9)
        onThreads(threads) { lane in
            let scratch = UnsafeMutablePointer<Float>.allocate(capacity: batch)
            defer { scratch.deallocate() }
            rows.withElements { elements in
                guard let base = elements.baseAddress else { return }
                var total: Float = 0
                var count = 0
                var block = lane
                while monotonicNanoseconds() < end {
                    for _ in 0..<16 {
                        score(base + block * batch * width, count: batch, into: scratch)
                        total += sum(scratch, count: batch)
                        block = (block + threads) % (rowCount / batch)
                    }
                    count += 16 * batch
                }
                tally.add(items: count, sum: Double(total))
            }
        }
        return try meter.stop(items: tally.items)
    }
}

/// What several threads did together.
final class Tally: Sendable {
    private let state = Mutex((items: 0, sum: 0.0))
    func add(items: Int, sum: Double) {
        state.withLock {
            $0.items += items
            $0.sum += sum
        }
    }
    var items: Int { state.withLock { $0.items } }
    var sum: Double { state.withLock { $0.sum } }
}
