// Flockwork · Apache-2.0 · see LICENSE

// What the process thread waits for: the end of each child, its two pipes, its control link.

internal import Glibc

/// The children that run, of the process thread.
struct ChildTable {
    private struct Entry {
        let child: ChildProcess
        var output = LineReader()
        var errors = LineReader()
        var control: [UInt8] = []
        var isControlClosed = false
    }

    private let wakeUp: Int32
    private var entries: [Entry] = []
    private var buffer = [UInt8](repeating: 0, count: 64 << 10)

    init(wakeUp: Int32) { self.wakeUp = wakeUp }

    mutating func add(_ child: ChildProcess) { entries.append(Entry(child: child)) }

    /// Blocks until something happens, and tells it.
    mutating func wait() {
        var polled = [pollfd(fd: wakeUp, events: Int16(POLLIN), revents: 0)]
        for entry in entries {
            let child = entry.child
            // A closed one would be ready for ever.
            for descriptor in [
                child.descriptor, entry.output.isAtEnd ? -1 : child.output, entry.errors.isAtEnd ? -1 : child.errors,
                entry.isControlClosed ? -1 : child.control,
            ] { polled.append(pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)) }
        }
        guard poll(&polled, nfds_t(polled.count), -1) > 0 else { return }
        var ended: [Int] = []
        for place in entries.indices {
            let first = 1 + 4 * place
            let isOver = polled[first].revents != 0
            // Its last words are in the pipes when it ends.
            if isOver || polled[first + 1].revents != 0 { readLines(place, isError: false) }
            if isOver || polled[first + 2].revents != 0 { readLines(place, isError: true) }
            if polled[first + 3].revents != 0 && !isOver { readControl(place) }
            if isOver { ended.append(place) }
        }
        for place in ended.reversed() {
            guard let exit = entries[place].child.reap() else { continue }
            let entry = entries.remove(at: place)
            entry.output.flush { entry.child.onEvent(.line($0, isError: false)) }
            entry.errors.flush { entry.child.onEvent(.line($0, isError: true)) }
            entry.child.onEvent(.exited(exit))
        }
    }

    private mutating func readLines(_ place: Int, isError: Bool) {
        let child = entries[place].child
        let descriptor = isError ? child.errors : child.output
        // Bounded, so that one child that prints without end does not keep the others waiting.
        for _ in 0..<16 {
            let count = read(descriptor, &buffer, buffer.count)
            if count < 0 { return }
            let tell: (ProcessEvent) -> Void = { child.onEvent($0) }
            if isError {
                entries[place].errors.take(buffer[..<count], isError: true, tell)
            } else {
                entries[place].output.take(buffer[..<count], isError: false, tell)
            }
            if count == 0 { return }
        }
    }

    private mutating func readControl(_ place: Int) {
        var bytes = [UInt8](repeating: 0, count: 24 * 16)
        let count = recv(entries[place].child.control, &bytes, bytes.count, Int32(MSG_DONTWAIT))
        // The child closed it, or it is broken: pings go unanswered from here on, and the pool knows what that means.
        if count == 0 || (count < 0 && errno != EAGAIN) { entries[place].isControlClosed = true }
        guard count > 0 else { return }
        entries[place].control += bytes[..<count]
        while entries[place].control.count >= 24 {
            let words = entries[place].control.withUnsafeBytes { raw in
                (0..<3).map { UInt64(littleEndian: raw.loadUnaligned(fromByteOffset: 8 * $0, as: UInt64.self)) }
            }
            entries[place].control.removeFirst(24)
            let busyWith = words[1] == 0 ? nil : words[1] - 1
            entries[place].child.onEvent(.pong(Pong(number: words[0], busyWith: busyWith, busyNanoseconds: words[2])))
        }
    }
}

/// Cuts what a child prints into lines, and does not let it flood the log.
struct LineReader {
    private static let longest = 8 << 10
    /// Lines told in a second; what is more is counted.
    private static let linesPerSecond = 1000

    private var line: [UInt8] = []
    private var second = 0
    private var told = 0
    private var dropped = 0
    private(set) var isAtEnd = false

    /// Bytes that were read; none for the end of the pipe.
    mutating func take(_ bytes: ArraySlice<UInt8>, isError: Bool, _ tell: (ProcessEvent) -> Void) {
        isAtEnd = bytes.isEmpty
        var now = timespec()
        clock_gettime(CLOCK_MONOTONIC, &now)
        if now.tv_sec != second {
            if dropped > 0 { tell(.dropped(lines: dropped)) }
            (second, told, dropped) = (now.tv_sec, 0, 0)
        }
        for byte in bytes {
            if byte != 0x0A && line.count < Self.longest {
                line.append(byte)
                continue
            }
            if told < Self.linesPerSecond {
                told += 1
                tell(.line(String(decoding: line, as: UTF8.self), isError: isError))
            } else {
                dropped += 1
            }
            line.removeAll(keepingCapacity: true)
            if byte != 0x0A { line.append(byte) }
        }
    }

    /// The rest, which has no end of line.
    func flush(_ tell: (String) -> Void) {
        if !line.isEmpty { tell(String(decoding: line, as: UTF8.self)) }
    }
}
