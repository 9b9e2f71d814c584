// Flockwork · Apache-2.0 · see LICENSE

// The one error that users see. A struct with an extensible code evolves without breaking source; equality is on the
// code, so a test or a caller asks `error == .overloaded` and never parses text.

/// What went wrong, with what to do about it in the message.
public struct FlockError: Error, Sendable, CustomStringConvertible {
    /// The kind of error. Raw values are part of the wire format and never reused.
    public struct Code: RawRepresentable, Hashable, Sendable, Codable, CustomStringConvertible {
        public let rawValue: UInt16
        public init(rawValue: UInt16) { self.rawValue = rawValue }

        /// The node cannot take more now; nothing was accepted. Retry after `retryAfter`.
        public static let overloaded = Code(rawValue: 1)
        /// The deadline passed before there was an outcome.
        public static let deadlineExceeded = Code(rawValue: 2)
        /// No node that could answer is reachable now.
        public static let unavailable = Code(rawValue: 3)
        /// The stage threw.
        public static let stageFailed = Code(rawValue: 4)
        /// The stage returned another number of results than it got items.
        public static let badBatch = Code(rawValue: 5)
        /// The item was held by processes that died, twice.
        public static let poison = Code(rawValue: 6)
        /// The pipeline filtered the item, so there is no value.
        public static let filtered = Code(rawValue: 7)
        /// The caller cancelled the request.
        public static let cancelled = Code(rawValue: 8)
        /// The outcome was no longer kept: acknowledged, or past its time to live.
        public static let expired = Code(rawValue: 9)
        /// The partition lost all its replicas with the request.
        public static let lost = Code(rawValue: 10)
        /// The result is larger than what was reserved for it.
        public static let resultTooLarge = Code(rawValue: 11)
        /// The model could not be loaded.
        public static let modelLoadFailed = Code(rawValue: 12)
        /// A Python child failed.
        public static let pythonFailed = Code(rawValue: 13)
        /// The peer runs another protocol, cluster or program.
        public static let incompatibleNode = Code(rawValue: 14)
        /// The peer did not prove that it knows the token.
        public static let unauthenticated = Code(rawValue: 15)
        /// The peer sent what the protocol does not allow.
        public static let protocolViolation = Code(rawValue: 16)
        /// A value over its limit.
        public static let tooLarge = Code(rawValue: 17)
        /// Input that could not be understood: a file, a flag, a payload.
        public static let invalidInput = Code(rawValue: 18)
        /// No such pipeline, actor, method or session.
        public static let notFound = Code(rawValue: 19)
        /// The node, client or pipeline is shutting down.
        public static let shuttingDown = Code(rawValue: 20)
        /// The operating system refused (a port in use, a file not readable, …).
        public static let system = Code(rawValue: 21)
        /// A distributed call's receiver threw.
        public static let callFailed = Code(rawValue: 22)
        /// The peer moved on: ask the node that owns the partition now.
        public static let moved = Code(rawValue: 23)
        /// An operator has suspended the pipeline; nothing was accepted. Retry after `retryAfter`.
        public static let suspended = Code(rawValue: 24)

        private static let names: [Code: String] = [
            .overloaded: "overloaded", .deadlineExceeded: "deadlineExceeded", .unavailable: "unavailable",
            .stageFailed: "stageFailed", .badBatch: "badBatch", .poison: "poison", .filtered: "filtered",
            .cancelled: "cancelled", .expired: "expired", .lost: "lost", .resultTooLarge: "resultTooLarge",
            .modelLoadFailed: "modelLoadFailed", .pythonFailed: "pythonFailed", .incompatibleNode: "incompatibleNode",
            .unauthenticated: "unauthenticated", .protocolViolation: "protocolViolation", .tooLarge: "tooLarge",
            .invalidInput: "invalidInput", .notFound: "notFound", .shuttingDown: "shuttingDown", .system: "system",
            .callFailed: "callFailed", .moved: "moved", .suspended: "suspended",
        ]
        public var description: String { Self.names[self] ?? "code \(rawValue)" }
    }

    public var code: Code
    /// One or two sentences for a person: what happened, and what to do.
    public var message: String
    /// The stage that failed, if one did.
    public var stage: String?
    /// The node that says so, if another one does.
    public var node: NodeID?
    /// With `overloaded`: when a retry may succeed.
    public var retryAfter: Duration?
    /// The bound of `Limits` that was met, if one was.
    public var limit: Limit?
    /// The error below, on the process where it happened. It does not cross the wire; its text is in the message.
    public var cause: (any Error)?

    public init(
        _ code: Code, _ message: String, stage: String? = nil, node: NodeID? = nil, retryAfter: Duration? = nil,
        limit: Limit? = nil, cause: (any Error)? = nil
    ) {
        self.code = code
        self.message = message
        self.stage = stage
        self.node = node
        self.retryAfter = retryAfter
        self.limit = limit
        self.cause = cause
    }

    public var description: String {
        var text = "\(code): \(message)"
        if let stage { text += " [stage \(stage)]" }
        if let node { text += " [node \(node)]" }
        if let limit { text += limit.suffix }
        if let retryAfter { text += " [retry after \(retryAfter)]" }
        return text
    }
}

extension FlockError: Equatable {
    /// Equality on the code.
    public static func == (left: FlockError, right: FlockError) -> Bool { left.code == right.code }
    public static func == (error: FlockError, code: Code) -> Bool { error.code == code }
}

extension FlockError {
    /// Code (u16), retry-after in microseconds (u32), then message, stage and node as texts (empty = none).
    ///
    /// A limit that was met stands at the end of the message, ` [limit openBytes]`.
    public func write(to writer: inout ByteWriter, limits: Limits) {
        writer.write(code.rawValue)
        writer.write(UInt32(clamping: (retryAfter?.clampedNanoseconds ?? 0) / 1000))
        let suffix = limit?.suffix ?? ""
        let room = limits.errorTextBytes - suffix.utf8.count
        writer.writeText(room < 0 ? Self.cut(message, to: limits.errorTextBytes) : Self.cut(message, to: room) + suffix)
        writer.writeText(Self.cut(stage ?? "", to: limits.nameBytes))
        writer.writeText(Self.cut(node?.rawValue ?? "", to: limits.nameBytes))
    }

    public init(from reader: inout ByteReader, limits: Limits) throws(WireError) {
        let code = Code(rawValue: try reader.read())
        let microseconds: UInt32 = try reader.read()
        var message = try reader.readText(of: "error text", limit: limits.errorTextBytes, named: .errorTextBytes)
        let stage = try reader.readText(of: "stage name", limit: limits.nameBytes, named: .nameBytes)
        let node = try reader.readText(of: "node name", limit: limits.nameBytes, named: .nameBytes)
        let limit = Limit.take(from: &message)
        self.init(
            code, message, stage: stage.isEmpty ? nil : stage, node: node.isEmpty ? nil : NodeID(node),
            retryAfter: microseconds == 0 ? nil : .microseconds(Int64(microseconds)), limit: limit)
    }

    private static func cut(_ text: String, to limit: Int) -> String {
        guard text.utf8.count > limit else { return text }
        // Not within a scalar: its first byte is the one that is no continuation (10xxxxxx).
        var end = text.utf8.index(text.startIndex, offsetBy: max(limit, 0))
        while end > text.startIndex, text.utf8[end] & 0xC0 == 0x80 { end = text.utf8.index(before: end) }
        return String(decoding: text.utf8[..<end], as: UTF8.self)
    }
}
