// Flockwork · Apache-2.0 · see LICENSE

// A child with its descriptors. All of it is touched by the process thread; signals may come from anywhere, and never
// hit another process that got the same number, since they stop when the child is reaped.

internal import CFlockProcess
internal import FlockWire
internal import Glibc
internal import Synchronization

/// A process that this one started.
final class ChildProcess: Sendable {
    /// For logs and people.
    let id: Int32
    /// This side's end of the socket that is the child's descriptor 3; non-blocking. Whoever takes it closes it.
    let link: Int32
    let descriptor: Int32
    let output: Int32
    let errors: Int32
    let control: Int32
    let onEvent: @Sendable (ProcessEvent) -> Void
    private let isReaped = Mutex(false)

    init(
        id: Int32, descriptor: Int32, output: Int32, errors: Int32, link: Int32, control: Int32,
        onEvent: @escaping @Sendable (ProcessEvent) -> Void
    ) {
        self.id = id
        self.descriptor = descriptor
        self.output = output
        self.errors = errors
        self.link = link
        self.control = control
        self.onEvent = onEvent
    }

    /// Sends a signal to it, or with `group` to everything that it started, too. Nothing once it has ended.
    func signal(_ number: Int32, group: Bool = false) {
        isReaped.withLock { isReaped in
            guard !isReaped else { return }
            if group { kill(-id, number) } else { _ = flock_process_signal(descriptor, number) }
        }
    }

    /// Asks for a `pong`. A child that does not read for long misses pings; the answer to a later one says as much.
    func ping(_ number: UInt64) {
        isReaped.withLock { isReaped in
            guard !isReaped else { return }
            var number = number.littleEndian
            _ = send(control, &number, 8, Int32(MSG_DONTWAIT) | Int32(MSG_NOSIGNAL))
        }
    }

    /// Its end if it has ended. Kills what is left of its group and closes the descriptors, but for `link`.
    func reap() -> ProcessExit? {
        isReaped.withLock { isReaped in
            guard !isReaped else { return nil }
            // While it is a zombie its number, and so that of its group, is nobody else's.
            var status: Int32 = 0
            var isOver = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
            guard poll(&isOver, 1, 0) == 1 else { return nil }
            kill(-id, SIGKILL)
            let code = flock_process_reap(descriptor, &status)
            precondition(code == 1, "child \(id) has ended and cannot be reaped: \(code)")
            isReaped = true
            for open in [descriptor, output, errors, control] { Glibc.close(open) }
            return status >= 0 ? .exited(status) : .killed(signal: -status)
        }
    }
}
