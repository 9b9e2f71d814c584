// Flockwork · Apache-2.0 · see LICENSE

// The dot products. Four independent sums in each row hide the latency of the additions. The vectors are of four
// floats, which baseline x86-64 and arm64 both have. The order of the additions within a row is the same in every path,
// so the batch size never changes a score.

/// Weights in the order in which the kernel reads them.
struct LinearKernel: Sendable {
    /// For each output: the weights in vectors of four. If the width is no multiple of four, the last vector belongs
    /// to the last four elements of the row, with zeros for those that an earlier vector has already counted.
    private let vectors: [SIMD4<Float>]
    private let bias: [Float]
    private let width: Int
    /// Vectors of an output.
    private let chunks: Int
    /// Lanes of the last vector that count; others are replaced by zero, so that 0 × infinity never appears.
    private let lastLanes: SIMDMask<SIMD4<Int32>>

    /// `weights` is row-major, `bias.count × inputWidth`.
    init(weights: [Float], bias: [Float], inputWidth: Int) {
        width = inputWidth
        self.bias = bias
        chunks = (inputWidth + 3) / 4
        let overlap = chunks * 4 - inputWidth
        var lanes = SIMDMask<SIMD4<Int32>>(repeating: true)
        for lane in 0..<overlap { lanes[lane] = false }
        lastLanes = lanes
        var vectors: [SIMD4<Float>] = []
        vectors.reserveCapacity(chunks * bias.count)
        for output in 0..<bias.count {
            for chunk in 0..<chunks {
                var vector = SIMD4<Float>(repeating: 0)
                let shift = chunk == chunks - 1 ? overlap : 0
                for lane in shift..<4 { vector[lane] = weights[output * inputWidth + chunk * 4 - shift + lane] }
                vectors.append(vector)
            }
        }
        self.vectors = vectors
    }

    /// Rows of which the sums wait in their four lanes: few, so that the processor overlaps the last pass over one
    /// block with the first reads of the next.
    private static let block = 32

    /// Writes `rows × outputs` weighted sums, row after row.
    func score(_ source: UnsafePointer<Float>, rows: Int, into target: UnsafeMutablePointer<Float>) {
        guard width >= 4 else { return scoreShort(source, rows: rows, into: target) }
        let outputs = bias.count
        withUnsafeTemporaryAllocation(of: SIMD4<Float>.self, capacity: Self.block) { sums in
            vectors.withUnsafeBufferPointer { vectors in
                guard let weights = vectors.baseAddress, let sums = sums.baseAddress else { return }
                var first = 0
                while first < rows {
                    let count = min(Self.block, rows &- first)
                    let at = UnsafeRawPointer(source + first &* width)
                    for output in 0..<outputs {
                        addUp(at, count, weights + output &* chunks, into: sums)
                        let target = target + (first &* outputs &+ output)
                        fold(sums, count, bias: bias[output], into: target, step: outputs)
                    }
                    first &+= count
                }
            }
        }
    }

    /// Writes each row's weighted sum, still in four lanes.
    @inline(__always)
    private func addUp(
        _ source: UnsafeRawPointer, _ rows: Int, _ weights: UnsafePointer<SIMD4<Float>>,
        into sums: UnsafeMutablePointer<SIMD4<Float>>
    ) {
        if width == 16 {
            // The constants unroll the loop over the vectors and keep the weights in registers.
            addUp(source, rows, weights, width: 16, whole: 4, into: sums)
        } else {
            addUp(source, rows, weights, width: width, whole: width >> 2, into: sums)
        }
    }

    /// Memory is read strictly forwards, row by row: four rows at once need fewer instructions, but their streams of
    /// reads are prefetched badly (rows of 128 floats took four times as long).
    @inline(__always)
    private func addUp(
        _ source: UnsafeRawPointer, _ rows: Int, _ weights: UnsafePointer<SIMD4<Float>>, width: Int, whole: Int,
        into sums: UnsafeMutablePointer<SIMD4<Float>>
    ) {
        var at = source
        for row in 0..<rows {
            var (a, b, c, d) = (SIMD4<Float>.zero, SIMD4<Float>.zero, SIMD4<Float>.zero, SIMD4<Float>.zero)
            var chunk = 0
            while chunk &+ 4 <= whole {
                let offset = chunk &* 16
                a += load(at, offset) * weights[chunk]
                b += load(at, offset &+ 16) * weights[chunk &+ 1]
                c += load(at, offset &+ 32) * weights[chunk &+ 2]
                d += load(at, offset &+ 48) * weights[chunk &+ 3]
                chunk &+= 4
            }
            if whole &- chunk > 0 { a += load(at, chunk &* 16) * weights[chunk] }
            if whole &- chunk > 1 { b += load(at, chunk &* 16 &+ 16) * weights[chunk &+ 1] }
            if whole &- chunk > 2 { c += load(at, chunk &* 16 &+ 32) * weights[chunk &+ 2] }
            if whole &* 4 < width { d += last(at, width &* 4 &- 16) * weights[whole] }
            sums[row] = (a + b) + (c + d)
            at += width &* 4
        }
    }

    /// Adds up the lanes of each row.
    ///
    /// In a pass of its own, because the optimiser otherwise takes the products apart instead of the sums, which
    /// takes more than twice the time.
    @inline(__always)
    private func fold(
        _ sums: UnsafePointer<SIMD4<Float>>, _ rows: Int, bias: Float, into target: UnsafeMutablePointer<Float>,
        step: Int
    ) {
        for row in 0..<rows {
            let halves = sums[row].lowHalf + sums[row].highHalf
            target[row &* step] = halves.x + halves.y + bias
        }
    }

    /// Rows of one to three numbers, where there are no four to load.
    private func scoreShort(_ source: UnsafePointer<Float>, rows: Int, into target: UnsafeMutablePointer<Float>) {
        let outputs = bias.count
        for row in 0..<rows {
            for output in 0..<outputs {
                var sum: Float = 0
                for index in 0..<width { sum += source[row * width + index] * vectors[output][4 - width + index] }
                target[row * outputs + output] = sum + bias[output]
            }
        }
    }

    @inline(__always)
    private func load(_ base: UnsafeRawPointer, _ offset: Int) -> SIMD4<Float> {
        base.loadUnaligned(fromByteOffset: offset, as: SIMD4<Float>.self)
    }

    @inline(__always)
    private func last(_ base: UnsafeRawPointer, _ offset: Int) -> SIMD4<Float> {
        load(base, offset).replacing(with: 0, where: .!lastLanes)
    }
}
