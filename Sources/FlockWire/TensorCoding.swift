// Flockwork · Apache-2.0 · see LICENSE

// Rows, tensors and bytes in `Codable` values. With `WireCoder` their elements are one block, aligned in what is
// written and viewed where it was read; any other coder gets plain fields with a list of numbers.

private enum TensorKeys: String, CodingKey { case dataType, shape, elements }
private enum RowsKeys: String, CodingKey { case width, elements }

extension EncodingState {
    /// One byte that says how many zero bytes follow, so that what comes next starts at a multiple of 16.
    fileprivate func writePadding() {
        let padding = (16 - (writer.count + 1) % 16) % 16
        writer.write(UInt8(padding))
        writer.writeZeros(padding)
    }

    fileprivate func writeTensor(_ tensor: Tensor) {
        writer.write(tensor.dataType.rawValue)
        writer.writeVarint(UInt64(tensor.shape.count))
        for dimension in tensor.shape { writer.writeVarint(UInt64(dimension)) }
        writePadding()
        writer.write(tensor.bytes)
    }

    fileprivate func writeRows<Element>(_ rows: Rows<Element>) {
        writer.write(Element.dataType.rawValue)
        writer.writeVarint(UInt64(rows.count))
        writer.writeVarint(UInt64(rows.width))
        writePadding()
        writer.write(rows.bytes)
    }
}

extension DecodingState {
    /// The parts of a tensor's body: the elements lie at `start ..< end`.
    func tensorParts(_ place: Int) throws -> (dataType: DataType, shape: [Int], start: Int, end: Int) {
        let dataType = try dataType(place)
        var (dimensions, next) = try varint(place + 1)
        guard dimensions <= UInt64(tensorDimensions) else {
            throw WireError.overLimit(.tensorDimensions, "dimensions of a tensor")
        }
        var shape: [Int] = []
        for _ in 0..<dimensions {
            let dimension: UInt64
            (dimension, next) = try varint(next)
            guard let dimension = Int(exactly: dimension) else { throw WireError.malformed("dimension of a tensor") }
            shape.append(dimension)
        }
        let start = try padding(next)
        guard let size = Tensor.size(dataType, shape) else { throw WireError.malformed("shape of a tensor") }
        return (dataType, shape, start, try after(start, size))
    }

    /// The parts of the body of rows.
    func rowsParts(_ place: Int) throws -> (dataType: DataType, count: Int, width: Int, start: Int, end: Int) {
        let dataType = try dataType(place)
        let (count, next) = try varint(place + 1)
        let (width, pad) = try varint(next)
        let start = try padding(pad)
        guard let count = Int(exactly: count), let width = Int(exactly: width), width > 0,
            let size = Tensor.size(dataType, [width, count])
        else { throw WireError.malformed("shape of rows") }
        return (dataType, count, width, start, try after(start, size))
    }

    private func dataType(_ place: Int) throws -> DataType {
        guard place < end else { throw WireError.truncated }
        guard let type = DataType(rawValue: byte(place)) else { throw WireError.malformed("element type") }
        return type
    }

    private func padding(_ place: Int) throws -> Int {
        guard place < end else { throw WireError.truncated }
        guard byte(place) < 16 else { throw WireError.malformed("padding") }
        return try after(place + 1, Int(byte(place)))
    }
}

extension WireDecoder {
    fileprivate func finish(at end: Int) {
        state.lastStart = body
        state.lastEnd = end
    }
}

extension Tensor: Codable {
    public func encode(to encoder: any Encoder) throws {
        if let encoder = encoder as? WireEncoder {
            try encoder.state.setKind(WireFormat.tensor, at: encoder.head, body: encoder.body)
            return encoder.state.writeTensor(self)
        }
        var container = encoder.container(keyedBy: TensorKeys.self)
        try container.encode(dataType, forKey: .dataType)
        try container.encode(shape, forKey: .shape)
        switch dataType {
        case .float32: try container.encode(elements(of: Float.self), forKey: .elements)
        case .float64: try container.encode(elements(of: Double.self), forKey: .elements)
        case .int32: try container.encode(elements(of: Int32.self), forKey: .elements)
        case .int64: try container.encode(elements(of: Int64.self), forKey: .elements)
        case .uint8: try container.encode(elements(of: UInt8.self), forKey: .elements)
        }
    }

