// Flockwork · Apache-2.0 · see LICENSE

// The cluster's shared secret. It is read from a file that only its owner can read, never printed, never sent: peers
// prove that they know it with an HMAC over both nonces.

internal import COpenSSL
public import FlockWire
internal import Glibc

/// A secret that all processes of a cluster share. Prints as `***`.
public struct Token: Sendable, CustomStringConvertible, CustomDebugStringConvertible, CustomReflectable {
    private let secret: [UInt8]

    /// Bytes of a token, at most.
    public static let maximumBytes = 4096

    /// Reads the token from a file; white space at its end does not count.
    /// - Throws: `invalidInput` naming the file: not readable, open to others than its owner, empty, too long.
    public init(file path: String) throws(FlockError) {
        let descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)
        guard descriptor >= 0 else {
            throw FlockError(.invalidInput, "token file \(path): \(String(cString: strerror(errno)))")
        }
        defer { Glibc.close(descriptor) }
        var status = stat()
        guard fstat(descriptor, &status) == 0, status.st_mode & S_IFMT == S_IFREG else {
            throw FlockError(.invalidInput, "token file \(path) is not a regular file")
        }
        guard status.st_mode & 0o177 == 0 else {
            let mode = String(status.st_mode & 0o777, radix: 8)
            throw FlockError(
                .invalidInput, "token file \(path) has mode \(mode), so others may read it; run: chmod 600 \(path)")
        }
        var content = [UInt8](repeating: 0, count: Self.maximumBytes + 1)
        let count = read(descriptor, &content, content.count)
        guard count >= 0 else {
            throw FlockError(.invalidInput, "token file \(path): \(String(cString: strerror(errno)))")
        }
        guard count <= Self.maximumBytes else {
            throw FlockError(.invalidInput, "token file \(path) is longer than \(Self.maximumBytes) bytes")
        }
        let used = content[..<count].lastIndex { $0 != 0x0A && $0 != 0x0D && $0 != 0x20 && $0 != 0x09 }
        guard let used else { throw FlockError(.invalidInput, "token file \(path) is empty") }
        secret = Array(content[...used])
    }

    /// A token made in the process, for tests and embedded use.
    public init(bytes: [UInt8]) {
        precondition(!bytes.isEmpty && bytes.count <= Self.maximumBytes, "token of \(bytes.count) bytes")
        secret = bytes
    }

    /// Whether it is that secret.
    package func isSame(as other: Token) -> Bool { equalInConstantTime(secret, other.secret) }

    public var description: String { "***" }
    public var debugDescription: String { "***" }
    public var customMirror: Mirror { Mirror(self, children: []) }

    /// HMAC-SHA-256 under the token: 32 bytes.
    func authenticate(_ message: Bytes) -> [UInt8] {
        var result = [UInt8](repeating: 0, count: 32)
        var length: UInt32 = 32
        let made = message.withUnsafeBytes { message in
            HMAC(
                EVP_sha256(), secret, Int32(secret.count), message.baseAddress?.assumingMemoryBound(to: UInt8.self),
                message.count, &result, &length)
        }
        precondition(made != nil && length == 32, "libcrypto cannot compute HMAC-SHA-256")
        return result
    }
}

/// Compares in a time that does not depend on where they differ.
func equalInConstantTime(_ left: [UInt8], _ right: [UInt8]) -> Bool {
    left.count == right.count && CRYPTO_memcmp(left, right, left.count) == 0
}

/// 32 bytes from libcrypto's generator, used for one handshake.
func makeNonce() -> [UInt8] {
    var nonce = [UInt8](repeating: 0, count: 32)
    precondition(RAND_bytes(&nonce, Int32(nonce.count)) == 1, "libcrypto has no random bytes")
    return nonce
}
