// Flockwork · Apache-2.0 · see LICENSE

// Protos/python_worker.proto by hand, both ways: batches are written in one piece from where the items lie, and results
// are read without a copy of their elements.

public import FlockWire

/// What a handler is given for a batch, and gives back.
public enum PythonItems: Sendable, Equatable {
    /// A list of `str`.
    case strings([String])
    /// A list of `bytes`.
    case byteStrings([Bytes])
    /// One NumPy array, its first dimension counting items.
    case array(Tensor)

    /// Items.
    public var count: Int {
        switch self {
        case .strings(let items): items.count
        case .byteStrings(let items): items.count
        case .array(let tensor): tensor.shape.first ?? 0
        }
    }
}

/// How items are given to a handler.
public enum PythonForm: Int, Sendable, Hashable {
    /// A list of `str`: Hazelcast Jet's contract, `transform_list(list) -> list`.
    case strings = 0
    /// A list of `bytes`.
    case byteStrings = 1
    /// One NumPy array a batch.
    case array = 2
}

/// What a worker says.
enum WorkerMessage: Sendable {
    /// The handler is loaded.
    case ready(WorkerReady)
    /// The handler could not be loaded.
    case failed(PythonException)
    /// What became of a batch.
    case result(WorkerAnswer)
}

/// What became of a batch; results are still as they came.
struct WorkerAnswer: Sendable {
    enum Content: Sendable {
        case items(field: UInt64, Bytes)
        case failed(PythonException)
    }

    var sequence: UInt64 = 0
    /// Time in the handler.
    var busyNanoseconds: UInt64 = 0
    var content: Content
}

/// What a worker says of itself when its handler is loaded.
struct WorkerReady: Sendable, Equatable {
    var pythonVersion = ""
    var process: UInt32 = 0
    var loadNanoseconds: UInt64 = 0
    /// "name version", one a line.
    var packages = ""
}

/// An exception of a handler.
struct PythonException: Error, Sendable, Equatable {
    /// Its class.
    var type = ""
    var message = ""
    var traceback = ""
}

// MARK: To the worker

enum WorkerRequest {
    static func open(folder: String, module: String, function: String, form: PythonForm, resultLimit: Int) -> Bytes {
        var open = ByteWriter(capacity: 256)
        open.writeField(1, text: folder)
        open.writeField(2, text: module)
        open.writeField(3, text: function)
        open.writeField(4, number: UInt64(form.rawValue))
        open.writeField(5, number: UInt64(resultLimit))
        var message = ByteWriter(capacity: 300)
        message.writeField(1, bytes: open.finish())
        return message.finish()
    }

    static func batch(sequence: UInt64, _ items: PythonItems) -> Bytes {
        let field: Int
        let body: Int
        switch items {
        case .strings(let strings):
            field = 3
            body = strings.reduce(0) { $0 + Self.fieldSize($1.utf8.count) }
        case .byteStrings(let strings):
            field = 4
            body = strings.reduce(0) { $0 + Self.fieldSize($1.count) }
        case .array(let tensor):
            field = 5
            body = 2 + Self.fieldSize(Self.shapeSize(tensor)) + Self.fieldSize(tensor.bytes.count)
        }
        let head = 2 + Self.varintSize(sequence) + Self.varintSize(UInt64(items.count))
        let batch = head + Self.fieldSize(body)
        var writer = ByteWriter(capacity: Self.fieldSize(batch) + 16)
        writer.writeHead(2, count: batch)
        writer.writeField(1, number: sequence)
        writer.writeField(2, number: UInt64(items.count))
        writer.writeHead(field, count: body)
        switch items {
        case .strings(let strings): writer.writeTexts(strings, bytes: body)
        case .byteStrings(let strings): for string in strings { writer.writeField(1, bytes: string) }
        case .array(let tensor):
            writer.writeField(1, number: UInt64(tensor.dataType.rawValue))
            writer.writeHead(2, count: Self.shapeSize(tensor))
            for dimension in tensor.shape { writer.writeVarint(UInt64(dimension)) }
            writer.writeField(3, bytes: tensor.bytes)
        }
        return writer.finish()
    }

