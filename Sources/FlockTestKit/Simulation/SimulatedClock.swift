// Flockwork · Apache-2.0 · see LICENSE

internal import FlockWire

/// Nanoseconds in which the simulator counts.
package enum Virtual {
    package static let microsecond: UInt64 = 1000
    package static let millisecond: UInt64 = 1_000_000
    package static let second: UInt64 = 1_000_000_000
}

/// A process's monotonic clock: it began somewhere, and it runs a little faster or slower than true time.
package struct SimulatedClock: Sendable {
    private static let unit: UInt64 = 1 << 20

    /// What it showed at true time `start`.
    private let offset: UInt64
    private let start: UInt64
    /// Ticks of its own per `unit` of true time.
    private let speed: UInt64

    /// `driftPartsPerMillion` faster than true time (slower if negative).
    package init(start: UInt64, offset: UInt64, driftPartsPerMillion: Int) {
        self.start = start
        self.offset = offset
        speed = UInt64(Int(Self.unit) + Int(Self.unit) * driftPartsPerMillion / 1_000_000)
    }

    /// What it shows at true time `time`.
    package func local(_ time: UInt64) -> UInt64 { offset + Self.scale(time - start, speed, Self.unit) }

    /// The first true time at which it shows `local` or more.
    package func global(_ local: UInt64) -> UInt64 {
        guard local > offset else { return start }
        return start + Self.scale(local - offset, Self.unit, speed) + 1
    }

    private static func scale(_ value: UInt64, _ up: UInt64, _ down: UInt64) -> UInt64 {
        let product = value.multipliedFullWidth(by: up)
        return down.dividingFullWidth(product).quotient
    }
}
