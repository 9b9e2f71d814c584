// Flockwork · Apache-2.0 · see LICENSE

import FlockWire
import Glibc
import Testing

@testable import FlockTransport

@Suite("Token")
struct TokenTests {
    private func withFile(_ content: String, mode: mode_t, _ body: (String) throws -> Void) throws {
        var path = Array("/tmp/flock-token-XXXXXX".utf8CString)
        let descriptor = mkstemp(&path)
        try #require(descriptor >= 0)
        let name = String(decoding: path.dropLast().map(UInt8.init(bitPattern:)), as: UTF8.self)
        defer { unlink(name) }
        try #require(write(descriptor, content, content.utf8.count) == content.utf8.count)
        fchmod(descriptor, mode)
        close(descriptor)
        try body(name)
    }

    @Test("a token is read from a file of mode 0600, without the newline at its end")
    func reads() throws {
        try withFile("secret\n", mode: 0o600) { path in
            let token = try Token(file: path)
            let message = Bytes("message")
            #expect(token.authenticate(message) == Token(bytes: Array("secret".utf8)).authenticate(message))
        }
    }

    @Test("a file that others may read is refused", arguments: [0o644, 0o640, 0o604, 0o660, 0o700, 0o602])
    func refusesMode(_ mode: Int) throws {
        try withFile("secret", mode: mode_t(mode)) { path in
            let error = #expect(throws: FlockError.self) { try Token(file: path) }
            #expect(error?.code == .invalidInput)
            #expect(error?.message.contains("chmod 600 \(path)") == true)
        }
    }

    @Test("an empty, a missing, an overlong token and a directory are refused")
    func refusesOthers() throws {
        for content in ["", " \n", String(repeating: "x", count: Token.maximumBytes + 1)] {
            try withFile(content, mode: 0o600) { path in
                let error = #expect(throws: FlockError.self) { try Token(file: path) }
                #expect(error?.message.contains(path) == true)
            }
        }
        #expect(throws: FlockError.self) { try Token(file: "/nowhere/token") }
        #expect(throws: FlockError.self) { try Token(file: "/tmp") }
    }

    @Test("a token is never printed")
    func isRedacted() {
        var dumped = ""
        dump(Identity.node(token: Token(bytes: Array("sesame".utf8))), to: &dumped)
        let token = Token(bytes: Array("sesame".utf8))
        for text in ["\(token)", String(reflecting: token), "\(Identity.node(token: token))", dumped] {
            #expect(!text.contains("sesame"))
            #expect(!text.contains("115"), "neither as numbers: \(text)")
        }
        #expect("\(token)" == "***")
    }

    @Test("HMAC-SHA-256 as RFC 4231 has it (test case 2)")
    func matchesReference() {
        let made = Token(bytes: Array("Jefe".utf8)).authenticate(Bytes("what do ya want for nothing?"))
        let text = made.map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined()
        #expect(text == "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843")
    }

    @Test("constant-time comparison tells equal from different")
    func compares() {
        #expect(equalInConstantTime([1, 2, 3], [1, 2, 3]))
        #expect(!equalInConstantTime([1, 2, 3], [1, 2, 4]))
        #expect(!equalInConstantTime([1, 2, 3], [1, 2]))
        #expect(equalInConstantTime([], []))
    }
}
