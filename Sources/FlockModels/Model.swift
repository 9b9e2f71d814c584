// Flockwork · Apache-2.0 · see LICENSE

// A model sees whole batches only: one existential call a batch costs nothing, one an item costs a factor of three.

public import FlockWire

/// What scores a batch of rows inside a stage. A user's own Swift model conforms to it directly.
///
/// Several instances may call one model at the same time, so `score` must not change it.
public protocol Model: Sendable {
    /// Elements of an input row.
    var inputWidth: Int { get }
    /// Scores of a row.
    var outputWidth: Int { get }
    /// A call may wait, or takes long in code that is not Swift. Each instance has a thread of its own then, since the
    /// threads of Swift's pool must not be kept. False unless the model says so.
    var isBlocking: Bool { get }
    /// Scores all rows, in one call a batch.
    ///
    /// - Parameters:
    ///   - rows: `rows.width` is `inputWidth`; otherwise the model throws.
    ///   - scores: room for `rows.count * outputWidth` floats, row after row. The model writes every one of them.
    func score(_ rows: Rows<Float>, into scores: UnsafeMutableBufferPointer<Float>) throws
}

extension Model {
    public var isBlocking: Bool { false }

    /// The scores as rows of `outputWidth`.
    public func score(_ rows: Rows<Float>) throws -> Rows<Float> {
        try Rows(count: rows.count, width: outputWidth) { scores in try score(rows, into: scores) }
    }

    /// Throws `invalidInput` unless the rows have this model's width.
    public func checkWidth(of rows: Rows<Float>) throws(FlockError) {
        guard rows.width == inputWidth else {
            throw FlockError(.invalidInput, "the model takes rows of \(inputWidth) numbers, not of \(rows.width)")
        }
    }
}
