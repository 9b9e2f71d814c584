// Flockwork · Apache-2.0 · see LICENSE

// Timers of a loop: a binary heap by deadline over one timerfd, so that they are exact to microseconds and setting one
// costs a system call only when it is the earliest. A cancelled timer leaves the heap at once.

internal import CLibuv
internal import FlockWire
internal import Glibc
internal import Synchronization

/// A timer set by `EventLoop.schedule`. Forgetting it does not cancel it.
public final class LoopTimer: Sendable {
    let deadline: Tick
    private let loop: EventLoop
    private let work: Mutex<(@Sendable () -> Void)?>
    /// The place in the heap; of the loop's thread.
    nonisolated(unsafe) var index = -1

    init(loop: EventLoop, deadline: Tick, work: @escaping @Sendable () -> Void) {
        self.loop = loop
        self.deadline = deadline
        self.work = Mutex(work)
    }

    /// The work does not run after this returned, unless it has begun. From any thread, any number of times.
    public func cancel() {
        guard drop() else { return }
        if loop.isCurrent {
            loop.timers.remove(self)
        } else {
            loop.execute { [self] in loop.timers.remove(self) }
        }
    }

    /// Forgets the work; false if it was run or dropped before.
    @discardableResult
    func drop() -> Bool { take() != nil }

    func take() -> (@Sendable () -> Void)? {
        work.withLock { work in
            defer { work = nil }
            return work
        }
    }
}

/// Timers by deadline, the earliest first.
struct TimerHeap {
    private var items: [LoopTimer] = []

    var earliest: Tick? { items.first?.deadline }

    mutating func insert(_ timer: LoopTimer) {
        items.append(timer)
        timer.index = items.count - 1
        rise(items.count - 1)
    }

    mutating func remove(_ timer: LoopTimer) {
        let index = timer.index
        guard index >= 0 else { return }
        timer.index = -1
        let last = items.removeLast()
        guard index < items.count else { return }
        items[index] = last
        last.index = index
        rise(index)
        sink(last.index)
    }

    mutating func removeAll() -> [LoopTimer] {
        for item in items { item.index = -1 }
        defer { items = [] }
        return items
    }

    /// The earliest timer if it is due.
    mutating func popDue(at now: Tick) -> LoopTimer? {
        guard let first = items.first, first.deadline <= now else { return nil }
        remove(first)
        return first
    }

    private mutating func rise(_ start: Int) {
        var index = start
        while index > 0 {
            let parent = (index - 1) / 2
            guard items[index].deadline < items[parent].deadline else { return }
            exchange(index, parent)
            index = parent
        }
    }

    private mutating func sink(_ start: Int) {
        var index = start
        while true {
            var child = 2 * index + 1
            guard child < items.count else { return }
            if child + 1 < items.count && items[child + 1].deadline < items[child].deadline { child += 1 }
            guard items[child].deadline < items[index].deadline else { return }
            exchange(index, child)
            index = child
        }
    }

    private mutating func exchange(_ first: Int, _ second: Int) {
        items.swapAt(first, second)
        items[first].index = first
        items[second].index = second
    }
}

extension EventLoop {
    /// Runs `work` on the loop after `delay`; from any thread. A stopping loop drops its timers.
    @discardableResult
    public func schedule(after delay: Duration, _ work: @escaping @Sendable () -> Void) -> LoopTimer {
        let timer = LoopTimer(loop: self, deadline: Self.now + delay, work: work)
        if isCurrent { add(timer) } else { execute { [self] in add(timer) } }
        return timer
    }

    private func add(_ timer: LoopTimer) {
        guard !isStopping else {
            timer.drop()
            return
        }
        timers.insert(timer)
        if timer.index == 0 { setTimer() }
    }

    /// Sets the descriptor to the earliest deadline. A later one that is set already only wakes the loop for nothing.
    private func setTimer() {
        guard let earliest = timers.earliest, earliest != .never else { return }
        // Zero would switch the timer off; one nanosecond after boot is always due.
        let nanoseconds = max(earliest.nanoseconds, 1)
        var specification = itimerspec()
        specification.it_value.tv_sec = Int(clamping: nanoseconds / 1_000_000_000)
        specification.it_value.tv_nsec = Int(nanoseconds % 1_000_000_000)
        let code = timerfd_settime(handles.timerDescriptor, Int32(TFD_TIMER_ABSTIME), &specification, nil)
        precondition(code == 0, "timerfd_settime: \(String(cString: strerror(errno)))")
    }

    func timerFired() {
        var expirations: UInt64 = 0
        _ = read(handles.timerDescriptor, &expirations, MemoryLayout<UInt64>.size)
        let now = Self.now
        while let due = timers.popDue(at: now) { due.take()?() }
        setTimer()
    }
}
