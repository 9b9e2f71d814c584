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

    /// A look found nothing. If it was interrupted, there are more threads to run than cores.
    package mutating func ended(_ look: Look) {
        if look.wasDisturbed { restsUntil = look.last + Self.rest }
    }
}

/// A look for work, between the tries of which its thread yields its core to whoever else wants it.
package struct Look: Sendable {
    private let start: UInt64
    private let longest: UInt64
    /// When its thread ran last.
    fileprivate private(set) var last: UInt64
    /// Its thread lost its core for so long that it had better not have looked.
    fileprivate private(set) var wasDisturbed = false

    /// Begins.
    package init(from start: UInt64, longest: UInt64 = LoopPatience.longestLook) {
        self.start = start
        self.longest = longest
        last = start
    }

    /// Whether there is to be another try, after the thread has yielded.
    package mutating func goesOn(at now: UInt64) -> Bool {
        wasDisturbed = now - last > LoopPatience.disturbance
        last = now
        return !wasDisturbed && now - start < longest
    }
}
