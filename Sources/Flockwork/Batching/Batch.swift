// Flockwork · Apache-2.0 · see LICENSE

public import FlockWire

// What flows between the steps of a lane. A batch is passed from step to step as a value: items in an array, or rows
// in place on the buffer that the network wrote. After a filter, `origins` says which item of the original batch each
// one is, so that every request still gets its own outcome.

/// Items that are handled together.
public struct Batch<Item: Sendable>: Sendable {
    @usableFromInline
    enum Storage: Sendable {
        case items([Item])
        /// Only for `Row` items, and for `Float` items as rows of width 1.
        case rows(Rows<Float>)
    }

    @usableFromInline var storage: Storage
    /// Per item its index in the batch that entered the lane; nil while nothing was filtered.
    @usableFromInline var origins: [Int32]?
    /// Where the batch begins in its source, in items (a bounded job's sink may need the order).
    public var position = 0

    @inlinable
    public init(_ items: [Item]) {
        storage = .items(items)
    }

    @usableFromInline
    init(storage: Storage, origins: [Int32]?, position: Int) {
        self.storage = storage
        self.origins = origins
        self.position = position
    }

    @inlinable public var count: Int {
        switch storage {
        case .items(let items): items.count
        case .rows(let rows): rows.count
        }
    }

    /// The items as an array: no copy if they are stored so, else each row becomes an item.
    @inlinable public var items: [Item] {
        switch storage {
        case .items(let items): items
        case .rows(let rows): Self.unpack(rows)
        }
    }

    @usableFromInline
    static func unpack(_ rows: Rows<Float>) -> [Item] {
        if Item.self == Float.self, rows.width == 1, let floats = rows.elements as? [Item] { return floats }
        return (0..<rows.count).map { index in
            guard let item = Row(rows[index]) as? Item else { preconditionFailure("rows hold no \(Item.self)") }
            return item
        }
    }

    /// Item `index`'s position in the batch that entered the lane.
    @inlinable
    public func origin(of index: Int) -> Int {
        origins.map { Int($0[index]) } ?? index
    }

    /// The same places, other items.
    @inlinable
    package func replacing<New: Sendable>(_ items: [New]) -> Batch<New> {
        Batch<New>(storage: .items(items), origins: origins, position: position)
    }

    /// The same places; rows as items of a type that `Storage` holds them for.
    @usableFromInline
    package func replacing<New: Sendable>(rows: Rows<Float>, as type: New.Type) -> Batch<New> {
        Batch<New>(storage: .rows(rows), origins: origins, position: position)
    }

    @inlinable
    func mapped<New: Sendable>(_ transform: (Item) throws -> New) throws -> Batch<New> {
        if Item.self == Float.self, case .rows(let rows) = storage {
            return replacing(
                try rows.withElements { elements in
                    try elements.map { try transform(unsafeBitCast($0, to: Item.self)) }
                })
        }
        return replacing(try items.map(transform))
    }

    @inlinable
    func filtered(_ keep: (Item) throws -> Bool) throws -> Batch {
        var kept: [Item] = []
        var places: [Int32] = []
        let items = items
        for index in items.indices where try keep(items[index]) {
            kept.append(items[index])
            places.append(Int32(origin(of: index)))
        }
        return kept.count == items.count ? self : Batch(storage: .items(kept), origins: places, position: position)
    }
}

extension Batch where Item == Row {
    /// Rows, in place.
    public init(_ rows: Rows<Float>) {
        self.init(storage: .rows(rows), origins: nil, position: 0)
    }

    /// The rows in place; rows given one by one are copied together (they must be of one width).
    public func rows() throws(FlockError) -> Rows<Float> {
        switch storage {
        case .rows(let rows): return rows
        case .items(let items):
            let width = items.first?.values.count ?? 1
            guard width > 0, items.allSatisfy({ $0.values.count == width }) else {
                throw FlockError(.invalidInput, "Rows of a batch must have the same, non-zero width.")
            }
            return Rows(items.flatMap(\.values), width: width)
        }
    }
}

extension Batch where Item == Float {
    /// Scores as rows of width 1, in place.
    public init(scores: Rows<Float>) {
        precondition(scores.width == 1, "scores of width \(scores.width)")
        self.init(storage: .rows(scores), origins: nil, position: 0)
    }

    /// The numbers, without a copy; valid during the call only.
    public func withScores<Result>(_ body: (UnsafeBufferPointer<Float>) throws -> Result) rethrows -> Result {
        switch storage {
        case .rows(let rows): try rows.withElements(body)
        case .items(let items): try items.withUnsafeBufferPointer(body)
        }
    }
}
