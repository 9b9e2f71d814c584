// Flockwork · Apache-2.0 · see LICENSE

// A graph that scores rows: one input of 32-bit floats, of which the first dimension counts rows. The rows' memory is
// the input, and the scores' memory is the output, so nothing is copied on our side.

public import FlockWire

/// An ONNX graph as a model of rows.
public final class ONNXModel: Model {
    public let inputWidth: Int
    public let outputWidth: Int
    public var isBlocking: Bool { true }
    private typealias Object = ONNXLibrary.Object

    /// How scores come out of the graph.
    private enum Form: Equatable {
        /// As they are wanted: the library writes them into the caller's memory.
        case floats
        /// A tensor of other numbers, each of which is converted.
        case numbers(ONNXElement)
        /// What scikit-learn's converter makes unless `zipmap` is off: for each row a map from class to probability.
        case maps
    }

    private let session: ONNXSession
    private let output: Int
    private let form: Form
    private let outputName: CNames
    /// Dimensions of the input and of a tensor that comes out; the first counts rows.
    private let inputShape: [Int64]
    private let outputShape: [Int64]
    /// Rows of every run, if the graph was exported for one number of them; else 0.
    private let fixedRows: Int

    /// Loads a model.
    ///
    /// - Parameters:
    ///   - path: a `.onnx` file with one input, float32 `[N, …]`; a row holds all elements of the other dimensions.
    ///   - output: the output with the scores; nil = the first float32 tensor, else the first sequence of maps
    ///     (`zipmap`), else the first tensor of other numbers.
    ///   - library: the path of `libonnxruntime.so`; nil = searched for.
    ///
    /// Throws `modelLoadFailed`, naming the file and what is wrong.
    public init(path: String, output name: String? = nil, library: String? = nil) throws(FlockError) {
        let session = try ONNXSession(path: path, library: library)
        do throws(FlockError) {
            self.session = session
            let shape = try Self.inputShape(session.inputs)
            fixedRows = max(shape[0], 0)
            inputWidth = shape.dropFirst().reduce(1, *)
            inputShape = shape.map { Int64($0) }
            output = try Self.output(session.outputs, named: name)
            outputName = CNames([session.outputs[output].name])
            (form, outputShape, outputWidth) = try Self.probe(session, output, outputName, shape)
        } catch {
            throw FlockError(error.code, "ONNX model \(path): \(error.message)", cause: error.cause)
        }
    }

    private static func inputShape(_ inputs: [ONNXPort]) throws(FlockError) -> [Int] {
        let list = inputs.map(\.description).joined(separator: ", ")
        guard inputs.count == 1, let input = inputs.first else {
            throw FlockError(
                .modelLoadFailed, "it has \(inputs.count) inputs (\(list)); a model of rows has one. Use ONNXSession")
        }
        guard input.kind == .tensor, input.element == .float32 else {
            throw FlockError(.modelLoadFailed, "its input is \(list); a model of rows takes float32")
        }
        guard input.shape.count >= 2, input.shape.dropFirst().allSatisfy({ $0 > 0 }), input.shape[0] != 0,
            let width = ONNXElement.elements(of: input.shape.dropFirst()), width < 1 << 24
        else {
            throw FlockError(
                .modelLoadFailed,
                "its input is \(list); all dimensions but the first, which counts rows, must be fixed and there")
        }
        return input.shape
    }

