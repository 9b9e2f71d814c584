// Flockwork · Apache-2.0 · see LICENSE

// What turns weighted sums into probabilities, in place. Both forms stay finite for every finite sum. The logistic link
// has its own power function, because the C library's takes one number at a time and cost more than the dot products.

import Glibc

/// `1 / (1 + e^-x)` of each value.
func applyLogistic(_ values: UnsafeMutablePointer<Float>, count: Int) {
    let raw = UnsafeMutableRawPointer(values)
    var index = 0
    while index &+ 4 <= count {
        let sums = raw.loadUnaligned(fromByteOffset: index &* 4, as: SIMD4<Float>.self)
        raw.storeBytes(of: logistic(sums), toByteOffset: index &* 4, as: SIMD4<Float>.self)
        index &+= 4
    }
    // The same arithmetic for the rest, so that a score does not depend on its place in the batch.
    while index < count {
        values[index] = logistic(SIMD4(repeating: values[index])).x
        index &+= 1
    }
}

@inline(__always)
private func logistic(_ sums: SIMD4<Float>) -> SIMD4<Float> {
    // Beyond these, the result is 0 or 1 in 32 bits; a NaN is kept, as the comparisons are false for it.
    var x = 0 - sums
    x = x.replacing(with: 88, where: x .> 88)
    x = x.replacing(with: -87, where: x .< -87)
    let one = SIMD4<Float>(repeating: 1)
    let result = one / (one + power(x))
    return result.replacing(with: 0, where: sums .< -88)
}

/// `e^x` for -87 ... 88: `2^n × e^r` with `|r| <= ln 2 / 2`, and a polynomial for `e^r`.
@inline(__always)
private func power(_ x: SIMD4<Float>) -> SIMD4<Float> {
    // Adding 1.5 × 2^23 rounds to a whole number, which then stands in the low bits.
    let shift = SIMD4<Float>(repeating: 12_582_912)
    let shifted = x * 1.442_695_04 + shift
    let whole = shifted - shift
    // ln 2 in two parts: the first has so few bits that its product with `whole` is exact.
    let rest = (x - whole * 0.693_359_375) - whole * -2.121_944_4e-4
    var sum = SIMD4<Float>(repeating: 1.987_569_15e-4)
    sum = sum * rest + 1.398_199_95e-3
    sum = sum * rest + 8.333_452e-3
    sum = sum * rest + 4.166_579_6e-2
    sum = sum * rest + 1.666_666_55e-1
    sum = sum * rest + 0.5
    sum = sum * rest * rest + rest + 1
    let bits = unsafeBitCast(shifted, to: SIMD4<Int32>.self) &- unsafeBitCast(shift, to: SIMD4<Int32>.self)
    let exponent = (bits &+ 127) &<< 23
    return sum * unsafeBitCast(exponent, to: SIMD4<Float>.self)
}

/// `e^x / Σ e^x` of each row; the largest is subtracted first, so that no power overflows.
func applySoftmax(_ values: UnsafeMutablePointer<Float>, rows: Int, width: Int) {
    for row in 0..<rows {
        let at = values + row * width
        var largest = at[0]
        for index in 1..<max(width, 1) { largest = max(largest, at[index]) }
        var sum: Float = 0
        for index in 0..<width {
            at[index] = expf(at[index] - largest)
            sum += at[index]
        }
        for index in 0..<width { at[index] /= sum }
    }
}