    private static func fieldSize(_ count: Int) -> Int { 1 + varintSize(UInt64(count)) + count }

    private static func shapeSize(_ tensor: Tensor) -> Int {
        tensor.shape.reduce(0) { $0 + varintSize(UInt64($1)) }
    }

    private static func varintSize(_ value: UInt64) -> Int { max(1, (70 - value.leadingZeroBitCount) / 7) }
}

extension ByteWriter {
    fileprivate mutating func writeField(_ field: Int, number: UInt64) {
        writeVarint(UInt64(field << 3))
        writeVarint(number)
    }

    fileprivate mutating func writeHead(_ field: Int, count: Int) {
        writeVarint(UInt64(field << 3 | 2))
        writeVarint(UInt64(count))
    }

    fileprivate mutating func writeField(_ field: Int, bytes: Bytes) {
        writeVarint(UInt64(field << 3 | 2))
        writeBlock(bytes)
    }

    /// Each as field 1, in `bytes` bytes: with one look at the room for all of them.
    fileprivate mutating func writeTexts(_ texts: [String], bytes: Int) {
        reserve(bytes) { target in
            guard var at = target.baseAddress else { return 0 }
            for var text in texts {
                text.withUTF8 { utf8 in
                    at.storeBytes(of: 1 << 3 | 2, as: UInt8.self)
                    at += 1
                    var rest = utf8.count
                    while rest >= 0x80 {
                        at.storeBytes(of: UInt8(truncatingIfNeeded: rest) | 0x80, as: UInt8.self)
                        at += 1
                        rest >>= 7
                    }
                    at.storeBytes(of: UInt8(rest), as: UInt8.self)
                    at += 1
                    guard let from = utf8.baseAddress, utf8.count > 0 else { return }
                    at.copyMemory(from: from, byteCount: utf8.count)
                    at += utf8.count
                }
            }
            return bytes
        }
    }

    fileprivate mutating func writeField(_ field: Int, text: String) {
        writeVarint(UInt64(field << 3 | 2))
        writeText(text)
    }
}

// MARK: From the worker

extension WorkerMessage {
    /// Reads a `FromWorker`. A worker runs code that we did not write, so nothing in it is believed.
    init(_ bytes: Bytes) throws(WireError) {
        var message: WorkerMessage?
        try bytes.forEachField { field, value throws(WireError) in
            switch (field, value) {
            case (1, .block(let content)): message = .ready(try WorkerReady(content))
            case (2, .block(let content)): message = .result(try WorkerAnswer(content))
            case (3, .block(let content)):
                var error = PythonException()
                try content.forEachField { field, value throws(WireError) in
                    if case (1, .block(let inner)) = (field, value) { error = try PythonException(inner) }
                }
                message = .failed(error)
            default: break
            }
        }
        guard let message else { throw .malformed("a worker's message") }
        self = message
    }
}

extension WorkerAnswer {
    fileprivate init(_ bytes: Bytes) throws(WireError) {
        var sequence: UInt64 = 0
        var busy: UInt64 = 0
        var content: Content?
        try bytes.forEachField { field, value throws(WireError) in
            switch (field, value) {
            case (1, .number(let number)): sequence = number
            case (2, .number(let number)): busy = number
            case (3...5, .block(let items)): content = .items(field: field, items)
            case (6, .block(let error)): content = .failed(try PythonException(error))
            default: break
            }
        }
        guard let content else { throw .malformed("a result without items") }
        self.init(sequence: sequence, busyNanoseconds: busy, content: content)
    }
}

extension PythonItems {
    /// The items of an answer. Elements of an array stay where they are; `count` is how many there must be.
    init(field: UInt64, _ bytes: Bytes, count: Int, limits: Limits) throws(WireError) {
        switch field {
        case 3: self = .strings(try Self.texts(bytes, count: count))
        case 4: self = .byteStrings(try Self.list(bytes, count: count) { $0 })
        default: self = .array(try Self.tensor(bytes, limits: limits))
        }
        guard self.count == count else { throw .malformed("\(self.count) results for \(count) items") }
    }

