// Flockwork · Apache-2.0 · see LICENSE

// A graph with any inputs and outputs. A session may run in several threads at once, so one serves all instances.

public import FlockWire
import Glibc

/// An ONNX graph that is loaded and optimised.
public final class ONNXSession: Sendable {
    typealias Object = ONNXLibrary.Object

    public let inputs: [ONNXPort]
    public let outputs: [ONNXPort]
    let library: ONNXLibrary
    // Made before the session is shared and freed after its last use; ONNX Runtime documents running as thread-safe.
    nonisolated(unsafe) let handle: Object
    let inputNames: CNames
    let outputNames: CNames

    /// Loads a graph.
    ///
    /// - Parameters:
    ///   - path: a `.onnx` file; data that it keeps in other files is looked for beside it.
    ///   - library: the path of `libonnxruntime.so`; nil = searched for.
    ///
    /// Throws `modelLoadFailed`, naming the file and what is wrong.
    public init(path: String, library: String? = nil) throws(FlockError) {
        do throws(FlockError) {
            try ModelFile.check(path)
            let library = try ONNXLibrary.shared(explicit: library)
            self.library = library
            handle = try library.session(path: path)
            do throws(FlockError) {
                inputs = try Self.ports(handle, library, library.countInputs, library.inputType, library.inputName)
                outputs = try Self.ports(handle, library, library.countOutputs, library.outputType, library.outputName)
                inputNames = CNames(inputs.map(\.name))
                outputNames = CNames(outputs.map(\.name))
            } catch {
                library.freeSession(handle)
                throw error
            }
        } catch {
            throw FlockError(error.code, "ONNX model \(path): \(error.message)", cause: error.cause)
        }
    }

    deinit { library.freeSession(handle) }

    private static func ports(
        _ session: Object, _ library: ONNXLibrary, _ count: ONNXLibrary.ReadCount, _ type: ONNXLibrary.ReadAt,
        _ name: ONNXLibrary.ReadName
    ) throws(FlockError) -> [ONNXPort] {
        var ports: [ONNXPort] = []
        for index in 0..<(try library.count { count(session, $0) }) {
            let name = try library.name(name, session, index)
            let info = try library.made { type(session, index, $0) }
            defer { library.freeType(info) }
            let kind = ONNXPort.Kind(rawValue: try library.number { library.kindOfType(info, $0) }) ?? .unknown
            guard kind == .tensor else {
                ports.append(ONNXPort(name: name, kind: kind, element: nil, shape: []))
                continue
            }
            // A part of `info`, which keeps it.
            let tensor = try library.made { library.tensorInfo(info, $0) }
            let (element, shape) = try library.shape(tensor, .modelLoadFailed)
            ports.append(ONNXPort(name: name, kind: kind, element: element, shape: shape))
        }
        return ports
    }

    /// Runs the graph.
    ///
    /// - Parameter values: one for each of `inputs`, in their order; fewer leave out the last, which must be optional.
    /// - Returns: one for each of `outputs`.
    ///
    /// Throws `invalidInput` for values that are no values of their type, `stageFailed` for what the library refuses.
    public func run(_ values: [ONNXValue]) throws(FlockError) -> [ONNXValue] {
        guard values.count <= inputs.count else {
            throw FlockError(.invalidInput, "\(values.count) values for \(inputs.count) inputs")
        }
        var given: [Object?] = []
        var results = [Object?](repeating: nil, count: outputs.count)
        defer {
            for value in given { library.freeValue(value) }
            for value in results { library.freeValue(value) }
        }
        for value in values { given.append(try library.make(value)) }
        try library.check(
            library.run(
                handle, nil, inputNames.start, given, given.count, outputNames.start, results.count, &results),
            .stageFailed)
        var outcome: [ONNXValue] = []
        for result in results {
            guard let result else {
                outcome.append(.none)
                continue
            }
            outcome.append(try library.read(result))
        }
        return outcome
    }
}

/// Names as C texts, kept for as long as the session lives.
final class CNames: Sendable {
    // Written once, before it is shared.
    nonisolated(unsafe) let start: UnsafeMutablePointer<UnsafePointer<CChar>?>
    private let count: Int

    init(_ names: [String]) {
        count = names.count
        start = .allocate(capacity: max(names.count, 1))
        start.initialize(repeating: nil, count: max(names.count, 1))
        for (index, name) in names.enumerated() { start[index] = UnsafePointer(strdup(name)) }
    }

    deinit {
        for index in 0..<count { free(UnsafeMutablePointer(mutating: start[index])) }
        start.deallocate()
    }
}

/// Values in the library's form and back.
extension ONNXLibrary {
    private static let sequence: Int32 = 2
    private static let map: Int32 = 3

