// Flockwork · Apache-2.0 · see LICENSE

internal import DequeModule
internal import FlockCluster
internal import FlockWire

// What waits of one pipeline: runs in order of arrival within their priority, cut into batches. Work per run, never per
// item.

struct WorkQueue: Sendable {
    private var levels: [Deque<WorkRun>] = Array(repeating: [], count: RequestPriority.allCases.count)
    // Who comes into a batch that has no room for all.
    private var turns = DeficitRoundRobin(weights: RequestPriority.weights)
    private(set) var items = 0
    private(set) var bytes = 0

    var isEmpty: Bool { items == 0 }

    /// When the run arrived that waits longest; nil if none waits.
    var oldest: Tick? { levels.reduce(nil) { earlier($0, $1.first?.arrived) } }

    /// When the longest waiting run of each priority arrived.
    var heads: [Tick] { levels.compactMap { $0.first?.arrived } }

    private func earlier(_ left: Tick?, _ right: Tick?) -> Tick? {
        guard let left, let right else { return left ?? right }
        return min(left, right)
    }

    mutating func append(_ run: WorkRun) {
        items += run.run.count
        bytes += run.items.byteCount
        levels[Int(run.priority.rawValue)].append(run)
    }

    /// The next `items` items, or those that have `bytes` together; at least one. The first of them waited longest.
    mutating func cut(items: Int, bytes: Int) -> [WorkRun] {
        var batch: [WorkRun] = []
        var itemsLeft = items
        var bytesLeft = bytes
        var firstOfLevel: [Int] = []
        // In a round every priority that waits gets its share of the batch.
        let quantum = max(1, items / RequestPriority.weights.reduce(0, +))
        while itemsLeft > 0, let (level, credit) = turns.next(quantum: quantum, isWaiting: { !levels[$0].isEmpty }) {
            let isAlone = levels.indices.allSatisfy { $0 == level || levels[$0].isEmpty }
            let start = batch.count
            let most = isAlone ? itemsLeft : min(credit, itemsLeft)
            let taken = cut(level, items: most, bytes: &bytesLeft, into: &batch)
            guard taken > 0 else { break }
            itemsLeft -= taken
            // What nobody else wanted is not held against it.
            turns.take(isAlone ? min(credit, taken) : taken, from: level)
            firstOfLevel.append(start)
            // The limit of bytes.
            if taken < most, !levels[level].isEmpty { break }
        }
        if let first = firstOfLevel.min(by: { batch[$0].arrived < batch[$1].arrived }) { batch.swapAt(0, first) }
        return batch
    }

    private mutating func cut(
        _ level: Int, items: Int, bytes bytesLeft: inout Int, into batch: inout [WorkRun]
    ) -> Int {
        var itemsLeft = items
        while let next = levels[level].first, itemsLeft > 0 {
            let size = next.items.byteCount
            // A batch has at least one item, even one that alone is over the limit of bytes.
            let fitting = size <= bytesLeft ? next.run.count : bytesLeft / max(size / next.run.count, 1)
            let count = min(next.run.count, itemsLeft, max(fitting, batch.isEmpty ? 1 : 0))
            guard count > 0 else { break }
            var taken = next
            if count == next.run.count {
                levels[level].removeFirst()
            } else {
                (taken, levels[level][0]) = next.split(at: count)
            }
            batch.append(taken)
            itemsLeft -= count
            bytesLeft -= taken.items.byteCount
            self.items -= count
            self.bytes -= taken.items.byteCount
        }
        return items - itemsLeft
    }

    /// Takes out the first runs of each priority whose deadline lies before `end`, when the next batch will have ended.
    ///
    /// If that is all there is, the first that is not over at `now` stays: an estimate that nobody tests stays wrong.
    mutating func shed(endingAt end: Tick, now: Tick) -> [WorkRun] {
        var shed: [WorkRun] = []
        for level in levels.indices {
            while let next = levels[level].first, let deadline = next.deadline, deadline < end {
                levels[level].removeFirst()
                shed.append(next)
            }
        }
        for work in shed { remove(work) }
        if isEmpty, let index = shed.firstIndex(where: { $0.deadline.map { $0 > now } ?? true }) {
            append(shed.remove(at: index))
        }
        return shed
    }

    /// Takes out what waits of a run.
    mutating func revoke(_ run: RequestRun) -> [WorkRun] {
        var revoked: [WorkRun] = []
        for level in levels.indices where !levels[level].isEmpty {
            var kept = Deque<WorkRun>()
            for work in levels[level] {
                guard work.run.partition == run.partition, work.run.session == run.session else {
                    kept.append(work)
                    continue
                }
                for (part, isInside) in work.parts(by: run.sequences) {
                    if isInside { revoked.append(part) } else { kept.append(part) }
                }
            }
            levels[level] = kept
        }
        for work in revoked { remove(work) }
        return revoked
    }

    mutating func removeAll() -> [WorkRun] {
        defer { self = WorkQueue() }
        return levels.flatMap { Array($0) }
    }

    private mutating func remove(_ work: WorkRun) {
        items -= work.run.count
        bytes -= work.items.byteCount
    }
}
