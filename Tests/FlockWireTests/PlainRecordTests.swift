// Flockwork · Apache-2.0 · see LICENSE

import FlockWire
import Testing

private struct Reading: PlainRecord, Equatable {
    var time: Int64
    let value: Double
    var place: Place
    var flags: UInt8, level: Int8, port: UInt16
    private var count: UInt32
    /// Computed: no part of its bytes.
    var sum: Double { value + Double(count) }
}

private struct Place: PlainRecord, Equatable {
    var x: Float, y: Float
}

private enum Signal: UInt8, Codable { case stop, go }

private struct WithBool: PlainRecord { var a: Float, b: Bool }
private struct WithEnum: PlainRecord { var a: UInt8, signal: Signal }
private struct WithOptional: PlainRecord { var a: UInt32, b: UInt32? }
private struct WithGap: PlainRecord { var a: UInt8, b: Float }
private struct WithTail: PlainRecord { var a: Double, b: Float }
private struct WithOtherStruct: PlainRecord { var a: Float, span: Span }
private struct Span: Codable, BitwiseCopyable { var low: Float, high: Float }
private struct WithCharacterCode: PlainRecord {
    var code: Unicode.Scalar
    init(from decoder: any Decoder) throws { code = "a" }
    func encode(to encoder: any Encoder) throws {}
}
private struct Nothing: PlainRecord {}
private enum Choice: UInt8, PlainRecord {
    case one, two
    init(from decoder: any Decoder) throws { self = .one }
}
private struct Masked: PlainRecord, CustomReflectable {
    var yes: Bool
    var customMirror: Mirror { Mirror(self, children: ["yes": UInt8(1)], displayStyle: .struct) }
}
private struct Choosy: PlainRecord {
    var rate: Float
    init(from decoder: any Decoder) throws {
        rate = try decoder.singleValueContainer().decode(Float.self)
        guard rate > 0 else { throw WireError.malformed("rate") }
    }
}
private struct Endless: PlainRecord {
    var value: Float
    init(from decoder: any Decoder) throws { self = try decoder.singleValueContainer().decode(Endless.self) }
}

@Suite("Plain records")
struct PlainRecordTests {
    @Test("the layout is the numbers, their names and their order")
    func layout() throws {
        let layout = try RecordLayout(of: Reading.self)
        #expect(layout.size == MemoryLayout<Reading>.size)
        #expect(
            layout.signature
                == "time:Int64,value:Double,place.x:Float,place.y:Float,flags:UInt8,level:Int8,port:UInt16,count:UInt32"
        )
        #expect(RecordLayout.name(of: Reading.self).hasSuffix("Reading(\(layout.signature))"))
        #expect(RecordLayout.name(of: Int.self) == "Swift.Int")
    }

    @Test(
        "whatever is more than its numbers is refused, and the error says where",
        arguments: [
            (WithBool.self, "b is Bool"), (WithEnum.self, "signal is Signal"), (WithOptional.self, "b is Optional"),
            (WithGap.self, "3 bytes of padding"), (WithTail.self, "4 bytes of padding"),
            (WithOtherStruct.self, "span is Span"), (WithCharacterCode.self, "code is Scalar"),
            (Nothing.self, "no numbers"), (Choice.self, "no struct"), (Masked.self, "mirror of its own"),
            (Choosy.self, "takes no zeros"),
            (Endless.self, "takes no zeros"),
        ] as [(any PlainRecord.Type, String)])
    func refused(type: any PlainRecord.Type, reason: String) {
        let error = #expect(throws: FlockError.self) { try RecordLayout(of: type) }
        #expect(error?.code == .invalidInput)
        #expect(error?.message.contains(reason) == true, "\(error?.message ?? "")")
        #expect(error?.message.contains("\(type) is no plain record") == true)
    }
}
