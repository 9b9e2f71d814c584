// Flockwork · Apache-2.0 · see LICENSE

import Testing

@testable import FlockWire

@Suite("Wire values")
struct ValueTests {
    @Test("tensors and rows are views on what was read")
    func views() throws {
        let bytes = try encoded(Rows<Float>([1, 2, 3, 4], width: 2))
        let rows = try decoded(Rows<Float>.self, bytes)
        #expect(rows.bytes.storage === bytes.storage)
        let misaligned = Bytes([0] + bytes.array).slice(from: 1, count: bytes.count)
        #expect(try decoded(Rows<Float>.self, misaligned) == rows)
        #expect(throws: FlockError.self) { try decoded(Rows<Double>.self, bytes) }
        let tensor = try decoded(Tensor.self, encoded(Tensor(rows)))
        #expect(tensor.shape == [2, 2] && tensor.rows(of: Float.self) == rows)
        #expect(tensor.rows(of: Int32.self) == nil)
        #expect(throws: FlockError.self) { try Tensor(.float32, shape: [3], bytes: tensor.bytes) }
        #expect(throws: FlockError.self) { try Tensor(.float32, shape: [.max, .max], bytes: tensor.bytes) }
        #expect(throws: FlockError.self) { try Tensor(.float32, shape: [-1, -4], bytes: tensor.bytes) }
    }

    @Test("feature hashing is stable, of length one, and blind to case and punctuation")
    func hashing() throws {
        let vector = try #require(Tensor(hashing: "Loved it, loved it!", into: 512).elements(of: Float.self))
        #expect(vector == Tensor(hashing: "it LOVED; loved IT", into: 512).elements(of: Float.self))
        #expect(abs(vector.reduce(0) { $0 + $1 * $1 } - 1) < 1e-5)
        #expect(FNV1a.hash("foobar".utf8) == 0x8594_4171_F739_67E8)
        #expect(Tensor(hashing: "", into: 4).elements(of: Float.self) == [0, 0, 0, 0])
    }

    @Test("a traceparent of the standard comes back, others are refused")
    func traceparent() throws {
        let text = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
        let context = try #require(TraceContext(traceparent: text))
        #expect(context.traceparent == text && context.isSampled)
        #expect(try coded(context) == context)
        var writer = ByteWriter()
        context.write(to: &writer)
        #expect(writer.count == TraceContext.size)
        var reader = ByteReader(writer.finish())
        #expect(try TraceContext(from: &reader) == context)
        #expect(TraceContext(traceparent: "01" + text.dropFirst(2) + "-more") == context)
        let bad = [
            "", String(text.dropLast()), text + "-more", "ff" + text.dropFirst(2), text.uppercased(),
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01", "01" + text.dropFirst(2) + "x",
        ]
        for text in bad { #expect(TraceContext(traceparent: text) == nil, "\(text)") }
    }

    @Test("item buffers keep their items through slices, joins and the wire")
    func items() throws {
        let words = ["", "a", "bcd", "grüße"]
        let buffer = try ItemBuffer(count: 4) { $1.write(Bytes(words[$0])) }
        let joined = ItemBuffer.joined([buffer.slice(from: 2, count: 2), buffer.slice(from: 0, count: 2)])
        var writer = ByteWriter()
        writer.write(UInt8(1))
        joined.slice(from: 1, count: 3).write(to: &writer)
        #expect(writer.count <= 1 + joined.encodedSize)
        var reader = ByteReader(writer.finish())
        _ = try reader.read(UInt8.self)
        let back = try ItemBuffer(from: &reader, limits: Limits())
        #expect((0..<3).map { back[$0].text } == ["grüße", "", "a"])
        try reader.finish()
    }

    @Test("an error keeps its parts, and its text is cut between characters")
    func errors() throws {
        var limits = Limits()
        limits.errorTextBytes = 10
        let error = FlockError(.overloaded, "123456789é123", stage: "s", node: "n", retryAfter: .milliseconds(5))
        var writer = ByteWriter()
        error.write(to: &writer, limits: limits)
        var reader = ByteReader(writer.finish())
        let back = try FlockError(from: &reader, limits: limits)
        #expect(back == error && back.message == "123456789" && back.stage == "s" && back.node == "n")
        #expect(back.retryAfter == .milliseconds(5))
    }

    @Test("a run of sequences that ends beyond all numbers is refused")
    func runs() throws {
        struct Raw: Codable { var first: UInt64, count: Int }
        #expect(throws: FlockError.self) { try decoded(SequenceRun.self, encoded(Raw(first: .max, count: 1))) }
        #expect(throws: FlockError.self) { try decoded(SequenceRun.self, encoded(Raw(first: 1, count: -1))) }
        #expect(try decoded(SequenceRun.self, encoded(Raw(first: 1, count: 2))).end == 3)
    }
}