    private static func output(_ outputs: [ONNXPort], named name: String?) throws(FlockError) -> Int {
        if let name {
            if let index = outputs.firstIndex(where: { $0.name == name }) { return index }
        } else {
            let tests: [(ONNXPort) -> Bool] = [
                { $0.element == .float32 }, { $0.kind == .sequence }, { $0.element.map(isNumeric) ?? false },
            ]
            for test in tests { if let index = outputs.firstIndex(where: test) { return index } }
        }
        let list = outputs.map(\.description).joined(separator: ", ")
        throw FlockError(
            .modelLoadFailed, "no output \(name.map { "\"\($0)\"" } ?? "of numbers"); there are \(list)")
    }

    private static func isNumeric(_ element: ONNXElement) -> Bool {
        [.float32, .float64, .int64, .int32, .bool].contains(element)
    }

    /// Runs the graph on zeros, since declared shapes may be open or wrong.
    private static func probe(
        _ session: ONNXSession, _ output: Int, _ name: CNames, _ shape: [Int]
    ) throws(FlockError) -> (Form, [Int64], Int) {
        // Two rows, to see that the first dimension of the output counts them.
        let rows = shape[0] > 0 ? shape[0] : 2
        let shape = [rows] + shape.dropFirst()
        let width = shape.dropFirst().reduce(1, *)
        let (size, overflow) = rows.multipliedReportingOverflow(by: width)
        guard !overflow, size < 1 << 28 else {
            throw FlockError(.modelLoadFailed, "its input of \(rows) rows of \(width) is too large")
        }
        var zeros = [Float](repeating: 0, count: size)
        let value = try run(session, name, &zeros, shape.map { Int64($0) }, .modelLoadFailed)
        defer { session.library.freeValue(value) }
        let port = session.outputs[output].description
        switch try session.library.read(value) {
        case .tensor(let element, let result, _):
            guard isNumeric(element), result.first == rows else {
                throw FlockError(
                    .modelLoadFailed,
                    "output \(port) gives \(element) \(result) for \(rows) rows; scores are numbers, row by row")
            }
            guard let width = ONNXElement.elements(of: result.dropFirst()), width > 0 else {
                throw FlockError(.modelLoadFailed, "output \(port) gives no scores")
            }
            return (element == .float32 ? .floats : .numbers(element), result.map { Int64($0) }, width)
        case .sequence(let maps) where maps.count == rows:
            let widths = Set(maps.map { map in probabilities(map)?.count ?? 0 })
            if widths.count == 1, let width = widths.first, width > 0 { return (.maps, [], width) }
        default: break
        }
        throw FlockError(.modelLoadFailed, "output \(port) gives neither numbers nor a map of floats for each row")
    }

    private static func probabilities(_ value: ONNXValue) -> [Float]? {
        guard case .map(_, let values) = value else { return nil }
        return values.elements(as: Float.self, .float32)
    }

    public func score(_ rows: Rows<Float>, into scores: UnsafeMutableBufferPointer<Float>) throws {
        try checkWidth(of: rows)
        precondition(scores.count >= rows.count * outputWidth, "room for \(scores.count) scores of \(rows.count) rows")
        guard rows.count > 0, let target = scores.baseAddress else { return }
        try rows.withElements { (elements) throws(FlockError) in
            guard let source = elements.baseAddress else { return }
            // The library only reads its inputs.
            let rowsAt = UnsafeMutablePointer(mutating: source)
            guard fixedRows > 0 else { return try score(rowsAt, rows.count, into: target) }
            var first = 0
            while first + fixedRows <= rows.count {
                try score(rowsAt + first * inputWidth, fixedRows, into: target + first * outputWidth)
                first += fixedRows
            }
            if first < rows.count {
                try scorePadded(source + first * inputWidth, rows.count - first, into: target + first * outputWidth)
            }
        }
    }

    /// Scores fewer rows than the graph takes: the others are zeros.
    private func scorePadded(
        _ source: UnsafePointer<Float>, _ rows: Int, into target: UnsafeMutablePointer<Float>
    ) throws(FlockError) {
        var input = [Float](repeating: 0, count: fixedRows * inputWidth)
        var output = [Float](repeating: 0, count: fixedRows * outputWidth)
        input.replaceSubrange(0..<rows * inputWidth, with: UnsafeBufferPointer(start: source, count: rows * inputWidth))
        try score(&input, fixedRows, into: &output)
        target.update(from: output, count: rows * outputWidth)
    }

    private func score(
        _ source: UnsafeMutablePointer<Float>, _ rows: Int, into target: UnsafeMutablePointer<Float>
    ) throws(FlockError) {
        let library = session.library
        var shape = inputShape
        shape[0] = Int64(rows)
        guard form == .floats else {
            let value = try Self.run(session, outputName, source, shape, .stageFailed)
            defer { library.freeValue(value) }
            try convert(library.read(value), rows, into: target)
            return
        }
        var result = outputShape
        result[0] = Int64(rows)
        let ready = try library.made(.stageFailed) { out in
            library.createTensorOnData(
                library.memory, target, rows * outputWidth * 4, result, result.count, ONNXElement.float32.rawValue, out)
        }
        defer { library.freeValue(ready) }
        let value = try Self.run(session, outputName, source, shape, .stageFailed, into: ready)
        precondition(value == ready, "ONNX Runtime put the scores elsewhere")
    }

    private func convert(_ value: ONNXValue, _ rows: Int, into target: UnsafeMutablePointer<Float>) throws(FlockError) {
        let scores: [Float]?
        switch (form, value) {
        case (.maps, .sequence(let maps)):
            let lists = maps.compactMap(Self.probabilities)
            scores = lists.allSatisfy { $0.count == outputWidth } ? Array(lists.joined()) : nil
        case (.numbers(.float64), _): scores = value.elements(as: Double.self, .float64)?.map { Float($0) }
        case (.numbers(.int64), _): scores = value.elements(as: Int64.self, .int64)?.map { Float($0) }
        case (.numbers(.int32), _): scores = value.elements(as: Int32.self, .int32)?.map { Float($0) }
        case (.numbers(.bool), _): scores = value.elements(as: UInt8.self, .bool)?.map { Float($0) }
        default: scores = nil
        }
        guard let scores, scores.count == rows * outputWidth else {
            throw FlockError(.stageFailed, "ONNX Runtime gave other scores than \(rows) rows of \(outputWidth)")
        }
        target.update(from: scores, count: scores.count)
    }

    /// Runs the graph on rows where they lie; the output is the caller's to free, unless it gave one.
    private static func run(
        _ session: ONNXSession, _ output: CNames, _ source: UnsafeMutablePointer<Float>, _ shape: [Int64],
        _ code: FlockError.Code, into ready: Object? = nil
    ) throws(FlockError) -> Object {
        let library = session.library
        let size = 4 * Int(shape.reduce(1, *))
        var input: Object? = try library.made(code) { out in
            library.createTensorOnData(
                library.memory, source, size, shape, shape.count, ONNXElement.float32.rawValue, out)
        }
        defer { library.freeValue(input) }
        var result = ready
        try library.check(
            library.run(session.handle, nil, session.inputNames.start, &input, 1, output.start, 1, &result), code)
        guard let result else { throw FlockError(code, "ONNX Runtime gave no output") }
        return result
    }
}
