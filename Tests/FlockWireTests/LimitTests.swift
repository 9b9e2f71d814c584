// Flockwork · Apache-2.0 · see LICENSE

import Testing

@testable import FlockWire

@Suite("Limits of what is read")
struct LimitTests {
    private func limits(_ change: (inout Limits) -> Void) -> Limits {
        var limits = Limits()
        change(&limits)
        return limits
    }

    private func limit(_ body: () throws -> Void) -> Limit? {
        do { try body() } catch { return Limit(of: error) }
        return nil
    }

    private func bytes(_ write: (inout ByteWriter) throws -> Void) rethrows -> ByteReader {
        var writer = ByteWriter()
        try write(&writer)
        return ByteReader(writer.finish())
    }

    @Test("values that are too deep, too wide, or tensors of too many dimensions name their limit")
    func values() throws {
        let deep = limits { $0.codingDepth = 2 }
        var reader = try bytes { try WireCoder.encode([[[[1]]]], into: &$0, limits: Limits()) }
        let nested = FlockError.thrown { _ = try WireCoder.decode([[[[Int]]]].self, from: &reader, limits: deep) }
        #expect(nested?.limit == .codingDepth && nested?.code == .invalidInput)
        let nestedOut = FlockError.thrown { _ = try bytes { try WireCoder.encode([[[[1]]]], into: &$0, limits: deep) } }
        #expect(nestedOut?.limit == .codingDepth && nestedOut?.code == .tooLarge)

        let narrow = limits { $0.codingElements = 3 }
        reader = try bytes { try WireCoder.encode(["a", "b", "c", "d"], into: &$0, limits: Limits()) }
        let wide = FlockError.thrown { _ = try WireCoder.decode([String].self, from: &reader, limits: narrow) }
        #expect(wide?.limit == .codingElements && wide?.code == .invalidInput)

        reader = try bytes { try WireCoder.encode(Tensor([Float(1)], shape: [1, 1, 1]), into: &$0, limits: Limits()) }
        let flat = limits { $0.tensorDimensions = 2 }
        let tensor = FlockError.thrown { _ = try WireCoder.decode(Tensor.self, from: &reader, limits: flat) }
        #expect(tensor?.limit == .tensorDimensions)

        let small = limits { $0.frameBytes = 8 }
        let long = FlockError.thrown {
            _ = try bytes { try WireCoder.encode("more than eight", into: &$0, limits: small) }
        }
        #expect(long?.limit == .frameBytes && long?.code == .tooLarge)
    }

    @Test("items that are too large, and runs of too many, name their limit")
    func items() throws {
        let texts = try ItemBuffer(count: 2) { _, writer in writer.writeText("0123456789") }
        for items in [texts, ItemBuffer(Rows<Float>([1, 2, 3, 4, 5, 6, 7, 8], width: 4))] {
            var reader = bytes { items.write(to: &$0) }
            let large = limit { _ = try ItemBuffer(from: &reader, limits: limits { $0.payloadBytes = 9 }) }
            #expect(FlockError(.tooLarge, "", limit: large).limit == .payloadBytes)
            reader = bytes { items.write(to: &$0) }
            let many = limit { _ = try ItemBuffer(from: &reader, limits: limits { $0.itemsPerRun = 1 }) }
            #expect(FlockError(.tooLarge, "", limit: many).limit == .itemsPerRun)
        }
    }

    @Test("texts of errors and names that are too long are cut by their writer and refused by a reader")
    func texts() throws {
        let error = FlockError(.stageFailed, String(repeating: "x", count: 50), stage: "a long name")
        let short = limits {
            $0.errorTextBytes = 20
            $0.nameBytes = 5
        }
        var reader = bytes { error.write(to: &$0, limits: short) }
        let cut = try FlockError(from: &reader, limits: short)
        #expect(cut.message.utf8.count == 20 && cut.stage == "a lon")
        reader = bytes { error.write(to: &$0, limits: Limits()) }
        let long = limit { _ = try FlockError(from: &reader, limits: limits { $0.errorTextBytes = 20 }) }
        #expect(FlockError(.tooLarge, "", limit: long).limit == .errorTextBytes)
        reader = bytes { error.write(to: &$0, limits: Limits()) }
        let name = limit { _ = try FlockError(from: &reader, limits: limits { $0.nameBytes = 5 }) }
        #expect(FlockError(.tooLarge, "", limit: name).limit == .nameBytes)
    }

    @Test("an error carries its limit over the wire, as text that anybody can read", arguments: Limit.allCases)
    func wire(limit: Limit) throws {
        let error = FlockError(.overloaded, "full", stage: "s", node: "n", retryAfter: .milliseconds(5), limit: limit)
        var reader = bytes { error.write(to: &$0, limits: Limits()) }
        // What a process reads that knows no limits: code, retry-after, text.
        var old = reader
        _ = try old.read(UInt16.self)
        _ = try old.read(UInt32.self)
        #expect(try old.readText(of: "text", limit: 100, named: .errorTextBytes) == "full [limit \(limit.rawValue)]")
        let copy = try FlockError(from: &reader, limits: Limits())
        #expect(copy.limit == limit && copy.message == "full" && reader.isAtEnd)
        #expect(copy.description == error.description)

        // However long the message is, the limit is not what is cut off.
        let long = FlockError(.overloaded, String(repeating: "ü", count: 2000), limit: limit)
        reader = bytes { long.write(to: &$0, limits: Limits()) }
        #expect(try FlockError(from: &reader, limits: Limits()).limit == limit)
    }

    @Test("text that only looks like a limit stays text")
    func lookAlikes() throws {
        for text in [
            "", "]", "[limit", "[limit ]", " [limit nothing]", "x [limit openBytes] ", "x[limit openBytes]",
            "x [limit  openBytes]", "x [limit openBytes openBytes]", "[[[[]", "x [limit OPENBYTES]",
        ] {
            var reader = bytes { FlockError(.lost, text).write(to: &$0, limits: Limits()) }
            let copy = try FlockError(from: &reader, limits: Limits())
            #expect(copy.message == text && copy.limit == nil)
        }
    }
}

extension FlockError {
    fileprivate static func thrown(_ body: () throws -> Void) -> FlockError? {
        do { try body() } catch { return error as? FlockError }
        return nil
    }
}
