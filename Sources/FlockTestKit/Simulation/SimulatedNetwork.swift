// Flockwork · Apache-2.0 · see LICENSE

// What becomes of a message between two ends: nodes 0 ..< n, then clients. Each message has its own delay, so that
// messages overtake each other; windows of faults make it worse.

/// Delays, losses, doubles and cuts between ends.
package struct SimulatedNetwork {
    /// What may happen to messages at a time.
    package struct Weather: Sendable, Equatable {
        /// Of 1,000 messages so many are lost.
        package var lossPerMille = 0
        /// So many arrive twice.
        package var doublePerMille = 0
        /// So many take `longDelay` at most.
        package var latePerMille = 0
        package var longDelay: UInt64 = 0

        package static let fair = Weather()
    }

    package let ends: Int
    package var weather = Weather.fair
    /// How many cuts lie on the way from one end to another; row is the sender.
    private var cuts: [Int16]
    /// What an end adds to the way of each of its messages.
    package var slowness: [UInt64]
    /// When the last message that keeps its order arrives.
    private var lastArrival: [UInt64]
    private let shortest: UInt64
    private let spread: UInt64

    package init(ends: Int, shortest: UInt64, longest: UInt64) {
        self.ends = ends
        cuts = Array(repeating: 0, count: ends * ends)
        slowness = Array(repeating: 0, count: ends)
        lastArrival = Array(repeating: 0, count: ends * ends)
        self.shortest = shortest
        spread = longest - shortest
    }

    /// Cuts one direction; cuts add up.
    package mutating func cut(from sender: Int, to receiver: Int) { cuts[sender * ends + receiver] += 1 }
    /// Takes one cut away.
    package mutating func mend(from sender: Int, to receiver: Int) {
        let place = sender * ends + receiver
        cuts[place] = max(cuts[place] - 1, 0)
    }
    /// Takes all cuts, bad weather and slowness away.
    package mutating func heal() {
        for place in cuts.indices { cuts[place] = 0 }
        for end in slowness.indices { slowness[end] = 0 }
        weather = .fair
    }

    /// The time at which a message arrives that may not overtake those before it.
    package mutating func inOrder(_ time: UInt64, from sender: Int, to receiver: Int) -> UInt64 {
        let place = sender * ends + receiver
        lastArrival[place] = max(time, lastArrival[place] + 1)
        return lastArrival[place]
    }

    package func isCut(from sender: Int, to receiver: Int) -> Bool { cuts[sender * ends + receiver] > 0 }

    /// The delays of a message: none if it is lost, two if it is doubled.
    @inline(__always)
    package mutating func send(
        from sender: Int, to receiver: Int, random: inout SimulatedRandom
    ) -> (first: UInt64?, second: UInt64?) {
        // One draw decides delay and fate in fair weather; bits that are used twice are far apart.
        let draw = random.next()
        if isCut(from: sender, to: receiver) { return (nil, nil) }
        var delay = shortest + (draw >> 32).multipliedReportingOverflow(by: spread).partialValue >> 32
        delay += slowness[sender] + slowness[receiver]
        guard weather != .fair else { return (delay, nil) }
        if random.chance(weather.lossPerMille) { return (nil, nil) }
        if random.chance(weather.latePerMille) { delay += random.below(weather.longDelay) }
        guard random.chance(weather.doublePerMille) else { return (delay, nil) }
        return (delay, delay + random.below(50 * Virtual.millisecond))
    }
}
