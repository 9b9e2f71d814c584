// Flockwork · Apache-2.0 · see LICENSE

// The dot products. Eight rows are scored at once: eight independent sums hide the latency of the additions, and a
// weight is loaded once for eight rows. The vectors are of four floats, which baseline x86-64 and arm64 both have.
// The order of the additions within a row is the same in every path, so the batch size never changes a score.

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

    /// Writes `rows × outputs` weighted sums, row after row.
    func score(_ source: UnsafePointer<Float>, rows: Int, into target: UnsafeMutablePointer<Float>) {
        let outputs = bias.count
        vectors.withUnsafeBufferPointer { vectors in
            for output in 0..<outputs {
                let weights = vectors.baseAddress! + output * chunks
                let bias = bias[output]
                if width == 16 {
                    // The constants unroll the loop over the vectors; this width is the benchmark's.
                    sums(
                        source, rows: rows, weights: weights, bias: bias, width: 16, whole: 4, target: target + output,
                        step: outputs)
                } else if width < 4 {
                    shortSums(
                        source, rows: rows, weights: weights, bias: bias, target: target + output, step: outputs)
                } else {
                    sums(
                        source, rows: rows, weights: weights, bias: bias, width: width, whole: width / 4,
                        target: target + output, step: outputs)
                }
            }
        }
    }

    @inline(__always)
    private func sums(
        _ source: UnsafePointer<Float>, rows: Int, weights: UnsafePointer<SIMD4<Float>>, bias: Float, width: Int,
        whole: Int, target: UnsafeMutablePointer<Float>, step: Int
    ) {
        var row = 0
        while row + 8 <= rows {
            let at = source + row * width
            let (s0, s1, s2, s3) = four(at, weights, width, whole)
            let (s4, s5, s6, s7) = four(at + 4 * width, weights, width, whole)
            store(folded(s0, s1, s2, s3) + bias, target + row * step, step)
            store(folded(s4, s5, s6, s7) + bias, target + (row + 4) * step, step)
            row += 8
        }
        while row < rows {
            let sum = one(source + row * width, weights, width, whole)
            let halves = sum.lowHalf + sum.highHalf
            target[row * step] = halves.x + halves.y + bias
            row += 1
        }
    }

    /// Weighted sums of four rows, still four lanes each.
    @inline(__always)
    private func four(
        _ at: UnsafePointer<Float>, _ weights: UnsafePointer<SIMD4<Float>>, _ width: Int, _ whole: Int
    ) -> (SIMD4<Float>, SIMD4<Float>, SIMD4<Float>, SIMD4<Float>) {
        let a = UnsafeRawPointer(at)
        let stride = width * 4
        var sums = (SIMD4<Float>.zero, SIMD4<Float>.zero, SIMD4<Float>.zero, SIMD4<Float>.zero)
        for chunk in 0..<whole {
            let weight = weights[chunk]
            let offset = chunk * 16
            sums.0 += load(a, offset) * weight
            sums.1 += load(a, stride + offset) * weight
            sums.2 += load(a, 2 * stride + offset) * weight
            sums.3 += load(a, 3 * stride + offset) * weight
        }
        if whole * 4 < width {
            let weight = weights[whole]
            let offset = stride - 16
            sums.0 += last(a, offset) * weight
            sums.1 += last(a, stride + offset) * weight
            sums.2 += last(a, 2 * stride + offset) * weight
            sums.3 += last(a, 3 * stride + offset) * weight
        }
        return sums
    }

    @inline(__always)
    private func one(
        _ at: UnsafePointer<Float>, _ weights: UnsafePointer<SIMD4<Float>>, _ width: Int, _ whole: Int
    ) -> SIMD4<Float> {
        let a = UnsafeRawPointer(at)
        var sum = SIMD4<Float>.zero
        for chunk in 0..<whole { sum += load(a, chunk * 16) * weights[chunk] }
        if whole * 4 < width { sum += last(a, width * 4 - 16) * weights[whole] }
        return sum
    }

    /// Rows of one to three numbers, where there are no four to load.
    private func shortSums(
        _ source: UnsafePointer<Float>, rows: Int, weights: UnsafePointer<SIMD4<Float>>, bias: Float,
        target: UnsafeMutablePointer<Float>, step: Int
    ) {
        let weight = weights[0]
        for row in 0..<rows {
            var sum: Float = 0
            for index in 0..<width { sum += source[row * width + index] * weight[4 - width + index] }
            target[row * step] = sum + bias
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

    /// The four lanes of each vector added up: a transposition costs less than four horizontal sums.
    @inline(__always)
    private func folded(
        _ a: SIMD4<Float>, _ b: SIMD4<Float>, _ c: SIMD4<Float>, _ d: SIMD4<Float>
    ) -> SIMD4<Float> {
        let ab =
            SIMD4(lowHalf: a.lowHalf, highHalf: b.lowHalf) + SIMD4(lowHalf: a.highHalf, highHalf: b.highHalf)
        let cd =
            SIMD4(lowHalf: c.lowHalf, highHalf: d.lowHalf) + SIMD4(lowHalf: c.highHalf, highHalf: d.highHalf)
        let all = SIMD8(lowHalf: ab, highHalf: cd)
        return all.evenHalf + all.oddHalf
    }

    @inline(__always)
    private func store(_ sums: SIMD4<Float>, _ target: UnsafeMutablePointer<Float>, _ step: Int) {
        if step == 1 {
            UnsafeMutableRawPointer(target).storeBytes(of: sums, as: SIMD4<Float>.self)
        } else {
            for lane in 0..<4 { target[lane * step] = sums[lane] }
        }
    }
}
