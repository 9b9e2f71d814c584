// Flockwork · Apache-2.0 · see LICENSE

public import FlockWire

// A network of two ends as a value: messages that were sent wait in it until virtual time reaches their arrival. What
// happens to each is drawn from a seed, so a run that failed can be run again.

/// A link between two pure ends, which loses, delays, doubles and reorders messages as its faults say.
///
/// It knows no clock: whoever drives it says what time it is.
public struct SimulatedLink<Message> {
    /// One of the two ends.
    public enum End: Int, Sendable, CaseIterable {
        case left, right
        /// The other one.
        public var other: End { self == .left ? .right : .left }
    }

    /// What may happen to a message. Without any it arrives once, in order, after the least delay.
    public struct Faults: Sendable, Equatable {
        /// The time under way, drawn evenly.
        public var delay: ClosedRange<Duration>
        /// Of a message, that it never arrives. 0 to 1, as the others.
        public var loss: Double
        /// Of a message, that it arrives twice; the second time after a delay of its own.
        public var duplication: Double
        /// Of a message, that it may overtake those sent before it.
        public var reordering: Double

        /// No faults, unless given.
        public init(
            delay: ClosedRange<Duration> = .milliseconds(1) ... .milliseconds(1), loss: Double = 0,
            duplication: Double = 0, reordering: Double = 0
        ) {
            precondition(delay.lowerBound >= .zero, "a negative delay: \(delay)")
            self.delay = delay
            self.loss = loss
            self.duplication = duplication
            self.reordering = reordering
        }
    }

    /// What became of messages so far.
    public struct Counters: Sendable, Equatable {
        public var sent = 0
        public var arrived = 0
        public var lost = 0
        public var doubled = 0
        /// Messages that may have overtaken others.
        public var reordered = 0
    }

    fileprivate struct Flying {
        let arrival: Tick
        /// Order of sending, so that equal arrivals have an order.
        let number: UInt64
        let to: End
        let message: Message
    }

    /// May be changed during a run.
    public var faults: Faults
    /// What happened so far.
    public private(set) var counters = Counters()
    /// Nothing that is sent while it is cut arrives.
    public private(set) var isCut = false
    private var random: SeededRandom
    private var nextNumber: UInt64 = 0
    /// A heap would be faster; simulations have few messages under way. Sorted, the next one last.
    private var flying: [Flying] = []
    private var lastArrival: [Tick] = [.zero, .zero]

    /// A link whose faults `seed` decides.
    public init(seed: UInt64, faults: Faults = Faults()) {
        random = SeededRandom(seed: seed)
        self.faults = faults
    }

    /// Messages under way.
    public var underWay: Int { flying.count }

    /// When the next message arrives; `never` if none is under way.
    public var nextArrival: Tick { flying.last?.arrival ?? .never }

    /// Hands a message to the link.
    public mutating func send(_ message: Message, from end: End, now: Tick) {
        counters.sent += 1
        // Drawn in any case, so that one message's fate does not depend on another's.
        let isLost = random.chance(faults.loss)
        let isDoubled = random.chance(faults.duplication)
        let isFree = random.chance(faults.reordering)
        let delays = (0..<2).map { _ in drawDelay() }
        if isLost || isCut {
            counters.lost += 1
            return
        }
        if isFree { counters.reordered += 1 }
        fly(message, to: end.other, at: now + delays[0], inOrder: !isFree)
        if isDoubled {
            counters.doubled += 1
            fly(message, to: end.other, at: now + delays[0] + delays[1], inOrder: false)
        }
    }

    private mutating func drawDelay() -> Duration {
        let low = faults.delay.lowerBound.clampedNanoseconds
        let high = faults.delay.upperBound.clampedNanoseconds
        return .nanoseconds(Int64(clamping: UInt64.random(in: low...high, using: &random)))
    }

    private mutating func fly(_ message: Message, to end: End, at arrival: Tick, inOrder: Bool) {
        var arrival = arrival
        if inOrder {
            arrival = max(arrival, lastArrival[end.rawValue])
            lastArrival[end.rawValue] = arrival
        }
        let flying = Flying(arrival: arrival, number: nextNumber, to: end, message: message)
        nextNumber += 1
        let place = self.flying.firstIndex { ($0.arrival, $0.number) < (arrival, flying.number) }
        self.flying.insert(flying, at: place ?? self.flying.count)
    }

    /// The next message that has arrived by `now`; nil if none has.
    public mutating func receive(now: Tick) -> (to: End, message: Message)? {
        guard let next = flying.last, next.arrival <= now else { return nil }
        flying.removeLast()
        counters.arrived += 1
        return (next.to, next.message)
    }

    /// Loses what is under way, and all that is sent until `heal`.
    public mutating func cut() {
        isCut = true
        counters.lost += flying.count
        flying = []
    }

    /// Messages pass again.
    public mutating func heal() {
        isCut = false
    }

    /// Delivers messages until none is under way or virtual time reaches `end`; answers go back over the link.
    ///
    /// - Returns: the time of the last arrival, or `start`.
    @discardableResult
    public mutating func run(
        from start: Tick, until end: Tick = .never, _ handle: (_ to: End, _ message: Message, _ now: Tick) -> [Message]
    ) -> Tick {
        var now = start
        while nextArrival <= end, nextArrival != .never {
            now = max(now, nextArrival)
            while let (to, message) = receive(now: now) {
                for answer in handle(to, message, now) { send(answer, from: to, now: now) }
            }
        }
        return now
    }
}

extension SimulatedLink: Sendable where Message: Sendable {}
extension SimulatedLink.Flying: Sendable where Message: Sendable {}