    public init(from decoder: any Decoder) throws {
        if let decoder = decoder as? WireDecoder {
            guard decoder.kind == WireFormat.tensor else { throw decoder.state.mismatch(Tensor.self, decoder.value) }
            let (dataType, shape, start, end) = try decoder.state.tensorParts(decoder.body)
            decoder.finish(at: end)
            self.init(
                unchecked: dataType, shape: shape,
                bytes: decoder.state.bytes.slice(from: start, count: end - start))
            return
        }
        let container = try decoder.container(keyedBy: TensorKeys.self)
        let dataType = try container.decode(DataType.self, forKey: .dataType)
        let shape = try container.decode([Int].self, forKey: .shape)
        func bytes<Element: RowElement>(_ type: Element.Type) throws -> Bytes {
            try container.decode([Element].self, forKey: .elements).withUnsafeBytes { Bytes(copying: $0) }
        }
        let elements =
            switch dataType {
            case .float32: try bytes(Float.self)
            case .float64: try bytes(Double.self)
            case .int32: try bytes(Int32.self)
            case .int64: try bytes(Int64.self)
            case .uint8: try bytes(UInt8.self)
            }
        try self.init(dataType, shape: shape, bytes: elements)
    }
}

extension Rows: Codable {
    public func encode(to encoder: any Encoder) throws {
        if let encoder = encoder as? WireEncoder {
            try encoder.state.setKind(WireFormat.rows, at: encoder.head, body: encoder.body)
            return encoder.state.writeRows(self)
        }
        var container = encoder.container(keyedBy: RowsKeys.self)
        try container.encode(width, forKey: .width)
        try container.encode(elements, forKey: .elements)
    }

    public init(from decoder: any Decoder) throws {
        if let decoder = decoder as? WireDecoder {
            guard decoder.kind == WireFormat.rows else { throw decoder.state.mismatch(Self.self, decoder.value) }
            let (dataType, count, width, start, end) = try decoder.state.rowsParts(decoder.body)
            guard dataType == Element.dataType else { throw decoder.state.mismatch(Self.self, decoder.value) }
            decoder.finish(at: end)
            self.init(decoder.state.bytes.slice(from: start, count: end - start), count: count, width: width)
            return
        }
        let container = try decoder.container(keyedBy: RowsKeys.self)
        let width = try container.decode(Int.self, forKey: .width)
        let elements = try container.decode([Element].self, forKey: .elements)
        guard width > 0, elements.count % width == 0 else {
            throw FlockError(.invalidInput, "\(elements.count) elements are no rows of \(width)")
        }
        self.init(elements, width: width)
    }
}

extension Bytes: Codable {
    public func encode(to encoder: any Encoder) throws {
        if let encoder = encoder as? WireEncoder {
            try encoder.state.setKind(WireFormat.bytes, at: encoder.head, body: encoder.body)
            return encoder.state.writer.writeBlock(self)
        }
        var container = encoder.singleValueContainer()
        try container.encode(array)
    }

    public init(from decoder: any Decoder) throws {
        if let decoder = decoder as? WireDecoder {
            guard decoder.kind == WireFormat.bytes else { throw decoder.state.mismatch(Bytes.self, decoder.value) }
            let (count, start) = try decoder.state.length(decoder.body)
            decoder.finish(at: start + count)
            self = decoder.state.bytes.slice(from: start, count: count)
            return
        }
        self.init(try decoder.singleValueContainer().decode([UInt8].self))
    }
}
