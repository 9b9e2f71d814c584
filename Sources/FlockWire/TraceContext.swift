// Flockwork · Apache-2.0 · see LICENSE

// W3C Trace Context, level 1 (https://www.w3.org/TR/trace-context/): what a request carries so that its spans on
// several nodes belong together.

/// Trace id, span id and flags of a request.
public struct TraceContext: Sendable, Hashable, Codable {
    /// The first 8 bytes of the trace id, and the last.
    public var traceHigh: UInt64
    public var traceLow: UInt64
    public var spanID: UInt64
    /// Bit 0: sampled.
    public var flags: UInt8

    /// Nil where the standard forbids it: a trace id or a span id of zero.
    public init?(traceHigh: UInt64, traceLow: UInt64, spanID: UInt64, flags: UInt8) {
        guard traceHigh | traceLow != 0, spanID != 0 else { return nil }
        self.traceHigh = traceHigh
        self.traceLow = traceLow
        self.spanID = spanID
        self.flags = flags
    }

    private enum CodingKeys: String, CodingKey { case traceHigh, traceLow, spanID, flags }

    public init(from decoder: any Decoder) throws {
        let container = try decoder.container(keyedBy: CodingKeys.self)
        let context = TraceContext(
            traceHigh: try container.decode(UInt64.self, forKey: .traceHigh),
            traceLow: try container.decode(UInt64.self, forKey: .traceLow),
            spanID: try container.decode(UInt64.self, forKey: .spanID),
            flags: try container.decode(UInt8.self, forKey: .flags))
        guard let context else { throw FlockError(.invalidInput, "a trace context of zero") }
        self = context
    }

    public var isSampled: Bool { flags & 1 == 1 }

    /// Both halves of the trace id.
    public var traceID: (high: UInt64, low: UInt64) { (traceHigh, traceLow) }

    /// Reads a `traceparent` header, `00-<32 hex>-<16 hex>-<2 hex>`, lower case. A later version may have more after
    /// a further dash. Nil for anything else.
    public init?(traceparent: String) {
        let text = Array(traceparent.utf8.prefix(56))
        guard text.count >= 55, text[2] == 0x2D, text[35] == 0x2D, text[52] == 0x2D,
            let version = Self.number(text[0..<2]), version != 0xFF,
            text.count == 55 || (version > 0 && text[55] == 0x2D),
            let high = Self.number(text[3..<19]), let low = Self.number(text[19..<35]),
            let span = Self.number(text[36..<52]), let flags = Self.number(text[53..<55])
        else { return nil }
        self.init(traceHigh: high, traceLow: low, spanID: span, flags: UInt8(flags))
    }

    private static func number(_ digits: ArraySlice<UInt8>) -> UInt64? {
        var value: UInt64 = 0
        for digit in digits {
            switch digit {
            case 0x30...0x39: value = value << 4 | UInt64(digit - 0x30)
            case 0x61...0x66: value = value << 4 | UInt64(digit - 0x61 + 10)
            default: return nil
            }
        }
        return value
    }

    /// The `traceparent` header of version 00.
    public var traceparent: String {
        func hex(_ value: UInt64, _ digits: Int) -> String {
            let text = String(value, radix: 16)
            return String(repeating: "0", count: digits - text.utf8.count) + text
        }
        return "00-\(hex(traceHigh, 16))\(hex(traceLow, 16))-\(hex(spanID, 16))-\(hex(UInt64(flags), 2))"
    }

    /// Bytes that `write(to:)` appends.
    public static let size = 25

    /// Appends trace id (two u64, the high one first), span id (u64) and flags (u8).
    public func write(to writer: inout ByteWriter) {
        writer.write(traceHigh)
        writer.write(traceLow)
        writer.write(spanID)
        writer.write(flags)
    }

    /// Reads what `write(to:)` wrote. Throws `malformed` for an id of zero.
    public init(from reader: inout ByteReader) throws(WireError) {
        let (high, low): (UInt64, UInt64) = (try reader.read(), try reader.read())
        let (span, flags): (UInt64, UInt8) = (try reader.read(), try reader.read())
        guard let context = TraceContext(traceHigh: high, traceLow: low, spanID: span, flags: flags) else {
            throw .malformed("trace context of zero")
        }
        self = context
    }
}
