// Flockwork · Apache-2.0 · see LICENSE

internal import FlockActors
internal import FlockWire

/// What goes into a pipeline and comes out, where both are plain data: text, bytes, rows of floats, single numbers.
///
/// Such a pipeline can be called by whoever knows its name and form, without its Swift types, steps or models:
/// `Client.inbox(named:of:returning:)` and the command `flockwork send` do so.
public struct PlainForm: Codable, Hashable, Sendable, CustomStringConvertible {
    /// A kind of data.
    public enum Kind: String, Codable, Sendable {
        /// `String`
        case text
        /// `Bytes`
        case bytes
        /// `Row`
        case row
        /// `Float`
        case number

        init?<Item>(_ type: Item.Type) {
            if type == String.self {
                self = .text
            } else if type == Bytes.self {
                self = .bytes
            } else if type == Row.self {
                self = .row
            } else if type == Float.self {
                self = .number
            } else {
                return nil
            }
        }
    }

    /// Of a request.
    public let input: Kind
    /// Floats of a request; 0 where that means nothing.
    public let width: Int
    /// Of a result.
    public let output: Kind

    /// The form of a pipeline from `Input` to `Output`; nil if one of them is something else than plain data, or rows
    /// come in without a width.
    public init?<Input, Output>(of input: Input.Type, width: Int? = nil, returning output: Output.Type) {
        guard let from = Kind(input), let to = Kind(output), (from == .row) == (width != nil) else { return nil }
        self.input = from
        self.width = width ?? 0
        self.output = to
    }

    public var description: String {
        (input == .row ? "rows of \(width) floats" : Self.text(input)) + " -> " + Self.text(output)
    }

    private static func text(_ kind: Kind) -> String {
        switch kind {
        case .text: "text"
        case .bytes: "bytes"
        case .row: "a row of floats"
        case .number: "a number"
        }
    }

    /// Stands for the form where a caller's pipeline has the fingerprint of its steps.
    func fingerprint(of name: String) -> UInt64 {
        ActorAddress(named: "plain|\(name)|\(input.rawValue)|\(width)|\(output.rawValue)", on: NodeID("")).key
    }
}

/// A pipeline of a cluster, as a client may see it.
public struct PipelineInfo: Codable, Sendable, Hashable {
    /// What inboxes are opened by.
    public let name: String
    /// What to send; nil if only a program with the pipeline's own Swift types can.
    public let form: PlainForm?
}
