// Flockwork · Apache-2.0 · see LICENSE

internal import DequeModule
internal import FlockCluster
internal import FlockWire

// What waits in a mailbox: runs in order of arrival, cut into batches. Work per run, never per item.

struct WorkQueue: Sendable {
    private var runs = Deque<WorkRun>()
    private(set) var items = 0
    private(set) var bytes = 0

    var oldest: WorkRun? { runs.first }
    var isEmpty: Bool { runs.isEmpty }

    mutating func append(_ run: WorkRun) {
        items += run.run.count
        bytes += run.items.byteCount
        runs.append(run)
    }

    /// The first `items` items, or those that have `bytes` together; at least one.
    mutating func cut(items: Int, bytes: Int) -> [WorkRun] {
        var batch: [WorkRun] = []
        var itemsLeft = items
        var bytesLeft = bytes
        while let next = runs.first, itemsLeft > 0 {
            let size = next.items.byteCount
            // A batch has at least one item, even one that alone is over the limit of bytes.
            let fitting = size <= bytesLeft ? next.run.count : bytesLeft / max(size / next.run.count, 1)
            let count = min(next.run.count, itemsLeft, max(fitting, batch.isEmpty ? 1 : 0))
            guard count > 0 else { break }
            var taken = next
            if count == next.run.count {
                runs.removeFirst()
            } else {
                (taken, runs[0]) = next.split(at: count)
            }
            batch.append(taken)
            itemsLeft -= count
            bytesLeft -= taken.items.byteCount
            self.items -= count
            self.bytes -= taken.items.byteCount
        }
        return batch
    }

    /// Takes out the first runs whose deadline lies before `end`, the time at which the next batch will have ended.
    ///
    /// If that is all there is, the first that is not over at `now` stays: an estimate that nobody tests stays wrong.
    mutating func shed(endingAt end: Tick, now: Tick) -> [WorkRun] {
        guard let first = runs.first, let deadline = first.deadline, deadline < end else { return [] }
        var shed: [WorkRun] = []
        while let next = runs.first, let deadline = next.deadline, deadline < end {
            runs.removeFirst()
            shed.append(next)
        }
        if runs.isEmpty, let index = shed.firstIndex(where: { $0.deadline.map { $0 > now } ?? true }) {
            runs.append(shed.remove(at: index))
        }
        for work in shed { remove(work) }
        return shed
    }

    /// Takes out what waits of a run.
    mutating func revoke(_ run: RequestRun) -> [WorkRun] {
        var revoked: [WorkRun] = []
        var kept = Deque<WorkRun>()
        for work in runs {
            guard work.run.partition == run.partition, work.run.session == run.session else {
                kept.append(work)
                continue
            }
            for (part, isInside) in work.parts(by: run.sequences) {
                if isInside { revoked.append(part) } else { kept.append(part) }
            }
        }
        for work in revoked { remove(work) }
        runs = kept
        return revoked
    }

    mutating func removeAll() -> [WorkRun] {
        defer { self = WorkQueue() }
        return Array(runs)
    }

    private mutating func remove(_ work: WorkRun) {
        items -= work.run.count
        bytes -= work.items.byteCount
    }
}
