// Flockwork · Apache-2.0 · see LICENSE

/// The simulator's dice: integers only, so that every machine throws the same.
package struct SimulatedRandom: Sendable {
    private var state: UInt64

    package init(seed: UInt64) { state = mixed(seed) }

    @inline(__always)
    package mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        return mixed(state)
    }

    /// 0 ..< bound.
    @inline(__always)
    package mutating func below(_ bound: UInt64) -> UInt64 {
        bound == 0 ? 0 : next().multipliedFullWidth(by: bound).high
    }

    /// 0 ..< bound.
    @inline(__always)
    package mutating func below(_ bound: Int) -> Int { Int(below(UInt64(bound))) }

    /// low ... high.
    @inline(__always)
    package mutating func between(_ low: UInt64, _ high: UInt64) -> UInt64 { low + below(high - low + 1) }

    /// True in `perMille` of 1,000 cases.
    @inline(__always)
    package mutating func chance(_ perMille: Int) -> Bool { perMille > 0 && below(1000) < perMille }

    /// A generator of its own, for a part whose draws shall not move with those of others.
    package mutating func split() -> SimulatedRandom { SimulatedRandom(seed: next()) }
}
