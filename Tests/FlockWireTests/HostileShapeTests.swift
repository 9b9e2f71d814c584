// Flockwork · Apache-2.0 · see LICENSE

import Testing

@testable import FlockWire

// Payloads that are small on the wire and would be large in memory, or deep enough to end the stack.
@Suite("Deep and wide payloads")
struct HostileShapeTests {
    private struct Known: Codable {
        var known: Int?
    }

    private func error<T: Decodable>(_ type: T.Type, _ bytes: [UInt8], _ limits: Limits = Limits()) -> FlockError? {
        var reader = ByteReader(Bytes(bytes))
        do {
            _ = try WireCoder.decode(type, from: &reader, limits: limits)
            return nil
        } catch { return error as? FlockError }
    }

    /// A field with a name of one letter, whose value follows.
    private func field(_ kind: UInt8) -> [UInt8] { [kind | WireFormat.named, 1, UInt8(ascii: "x")] }

    @Test("nesting of a million is refused at the limit, in fields that are read and in those that are skipped")
    func deep() {
        let lists = [UInt8](repeating: WireFormat.list, count: 1 << 20)
        #expect(error([[[Int]]].self, lists)?.code == .invalidInput)
        #expect(error(Known.self, [WireFormat.keyed] + field(WireFormat.list) + lists)?.limit == .codingDepth)
        let maps = [WireFormat.keyed] + Array(repeating: field(WireFormat.keyed), count: 1 << 18).flatMap { $0 }
        #expect(error(Known.self, maps)?.limit == .codingDepth)
        #expect(error(Deep.self, maps)?.code == .invalidInput)
    }

    @Test("lengths and counts that are announced and do not follow allocate nothing")
    func announced() {
        let huge: [UInt8] = [0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x7F]
        for count in [huge, [0xFF, 0xFF, 0xFF, 0xFF, 0x0F], [0x80, 0x80, 0x80, 0x10]] {
            #expect(error(String.self, [WireFormat.text] + count)?.code == .invalidInput)
            #expect(error(Bytes.self, [WireFormat.bytes] + count)?.code == .invalidInput)
            for element in 1...10 as ClosedRange<UInt8> {
                #expect(error([Double].self, [WireFormat.packed, element] + count)?.code == .invalidInput)
                #expect(
                    error(Tensor.self, [WireFormat.tensor, element, 2] + count + count + [0])?.code == .invalidInput)
                #expect(error(Rows<Float>.self, [WireFormat.rows, element] + count + count)?.code == .invalidInput)
            }
        }
    }

    @Test("elements are counted over the whole value, wherever they are; what is skipped costs nothing")
    func wide() {
        var limits = Limits()
        limits.codingElements = 10_000
        let trues = [UInt8](repeating: WireFormat.yes, count: limits.codingElements + 1)
        #expect(error([Bool].self, [WireFormat.list] + trues + [0], limits)?.limit == .codingElements)
        // Empty lists, each of which would be an array.
        let empty = (0...limits.codingElements).flatMap { _ in [WireFormat.list, 0 as UInt8] }
        #expect(error([[Bool]].self, [WireFormat.list] + empty + [0], limits)?.limit == .codingElements)
        let skipped = [WireFormat.keyed] + field(WireFormat.list) + trues + [0, 0]
        #expect(error(Known.self, skipped, limits) == nil)
    }
}
