// Flockwork · Apache-2.0 · see LICENSE

import FlockModels
import Foundation
import Testing

/// Graphs of the ONNX project's own tests: each folder has a model and sets of inputs and outputs.
@Suite struct ONNXCaseTests {
    private static let folders = Cases.folders("onnx", holding: "model.onnx")

    @Test(
        "ONNX Runtime gives what the ONNX project expects",
        .enabled(
            if: Cases.canRun("onnx", folders) { try Cases.loadONNX() },
            "see the line NOT RUN above"), arguments: folders)
    func onnx(folder: CaseFolder) throws {
        let session = try ONNXSession(path: folder.file("model.onnx"))
        let names = try FileManager.default.contentsOfDirectory(atPath: folder.path)
        let sets = names.filter { $0.hasPrefix("test_data_set_") }
        try #require(!sets.isEmpty)
        for set in sets {
            let inputs = try values(folder.file(set), "input", session.inputs)
            let expected = try values(folder.file(set), "output", session.outputs)
            let found = try session.run(inputs)
            try #require(expected.count == found.count, "\(set)")
            for (index, port) in session.outputs.enumerated() {
                let difference = difference(found[index], expected[index])
                #expect(difference == nil, "\(set), output \(port): \(difference ?? "")")
            }
        }
    }

    @Test("all graphs are asked for where the cases are", .enabled(if: Cases.wantsAll, "only with `make test-libs`"))
    func present() {
        #expect(!Self.folders.isEmpty, "no cases in \(Cases.root.path)")
    }

    @Test("the comparison tells other numbers, shapes, types and texts")
    func comparison() {
        let one = ONNXValue.tensor(.float32, [Float(1), .nan, .infinity], shape: [3])
        #expect(difference(one, one) == nil)
        #expect(difference(.tensor(.float32, [Float(1.002), .nan, .infinity], shape: [3]), one) != nil)
        #expect(difference(.tensor(.float32, [Float(1), 1, .infinity], shape: [3]), one) != nil)
        #expect(difference(.tensor(.float32, [Float(1), .nan, -.infinity], shape: [3]), one) != nil)
        #expect(difference(.tensor(.float32, [Float(1), .nan, .infinity], shape: [3, 1]), one) != nil)
        func half(_ bits: UInt16) -> ONNXValue { .tensor(.float16, [bits], shape: [1]) }
        #expect(difference(half(0x3C00), half(0x3C01)) == nil)
        #expect(difference(half(0x3C00), half(0x3D00)) != nil)
        func byte(_ element: ONNXElement, _ bits: UInt8) -> ONNXValue { .tensor(element, [bits], shape: [1]) }
        #expect(difference(byte(.int8, 1), byte(.int8, 2)) != nil)
        #expect(difference(byte(.int8, 1), byte(.uint8, 1)) != nil)
        #expect(difference(.texts(["a"], shape: [1]), .texts(["b"], shape: [1])) != nil)
        #expect(difference(.sequence([one]), .sequence([one, one])) != nil)
        #expect(difference(.none, one) != nil)
    }

    private func values(_ folder: String, _ name: String, _ ports: [ONNXPort]) throws -> [ONNXValue] {
        var values: [ONNXValue] = []
        for (index, port) in ports.enumerated() {
            let file = "\(folder)/\(name)_\(index).pb"
            guard FileManager.default.fileExists(atPath: file) else { break }
            values.append(try ONNXValue(file: file, kind: port.kind))
        }
        return values
    }

    /// What differs; the tolerance is that of the cases' README (relative 1e-3, absolute 1e-5).
    private func difference(_ found: ONNXValue, _ expected: ONNXValue) -> String? {
        switch (found, expected) {
        case (.sequence(let left), .sequence(let right)):
            guard left.count == right.count else { return "\(left.count) parts, not \(right.count)" }
            for (left, right) in zip(left, right) { if let text = difference(left, right) { return text } }
            return nil
        case (.map(let keys, let values), .map(let otherKeys, let otherValues)):
            return difference(keys, otherKeys) ?? difference(values, otherValues)
        case (.tensor(let element, let shape, _), .tensor(let other, let otherShape, _)):
            guard element == other, shape == otherShape else {
                return "\(element) \(shape) is not \(other) \(otherShape)"
            }
            guard let left = floats(found, element), let right = floats(expected, element) else {
                return found == expected ? nil : "\(found) is not \(expected)"
            }
            let isClose =
                left.count == right.count
                && zip(left, right).allSatisfy { found, expected in
                    if found.isNaN || expected.isNaN { return found.isNaN && expected.isNaN }
                    if found.isInfinite || expected.isInfinite { return found == expected }
                    return abs(found - expected) <= 1e-5 + 1e-3 * abs(expected)
                }
            return isClose ? nil : "\(left.prefix(20)) is not \(right.prefix(20))"
        default: return found == expected ? nil : "\(found) is not \(expected)"
        }
    }

    /// The numbers of a floating type that Swift has, or nearly has.
    private func floats(_ value: ONNXValue, _ element: ONNXElement) -> [Double]? {
        switch element {
        case .float32, .complex64: value.elements(as: Float.self, element)?.map { Double($0) }
        case .float64, .complex128: value.elements(as: Double.self, element)
        case .float16: value.elements(as: UInt16.self, element)?.map(Self.half)
        case .bfloat16:
            value.elements(as: UInt16.self, element)?.map { Double(Float(bitPattern: UInt32($0) << 16)) }
        default: nil
        }
    }

    private static func half(_ bits: UInt16) -> Double {
        let sign = bits & 0x8000 == 0 ? 1.0 : -1.0
        let (exponent, fraction) = (Int(bits >> 10 & 31), Double(bits & 1023))
        if exponent == 31 { return fraction == 0 ? sign * .infinity : .nan }
        return sign
            * (exponent == 0 ? fraction / 1024 * 0x1p-14 : (1 + fraction / 1024) * pow(2, Double(exponent - 15)))
    }
}
