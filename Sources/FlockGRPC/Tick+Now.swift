// Flockwork · Apache-2.0 · see LICENSE

package import FlockWire
internal import Glibc

extension Tick {
    /// The time of the monotonic clock.
    package static var now: Tick {
        var time = timespec()
        clock_gettime(CLOCK_MONOTONIC, &time)
        return Tick(nanoseconds: UInt64(time.tv_sec) * 1_000_000_000 + UInt64(time.tv_nsec))
    }
}