    /// The same for strings, without a reference to the storage for each.
    private static func texts(_ bytes: Bytes, count: Int) throws(WireError) -> [String] {
        var texts: [String] = []
        texts.reserveCapacity(count)
        try bytes.withUnsafeBytes { source throws(WireError) in
            var at = 0
            while at < source.count {
                guard source[at] == 1 << 3 | 2, texts.count < count else { throw .malformed("a list of results") }
                at += 1
                var length = 0
                var shift = 0
                while true {
                    // Nothing has 2^35 bytes.
                    guard at < source.count, shift < 35 else { throw .malformed("a length") }
                    let byte = source[at]
                    at += 1
                    length |= Int(byte & 0x7F) << shift
                    if byte < 0x80 { break }
                    shift += 7
                }
                guard length <= source.count - at else { throw .malformed("the length of a result") }
                texts.append(String(decoding: source[at..<at + length], as: UTF8.self))
                at += length
            }
        }
        return texts
    }

    private static func list<Item>(
        _ bytes: Bytes, count: Int, _ make: (Bytes) -> Item
    ) throws(WireError) -> [Item] {
        var items: [Item] = []
        items.reserveCapacity(count)
        try bytes.forEachField { field, value throws(WireError) in
            guard case (1, .block(let item)) = (field, value), items.count < count else {
                throw .malformed("a list of results")
            }
            items.append(make(item))
        }
        return items
    }

    private static func tensor(_ bytes: Bytes, limits: Limits) throws(WireError) -> Tensor {
        var type: DataType?
        var shape: [Int] = []
        var elements = Bytes.empty
        try bytes.forEachField { field, value throws(WireError) in
            switch (field, value) {
            case (1, .number(let number)): type = DataType(rawValue: UInt8(clamping: number))
            case (2, .block(let packed)):
                var reader = ByteReader(packed)
                while !reader.isAtEnd {
                    guard shape.count < limits.tensorDimensions else {
                        throw .overLimit(.tensorDimensions, "dimensions")
                    }
                    shape.append(Int(clamping: try reader.readVarint()))
                }
            case (3, .block(let content)): elements = content
            default: break
            }
        }
        guard let type else { throw .malformed("the type of an array") }
        do throws(FlockError) {
            return try Tensor(type, shape: shape, bytes: elements, limits: limits)
        } catch {
            throw .malformed(error.message)
        }
    }
}

extension WorkerReady {
    fileprivate init(_ bytes: Bytes) throws(WireError) {
        self.init()
        try bytes.forEachField { field, value throws(WireError) in
            switch (field, value) {
            case (1, .block(let text)): pythonVersion = text.text
            case (2, .number(let number)): process = UInt32(truncatingIfNeeded: number)
            case (3, .number(let number)): loadNanoseconds = number
            case (4, .block(let text)): packages = text.text
            default: break
            }
        }
    }
}

extension PythonException {
    fileprivate init(_ bytes: Bytes) throws(WireError) {
        self.init()
        try bytes.forEachField { field, value throws(WireError) in
            switch (field, value) {
            case (1, .block(let text)): type = text.text
            case (2, .block(let text)): message = text.text
            case (3, .block(let text)): traceback = text.text
            default: break
            }
        }
    }
}

/// A field of a protobuf message.
private enum FieldValue {
    case number(UInt64)
    case block(Bytes)
}

extension Bytes {
    fileprivate func forEachField(
        _ visit: (_ field: UInt64, FieldValue) throws(WireError) -> Void
    ) throws(WireError) {
        var reader = ByteReader(self)
        while !reader.isAtEnd {
            let tag = try reader.readVarint()
            switch tag & 7 {
            case 0: try visit(tag >> 3, .number(try reader.readVarint()))
            case 1: _ = try reader.readBytes(8)
            case 2:
                let field = try reader.readBlock(of: "field", limit: reader.remaining, named: .frameBytes)
                try visit(tag >> 3, .block(field))
            case 5: _ = try reader.readBytes(4)
            default: throw .malformed("wire type \(tag & 7)")
            }
        }
    }
}
