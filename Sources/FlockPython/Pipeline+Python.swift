// Flockwork · Apache-2.0 · see LICENSE

// Steps of a pipeline that a Python function takes. An instance is a worker process; it has `window` batches at once,
// so that the next one is there when it has done one.

internal import FlockGRPC
public import FlockWire
public import Flockwork

extension Pipeline where Output: Codable {
    fileprivate func python<New: Sendable>(
        _ model: PythonModel, _ form: PythonForm, batch: BatchPolicy?, instances: Instances?, labels: [String]?,
        call: @escaping @Sendable (PythonPool, Batch<Output>) async throws -> Batch<New>
    ) -> Pipeline<Input, New> {
        service(
            model.name, key: model.identity, batch: batch, instances: instances, labels: labels,
            window: model.options.window,
            open: { context in try await PythonPool.open(model, form, for: context) },
            executor: { $0.queue.taskExecutor }, call: call)
    }
}

extension Pipeline where Output == String {
    /// Has a Python function make a string of each string: `list` of `str` in, `list` of `str` out.
    public func model(
        _ model: PythonModel, batch: BatchPolicy? = nil, instances: Instances? = nil, labels: [String]? = nil
    ) -> Pipeline<Input, String> {
        python(model, .strings, batch: batch, instances: instances, labels: labels) { pool, batch in
            let results = try await pool.process(.strings(batch.items))
            guard case .strings(let strings) = results else { throw results.is(not: "str", from: model) }
            return batch.replacing(strings)
        }
    }
}

extension Pipeline where Output == Bytes {
    /// Has a Python function make bytes of each item's bytes: `list` of `bytes` in, `list` of `bytes` out.
    public func model(
        _ model: PythonModel, batch: BatchPolicy? = nil, instances: Instances? = nil, labels: [String]? = nil
    ) -> Pipeline<Input, Bytes> {
        python(model, .byteStrings, batch: batch, instances: instances, labels: labels) { pool, batch in
            let results = try await pool.process(.byteStrings(batch.items))
            guard case .byteStrings(let strings) = results else { throw results.is(not: "bytes", from: model) }
            return batch.replacing(strings)
        }
    }
}

extension Pipeline where Output == Row {
    /// Has a Python function score rows: one `float32` array of shape `[rows, width]` in, one number a row out.
    public func model(
        _ model: PythonModel, batch: BatchPolicy? = nil, instances: Instances? = nil, labels: [String]? = nil
    ) -> Pipeline<Input, Float> {
        rows(model, outputs: 1, batch: batch, instances: instances, labels: labels, as: Float.self)
    }

    /// Has a Python function score rows: one `float32` array of shape `[rows, width]` in, one of `[rows, outputs]` out.
    public func model(
        _ model: PythonModel, outputs: Int, batch: BatchPolicy? = nil, instances: Instances? = nil,
        labels: [String]? = nil
    ) -> Pipeline<Input, Row> {
        rows(model, outputs: outputs, batch: batch, instances: instances, labels: labels, as: Row.self)
    }

    private func rows<New: Sendable>(
        _ model: PythonModel, outputs: Int, batch: BatchPolicy?, instances: Instances?, labels: [String]?,
        as type: New.Type
    ) -> Pipeline<Input, New> {
        precondition(outputs > 0, "a model with \(outputs) outputs")
        return python(model, .array, batch: batch, instances: instances, labels: labels) { pool, batch in
            let results = try await pool.process(.array(Tensor(batch.rows())))
            return batch.replacing(rows: try results.rows(width: outputs, from: model), as: New.self)
        }
    }
}

extension Pipeline where Output == Tensor {
    /// Has a Python function make a tensor of each tensor. The tensors of a batch must be of one type and shape; the
    /// function gets them as one array with a dimension more, which counts them.
    public func model(
        _ model: PythonModel, batch: BatchPolicy? = nil, instances: Instances? = nil, labels: [String]? = nil
    ) -> Pipeline<Input, Tensor> {
        python(model, .array, batch: batch, instances: instances, labels: labels) { pool, batch in
            let results = try await pool.process(.array(try Tensor(stacking: batch.items)))
            guard case .array(let tensor) = results else { throw results.is(not: "an array", from: model) }
            return batch.replacing(try tensor.unstacked())
        }
    }
}

