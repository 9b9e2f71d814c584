// Flockwork · Apache-2.0 · see LICENSE

internal import COpenSSL
public import FlockWire

/// The SHA-256 of something: its name, wherever it lies.
public struct ContentHash: Sendable, Hashable, CustomStringConvertible {
    /// Bytes of a hash.
    static let size = 32
    let bytes: [UInt8]

    fileprivate init(bytes: [UInt8]) { self.bytes = bytes }

    /// The hash of some bytes.
    public init(of content: Bytes) {
        var hasher = ContentHasher()
        content.withUnsafeBytes { hasher.update($0) }
        self = hasher.finish()
    }

    /// 64 lower-case hexadecimal digits; nil for anything else.
    public init?(_ text: String) {
        let digits = Array(text.utf8)
        guard digits.count == 2 * Self.size else { return nil }
        var bytes: [UInt8] = []
        for place in stride(from: 0, to: digits.count, by: 2) {
            guard let high = Self.value(digits[place]), let low = Self.value(digits[place + 1]) else { return nil }
            bytes.append(high << 4 | low)
        }
        self.bytes = bytes
    }

    /// 64 lower-case hexadecimal digits.
    public var description: String {
        let digits = Array("0123456789abcdef".utf8)
        return String(decoding: bytes.flatMap { [digits[Int($0 >> 4)], digits[Int($0 & 15)]] }, as: UTF8.self)
    }

    private static func value(_ digit: UInt8) -> UInt8? {
        switch digit {
        case UInt8(ascii: "0")...UInt8(ascii: "9"): digit - UInt8(ascii: "0")
        case UInt8(ascii: "a")...UInt8(ascii: "f"): digit - UInt8(ascii: "a") + 10
        default: nil
        }
    }
}

extension ContentHash: Codable {
    /// Its digits.
    public init(from decoder: any Decoder) throws {
        let container = try decoder.singleValueContainer()
        guard let hash = ContentHash(try container.decode(String.self)) else {
            throw DecodingError.dataCorruptedError(in: container, debugDescription: "no SHA-256")
        }
        self = hash
    }

    /// As its digits.
    public func encode(to encoder: any Encoder) throws {
        var container = encoder.singleValueContainer()
        try container.encode(description)
    }
}

extension ContentHash {
    /// Its 32 bytes.
    init(from reader: inout ByteReader) throws(WireError) { bytes = try reader.readBytes(Self.size).array }
}

/// Makes a hash of what comes piece by piece.
struct ContentHasher: ~Copyable {
    private let context: OpaquePointer

    init() {
        guard let context = EVP_MD_CTX_new() else { preconditionFailure("no memory for a hash") }
        self.context = context
        begin()
    }

    private func begin() {
        let code = EVP_DigestInit_ex(context, EVP_sha256(), nil)
        precondition(code == 1, "libcrypto has no SHA-256")
    }

    mutating func update(_ bytes: UnsafeRawBufferPointer) {
        let code = EVP_DigestUpdate(context, bytes.baseAddress, bytes.count)
        precondition(code == 1, "libcrypto cannot go on with a hash")
    }

    mutating func update(_ text: String) {
        var text = text
        text.withUTF8 { update(UnsafeRawBufferPointer($0)) }
    }

    /// The hash of what came; the next one begins.
    mutating func finish() -> ContentHash {
        var bytes = [UInt8](repeating: 0, count: ContentHash.size)
        let code = EVP_DigestFinal_ex(context, &bytes, nil)
        precondition(code == 1, "libcrypto cannot end a hash")
        begin()
        return ContentHash(bytes: bytes)
    }

    deinit { EVP_MD_CTX_free(context) }
}
