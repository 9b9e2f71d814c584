// Flockwork · Apache-2.0 · see LICENSE

// The disk under `WriteAheadLog`: one file a segment, writes and syncs off the loop, everything else on it.

internal import FlockCluster
internal import FlockTransport
internal import FlockWire

/// The write-ahead log of a node, in its data folder. Of one loop: nothing but `recover` is called elsewhere.
final class DurableLog: Sendable {
    /// What the log tells, on its loop.
    struct Listener: Sendable {
        /// These entries are on the disk.
        var kept: @Sendable ([KeptEntries]) -> Void
        /// The log wants a snapshot of the partition.
        var wantSnapshot: @Sendable (PartitionID) -> Void
        /// The disk failed; nothing was or will be acknowledged after it. Told once.
        var failed: @Sendable (FlockError) -> Void
    }

    private struct State {
        var log: NodeLog
        var directives: [NodeLogDirective] = []
        var idleTimer: LoopTimer?
        var hook: TurnHook?
    }

    /// Time without a write after which the last flush is vouched for.
    private static let idleTime = Duration.milliseconds(200)

    private let folder: DataFolder
    private let loop: EventLoop
    private let listener: Listener
    private let limits: Limits
    private let state: LoopConfined<State>

    /// What the disk had when the node started.
    struct Found: Sendable {
        /// How the log that was there ended. Damaged: no copy on it may be trusted, and it is deleted.
        let verdict: WALRecovery.Verdict
        /// What to go on from: what was there, or a new log.
        let recovery: WALRecovery
        /// What it has of partitions.
        let copies: [RecoveredCopy]
    }

    /// Goes on after what `recover` found in the same folder.
    init(
        in folder: DataFolder, after recovery: WALRecovery, on loop: EventLoop, limits: Limits,
        configuration: WriteAheadLog.Configuration = .init(), listener: Listener
    ) {
        self.folder = folder
        self.loop = loop
        self.limits = limits
        self.listener = listener
        state = LoopConfined(
            State(log: NodeLog(after: recovery, configuration: configuration, limits: limits)), on: loop)
    }

    /// Reads what the folder has, and deletes the segments that are not to be kept: one of their names may be the next
    /// segment's. Blocks: for the start of a node. `fresh` is a random number, that of a new log.
    static func recover(from folder: DataFolder, fresh: UInt64, limits: Limits) throws(FlockError) -> Found {
        let found = try read(folder, fresh: fresh, limits: limits)
        var verdict = found.verdict
        var copies: [RecoveredCopy] = []
        do throws(WireError) {
            for partition in found.partitions { copies.append(try RecoveredCopy(partition, limits: limits)) }
        } catch {
            // Its checksum is right, so that it was written by something else, or for smaller limits.
            (verdict, copies) = (.damaged(at: found.end), [])
        }
        let recovery = verdict.isDamaged ? WALRecovery(segments: [], fresh: fresh, limits: limits) : found
        let kept = Set(recovery.segments.map(Self.name))
        try folder.delete(try folder.names().filter { first(of: $0) != nil && !kept.contains($0) })
        return Found(verdict: verdict, recovery: recovery, copies: copies)
    }

    /// The same, and changes nothing.
    static func read(_ folder: DataFolder, fresh: UInt64, limits: Limits) throws(FlockError) -> WALRecovery {
        var segments: [(first: UInt64, bytes: Bytes)] = []
        for name in try folder.names() {
            guard let first = first(of: name), let bytes = try folder.read(name) else { continue }
            segments.append((first, bytes))
        }
        return WALRecovery(segments: segments, fresh: fresh, limits: limits)
    }

    // MARK: What partitions say

    // Each is written at the end of the turn, or with the flush after the one under way.

    /// Entries of a partition, over what was written from `first` on.
    func persist(_ partition: PartitionID, first: UInt64, _ entries: [LogEntry]) {
        arm()
        run { $0.append(partition, first: first, entries, out: &$1) }
    }

    /// Adds to the log.
    func add(_ event: WALEvent) {
        arm()
        step(event)
    }

    /// All copies are given up, since the process begins again as another one.
    func dropAll() {
        for partition in state.with({ $0.log.partitions }) { add(.drop(partition, generation: 0)) }
    }

    private func arm() {
        state.with { state in
            if state.hook == nil { state.hook = TurnHook(on: loop) { [weak self] in self?.step(.turn) } }
            state.hook?.arm()
        }
    }

    private func step(_ event: WALEvent) { run { $0.step(event, out: &$1) } }

    private func run(_ body: (inout NodeLog, inout [NodeLogDirective]) -> Void) {
        // What is told may lead to the next event, which then has a list of its own.
        var out = state.with { state in
            var out: [NodeLogDirective] = []
            swap(&out, &state.directives)
            body(&state.log, &out)
            return out
        }
        for directive in out { perform(directive) }
        out.removeAll(keepingCapacity: true)
        state.with { $0.directives = out }
    }

    private func perform(_ directive: NodeLogDirective) {
        switch directive {
        case .flush(let segment, let offset, let bytes):
            state.with { $0.idleTimer.take() }?.cancel()
            folder.write(Self.name(of: segment), at: offset, bytes) { [self] in flushed($0) }
        case .kept(let entries): listener.kept(entries)
        case .wantSnapshot(let partition): listener.wantSnapshot(partition)
        case .remove(let segment): folder.remove(Self.name(of: segment))
        case .failed: break  // `flushed` says why
        }
    }

    private func flushed(_ result: Result<Void, FlockError>) {
        switch result {
        case .success:
            arm()
            step(.flushed)
            guard state.with({ !$0.log.isWaiting && $0.idleTimer == nil }) else { return }
            let timer = loop.schedule(after: Self.idleTime) { [weak self] in
                self?.state.with { $0.idleTimer = nil }
                self?.step(.idle)
            }
            state.with { $0.idleTimer = timer }
        case .failure(let error):
            step(.failed)
            listener.failed(error)
        }
    }

    // MARK: Names of segments

    private static let prefix = "wal-"

    static func name(of first: UInt64) -> String {
        let digits = String(first, radix: 16)
        return prefix + String(repeating: "0", count: 16 - digits.count) + digits
    }

    static func first(of name: String) -> UInt64? {
        guard name.hasPrefix(prefix), name.utf8.count == prefix.utf8.count + 16 else { return nil }
        return UInt64(name.dropFirst(prefix.count), radix: 16)
    }
}