extension Pipeline {
    /// Has a Python function score one part of each item, and makes something of the item and its score.
    public func score<New: Sendable>(
        _ model: PythonModel, on features: any KeyPath<Output, Row> & Sendable,
        batch: BatchPolicy? = nil, instances: Instances? = nil, labels: [String]? = nil,
        _ combine: @escaping @Sendable (Output, Float) throws -> New
    ) -> Pipeline<Input, New> where Output: Codable {
        python(model, .array, batch: batch, instances: instances, labels: labels) { pool, batch in
            let items = batch.items
            let rows = try Batch(items.map { $0[keyPath: features] }).rows()
            let scores = try await pool.process(.array(Tensor(rows))).rows(width: 1, from: model)
            return batch.replacing(
                try scores.withElements { scores in try items.indices.map { try combine(items[$0], scores[$0]) } })
        }
    }
}

extension PythonItems {
    /// An array of shape `[items]` (for a width of 1) or `[items, width]`; in place if it is of `float32`.
    func rows(width: Int, from model: PythonModel) throws(FlockError) -> Rows<Float> {
        guard case .array(let tensor) = self else { throw self.is(not: "numbers", from: model) }
        guard tensor.count == count * width, tensor.shape.dropFirst().allSatisfy({ $0 == 1 || $0 == width }) else {
            throw FlockError(
                .badBatch,
                "The Python handler returned an array of shape \(tensor.shape); "
                    + "the pipeline expects [\(count), \(width)].",
                stage: model.name)
        }
        switch tensor.dataType {
        case .float32: return Rows(tensor.bytes, count: count, width: width)
        case .float64: return Self.rows(tensor, width, of: Double.self) { Float($0) }
        case .int32: return Self.rows(tensor, width, of: Int32.self) { Float($0) }
        case .int64: return Self.rows(tensor, width, of: Int64.self) { Float($0) }
        case .uint8: return Self.rows(tensor, width, of: UInt8.self) { Float($0) }
        }
    }

    private static func rows<Element: RowElement>(
        _ tensor: Tensor, _ width: Int, of type: Element.Type, _ convert: (Element) -> Float
    ) -> Rows<Float> {
        let rows = tensor.withElements(of: type) { elements in
            Rows<Float>(count: elements.count / width, width: width) { target in
                for index in elements.indices { target[index] = convert(elements[index]) }
            }
        }
        guard let rows else { preconditionFailure("a tensor of \(tensor.dataType) read as \(type)") }
        return rows
    }

    fileprivate func `is`(not expected: String, from model: PythonModel) -> FlockError {
        let kind =
            switch self {
            case .strings: "a list of str"
            case .byteStrings: "a list of bytes"
            case .array(let tensor): "an array of \(tensor.dataType)"
            }
        return FlockError(
            .badBatch, "The Python handler returned \(kind); the pipeline expects \(expected).", stage: model.name)
    }
}

extension Tensor {
    /// Tensors of one type and shape, with a dimension in front that counts them.
    init(stacking tensors: [Tensor]) throws(FlockError) {
        guard let first = tensors.first,
            tensors.allSatisfy({ $0.dataType == first.dataType && $0.shape == first.shape })
        else { throw FlockError(.invalidInput, "The tensors of a batch must be of one type and shape.") }
        let size = first.bytes.count
        let bytes = Bytes(count: size * tensors.count) { target in
            for (index, tensor) in tensors.enumerated() {
                tensor.bytes.withUnsafeBytes { source in
                    UnsafeMutableRawBufferPointer(rebasing: target[index * size..<(index + 1) * size])
                        .copyMemory(from: source)
                }
            }
        }
        try self.init(first.dataType, shape: [tensors.count] + first.shape, bytes: bytes)
    }

    /// The tensors that the first dimension counts, on the same memory.
    func unstacked() throws(FlockError) -> [Tensor] {
        let count = shape.first ?? 0
        let size = count == 0 ? 0 : bytes.count / count
        var tensors: [Tensor] = []
        for index in 0..<count {
            tensors.append(
                try Tensor(
                    dataType, shape: Array(shape.dropFirst()), bytes: bytes.slice(from: index * size, count: size)))
        }
        return tensors
    }
}
