// Flockwork · Apache-2.0 · see LICENSE

// Bits from the network may become a value only where every pattern of bits is one. `BitwiseCopyable` does not say so
// (a `Bool` is that), so the type says that it wants to be taken as its bytes, and its stored properties, found by
// reflection, prove that it can: numbers only, which fill it without a gap.

/// A struct of numbers that crosses the wire as its own bytes, many times faster than field by field.
///
/// ```swift
/// struct Features: PlainRecord {
///     var age: Float, income: Float
///     var visits: Int32, clicks: Int32
/// }
/// let pipeline = Pipeline("scores", of: Features.self).map { $0.age * 0.5 }
/// ```
///
/// Its stored properties must be `Float`, `Double`, or integers of any width, or other plain records, without padding
/// between or behind them. Anything else is refused with `invalidInput` at the first use. What the type's own
/// `encode(to:)` and `init(from:)` do is passed over, except by other coders and for one value of zeros, by which the
/// properties are found; so any combination of numbers must be a value that the type can live with.
///
/// The names, types and order of the properties are part of the pipeline's fingerprint: a client and a node that
/// differ in them do not find each other's pipeline. A plain `Codable` struct is more tolerant, and slower.
public protocol PlainRecord: BitwiseCopyable, Codable, Sendable {}

/// How the numbers of a plain record lie in its bytes.
public struct RecordLayout: Sendable, Hashable {
    /// Bytes of a value, without a gap.
    public private(set) var size = 0
    /// Names and types of the numbers in their order, as `age:Float,visits:Int32`.
    public private(set) var signature = ""

    /// Finds the layout by reflection of a value of zeros.
    ///
    /// Throws `invalidInput` that says why values of `type` cannot be taken from bytes.
    public init(of type: any PlainRecord.Type) throws(FlockError) {
        do {
            try add(try type.init(from: RecordProbe()), name: "")
        } catch let refusal as Refusal {
            throw FlockError(.invalidInput, "\(type) is no plain record: \(refusal.reason).")
        } catch {
            throw FlockError(
                .invalidInput, "\(type) is no plain record: its init(from:) takes no zeros.", cause: error)
        }
    }

    /// The name of a type, and of a plain record its layout, too: what two programs must agree in.
    public static func name(of type: any Any.Type) -> String {
        let name = String(reflecting: type)
        guard let record = type as? any PlainRecord.Type else { return name }
        do { return try "\(name)(\(RecordLayout(of: record).signature))" } catch { return name }
    }

    private struct Refusal: Error {
        var reason: String
    }

    private mutating func add<Record: PlainRecord>(_ record: Record, name: String) throws {
        let place = name.isEmpty ? "it" : name
        // Such a type says itself what its mirror shows.
        if record is any CustomReflectable { throw Refusal(reason: "\(place) has a mirror of its own") }
        let mirror = Mirror(reflecting: record)
        guard mirror.displayStyle == .struct else { throw Refusal(reason: "\(place) is no struct") }
        let before = size
        for child in mirror.children {
            let path = (name.isEmpty ? "" : name + ".") + (child.label ?? "?")
            let type = Swift.type(of: child.value)
            if let number = type as? any PackedNumber.Type {
                signature += (signature.isEmpty ? "" : ",") + "\(path):\(type)"
                size += Self.size(of: number)
            } else if let record = child.value as? any PlainRecord {
                try add(record, name: path)
            } else {
                throw Refusal(reason: "\(path) is \(type), neither a number nor a plain record")
            }
        }
        let numbers = size - before
        guard numbers > 0 else { throw Refusal(reason: "\(place) has no numbers") }
        guard numbers == MemoryLayout<Record>.size, numbers == MemoryLayout<Record>.stride else {
            throw Refusal(
                reason: "\(place) has \(MemoryLayout<Record>.stride - numbers) bytes of padding; "
                    + "order its properties from large to small and fill it up")
        }
    }

    private static func size<Number: PackedNumber>(of type: Number.Type) -> Int { MemoryLayout<Number>.size }
}
