// Flockwork · Apache-2.0 · see LICENSE

import Flockwork

/// 16 features as a user would write them.
struct Features: SixteenFeatures, Codable, Sendable {
    var a: Float, b: Float, c: Float, d: Float, e: Float, f: Float, g: Float, h: Float
    var i: Float, j: Float, k: Float, l: Float, m: Float, n: Float, o: Float, p: Float

    init(_ row: some Collection<Float>) {
        let row = Array(row)
        (a, b, c, d, e, f, g, h) = (row[0], row[1], row[2], row[3], row[4], row[5], row[6], row[7])
        (i, j, k, l, m, n, o, p) = (row[8], row[9], row[10], row[11], row[12], row[13], row[14], row[15])
    }
}

/// The same as their own bytes.
struct PlainFeatures: SixteenFeatures, PlainRecord {
    var a: Float, b: Float, c: Float, d: Float, e: Float, f: Float, g: Float, h: Float
    var i: Float, j: Float, k: Float, l: Float, m: Float, n: Float, o: Float, p: Float

    init(_ row: some Collection<Float>) {
        let row = Array(row)
        (a, b, c, d, e, f, g, h) = (row[0], row[1], row[2], row[3], row[4], row[5], row[6], row[7])
        (i, j, k, l, m, n, o, p) = (row[8], row[9], row[10], row[11], row[12], row[13], row[14], row[15])
    }
}

protocol SixteenFeatures {
    var a: Float { get }
    var b: Float { get }
    var c: Float { get }
    var d: Float { get }
    var e: Float { get }
    var f: Float { get }
    var g: Float { get }
    var h: Float { get }
    var i: Float { get }
    var j: Float { get }
    var k: Float { get }
    var l: Float { get }
    var m: Float { get }
    var n: Float { get }
    var o: Float { get }
    var p: Float { get }
}

extension SixteenFeatures {
    /// The linear model, written out.
    @inline(__always)
    var score: Float {
        let w = Weights.all
        let left = (a * w.0 + b * w.1) + (c * w.2 + d * w.3) + ((e * w.4 + f * w.5) + (g * w.6 + h * w.7))
        let right = (i * w.8 + j * w.9) + (k * w.10 + l * w.11) + ((m * w.12 + n * w.13) + (o * w.14 + p * w.15))
        return left + right + Dataset.bias
    }
}

private enum Weights {
    typealias Sixteen = (
        Float, Float, Float, Float, Float, Float, Float, Float, Float, Float, Float, Float, Float, Float, Float,
        Float
    )
    static let all: Sixteen = {
        let w = Dataset.weights
        return (
            w[0], w[1], w[2], w[3], w[4], w[5], w[6], w[7], w[8], w[9], w[10], w[11], w[12], w[13], w[14], w[15]
        )
    }()
}