    /// The library's copy of a value, which is the caller's to free.
    func make(_ value: ONNXValue) throws(FlockError) -> Object {
        switch value {
        case .tensor(let element, let shape, let bytes):
            guard let size = element.bytes(of: shape), size == bytes.count else {
                throw FlockError(.invalidInput, "\(bytes.count) bytes are no \(element) tensor of the shape \(shape)")
            }
            let tensor = try makeTensor(element, shape)
            guard size > 0 else { return tensor }
            do throws(FlockError) {
                let data = try made(.stageFailed) { tensorData(tensor, $0) }
                UnsafeMutableRawBufferPointer(start: data, count: size).copyBytes(from: bytes)
                return tensor
            } catch {
                freeValue(tensor)
                throw error
            }
        case .texts(let texts, let shape):
            guard ONNXElement.elements(of: shape) == texts.count else {
                throw FlockError(.invalidInput, "\(texts.count) texts are no tensor of the shape \(shape)")
            }
            let tensor = try makeTensor(.text, shape)
            let names = CNames(texts)
            do throws(FlockError) {
                try check(fillTexts(tensor, names.start, texts.count), .stageFailed)
                return tensor
            } catch {
                freeValue(tensor)
                throw error
            }
        case .sequence(let values): return try make(values, kind: Self.sequence)
        case .map(let keys, let values): return try make([keys, values], kind: Self.map)
        case .none: throw FlockError(.invalidInput, "an input without a value; leave it out")
        }
    }

    private func makeTensor(_ element: ONNXElement, _ shape: [Int]) throws(FlockError) -> Object {
        let shape = shape.map { Int64($0) }
        return try made(.stageFailed) { createTensor(allocator, shape, shape.count, element.rawValue, $0) }
    }

    private func make(_ values: [ONNXValue], kind: Int32) throws(FlockError) -> Object {
        var parts: [Object?] = []
        // The library shares what the parts hold.
        defer { for part in parts { freeValue(part) } }
        for value in values { parts.append(try make(value)) }
        return try made(.stageFailed) { createValue(parts, parts.count, kind, $0) }
    }

    /// A copy of the library's value.
    func read(_ value: Object) throws(FlockError) -> ONNXValue {
        let number = try number(.stageFailed) { kindOfValue(value, $0) }
        switch ONNXPort.Kind(rawValue: number) {
        case .tensor: return try readTensor(value)
        case .sequence:
            var values: [ONNXValue] = []
            for index in 0..<(try count(.stageFailed) { countValues(value, $0) }) {
                values.append(try part(value, index))
            }
            return .sequence(values)
        case .map: return .map(keys: try part(value, 0), values: try part(value, 1))
        case .optional, .unknown: return .none
        default: throw FlockError(.stageFailed, "an ONNX value of kind \(number) cannot be read")
        }
    }

    private func part(_ value: Object, _ index: Int) throws(FlockError) -> ONNXValue {
        let part = try made(.stageFailed) { valueAt(value, Int32(index), allocator, $0) }
        defer { freeValue(part) }
        return try read(part)
    }

    private func readTensor(_ value: Object) throws(FlockError) -> ONNXValue {
        let (element, shape) = try shape(ofValue: value)
        if element == .text { return try readTexts(value, shape) }
        guard let size = element.bytes(of: shape) else {
            throw FlockError(.stageFailed, "an ONNX tensor of \(element) \(shape) cannot be read")
        }
        guard size > 0 else { return .tensor(element, shape: shape, bytes: []) }
        let data = try made(.stageFailed) { tensorData(value, $0) }
        return .tensor(element, shape: shape, bytes: [UInt8](UnsafeRawBufferPointer(start: data, count: size)))
    }

    private func readTexts(_ value: Object, _ shape: [Int]) throws(FlockError) -> ONNXValue {
        let size = try count(.stageFailed) { textBytes(value, $0) }
        guard let texts = ONNXElement.elements(of: shape), texts > 0 else { return .texts([], shape: shape) }
        var bytes = [UInt8](repeating: 0, count: max(size, 1))
        var starts = [Int](repeating: 0, count: texts)
        try check(readTexts(value, &bytes, size, &starts, texts), .stageFailed)
        let ends = starts.dropFirst() + [size]
        return .texts(zip(starts, ends).map { String(decoding: bytes[$0..<$1], as: UTF8.self) }, shape: shape)
    }

    /// Element type and shape of a tensor.
    func shape(ofValue value: Object) throws(FlockError) -> (ONNXElement, [Int]) {
        let info = try made(.stageFailed) { shapeOfValue(value, $0) }
        defer { freeShape(info) }
        return try shape(info, .stageFailed)
    }

    /// Element type and shape; -1 for a dimension that is left open.
    func shape(_ info: Object, _ code: FlockError.Code) throws(FlockError) -> (ONNXElement, [Int]) {
        let element = ONNXElement(rawValue: try number(code) { elementType(info, $0) })
        let dimensions = try count(code) { countDimensions(info, $0) }
        var shape = [Int64](repeating: 0, count: dimensions)
        try check(readDimensions(info, &shape, dimensions), code)
        return (element, shape.map { Int($0) })
    }
}
