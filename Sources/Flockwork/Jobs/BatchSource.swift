// Flockwork · Apache-2.0 · see LICENSE

public import FlockWire
internal import Synchronization

// Where a bounded job's batches come from, and where its results go. Several lanes ask and deliver at the same time, so
// both are `Sendable`; a source hands each batch out once, to whichever lane asks.

/// A bounded source of batches.
public protocol BatchSource<Item>: Sendable {
    associatedtype Item: Sendable
    /// The next batch; nil when there are no more. Called by several lanes at the same time.
    func next() async throws -> Batch<Item>?
}

/// Where a job's results go.
public protocol BatchSink<Item>: Sendable {
    associatedtype Item: Sendable
    /// Takes a batch. `batch.position + batch.origin(of: i)` is item i's place in the source. Called by several lanes
    /// at the same time, in no particular order.
    func receive(_ batch: Batch<Item>) async throws
}

/// Rows that are in memory, handed out in place.
public final class RowsSource: BatchSource {
    private let rows: Rows<Float>
    private let batchSize: Int
    private let next = Atomic(0)

    /// Batches of at most `batchSize` rows.
    public init(_ rows: Rows<Float>, batchSize: Int = 1024) {
        precondition(batchSize > 0, "batches of \(batchSize) rows")
        self.rows = rows
        self.batchSize = batchSize
    }

    public func next() async -> Batch<Row>? {
        let first = next.add(batchSize, ordering: .relaxed).oldValue
        guard first < rows.count else { return nil }
        var batch = Batch(rows.slice(from: first, count: min(batchSize, rows.count - first)))
        batch.position = first
        return batch
    }
}

/// Items that are in memory.
public final class ArraySource<Item: Sendable>: BatchSource {
    private let items: [Item]
    private let batchSize: Int
    private let next = Atomic(0)

    /// Batches of at most `batchSize` items.
    public init(_ items: [Item], batchSize: Int = 1024) {
        precondition(batchSize > 0, "batches of \(batchSize) items")
        self.items = items
        self.batchSize = batchSize
    }

    public func next() async -> Batch<Item>? {
        let first = next.add(batchSize, ordering: .relaxed).oldValue
        guard first < items.count else { return nil }
        var batch = Batch(Array(items[first..<min(first + batchSize, items.count)]))
        batch.position = first
        return batch
    }
}

/// Batches that a closure makes: a generator, or a reader of a file.
public struct GeneratedSource<Item: Sendable>: BatchSource {
    private let generate: @Sendable () async throws -> Batch<Item>?

    /// `generate` is called by several lanes at the same time, and returns nil when there are no more.
    public init(_ generate: @escaping @Sendable () async throws -> Batch<Item>?) {
        self.generate = generate
    }

    public func next() async throws -> Batch<Item>? { try await generate() }
}

/// Results in memory, in the order of the source. What was filtered is left out.
public final class ArraySink<Item: Sendable>: BatchSink {
    private let batches = Mutex<[Batch<Item>]>([])

    public init() {}

    public func receive(_ batch: Batch<Item>) {
        batches.withLock { $0.append(batch) }
    }

    /// All results so far.
    public var items: [Item] {
        batches.withLock { $0.sorted { $0.position < $1.position } }.flatMap(\.items)
    }
}

/// Results that a closure takes.
public struct ClosureSink<Item: Sendable>: BatchSink {
    private let body: @Sendable (Batch<Item>) async throws -> Void

    /// `body` is called by several lanes at the same time.
    public init(_ body: @escaping @Sendable (Batch<Item>) async throws -> Void) {
        self.body = body
    }

    public func receive(_ batch: Batch<Item>) async throws { try await body(batch) }
}
