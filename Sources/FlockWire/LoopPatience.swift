// Flockwork · Apache-2.0 · see LICENSE

// Whether a loop of events that has nothing to do looks for work for a moment before it blocks. To wake a thread costs
// 20 to 35 us where cores sleep, and most of the time of a single request is such wake-ups; to look costs a core for as
// long as it is done. So a loop looks only while that has been worth it: the rule of the Linux kernel's `halt_poll_ns`
// (virt/kvm), with one bound instead of a growing one.

/// The decision of one loop, from how long it waited before. Times in nanoseconds of one clock.
package struct LoopPatience: Sendable {
    /// The longest look of a loop. A caller that asks again once it is answered is back within it, with two wake-ups.
    package static let longestLook: UInt64 = 200_000
    /// That of a caller who looks for a worker's answer: a small batch there and back, where cores sleep.
    package static let longestBatch: UInt64 = 500_000
    /// So many waits in a row that were shorter before a loop begins to look: one alone says little.
    package static let shortWaits = 4
    /// A look that did not run for so long lost its core to threads that have more to do than there are cores …
    package static let disturbance: UInt64 = 1_000_000
    /// … and for so long no look takes a core from others.
    package static let rest: UInt64 = 20_000_000

    /// It always looks: the application has a core for it.
    private let isBusy: Bool
    /// The longest wait that counts as short.
    private let longest: UInt64
    private var shortInARow = 0
    private var restsUntil: UInt64 = 0

    package init(isBusy: Bool = false, longest: UInt64 = longestLook) {
        self.isBusy = isBusy
        self.longest = longest
    }

    /// Whether to look before blocking.
    package func looks(at now: UInt64) -> Bool { isBusy || (shortInARow >= Self.shortWaits && now >= restsUntil) }

    /// There was something to do after so long, whether it was looked for or the loop had blocked.
    package mutating func waited(_ time: UInt64) {
        shortInARow = time <= longest ? min(shortInARow + 1, Self.shortWaits) : 0
    }

    /// A look was interrupted: there are more threads to run than cores.
    package mutating func disturbed(at now: UInt64) {
        restsUntil = now + Self.rest
    }
}
