// Flockwork · Apache-2.0 · see LICENSE

// What turns weighted sums into probabilities, in place. Both forms stay finite for every finite sum.

import Glibc

/// `1 / (1 + e^-x)` of each value.
func applyLogistic(_ values: UnsafeMutablePointer<Float>, count: Int) {
    for index in 0..<count { values[index] = 1 / (1 + expf(-values[index])) }
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
