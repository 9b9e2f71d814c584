// Flockwork · Apache-2.0 · see LICENSE

// Which XGBoost wrote a model. An older library loads a newer model without a word and predicts wrongly (from 3.1 on
// `base_score` is kept in another form, which older readers ignore), and the library has no call that tells. So the
// version is read out of the file: the member "version" of the outermost object, in JSON or in UBJSON.

import FlockWire

/// A release of XGBoost.
struct XGBoostVersion: Sendable, Comparable, CustomStringConvertible {
    let major: Int
    let minor: Int
    let patch: Int

    var description: String { "\(major).\(minor).\(patch)" }

    static func < (left: XGBoostVersion, right: XGBoostVersion) -> Bool {
        (left.major, left.minor, left.patch) < (right.major, right.minor, right.patch)
    }

    /// The version in a model's bytes.
    ///
    /// Throws `modelLoadFailed` for anything from which it cannot be told.
    init(ofModel bytes: UnsafeRawBufferPointer) throws(FlockError) {
        // Both begin with "{"; what follows is a quotation mark (or space before it), or the type of a length.
        let isBinary = bytes.count > 1 && "iUIlL".utf8.contains(bytes[1])
        let numbers = try isBinary ? UBJSONScan.version(bytes) : JSONScan.version(bytes)
        guard let numbers else {
            throw FlockError(
                .modelLoadFailed, "it does not say which XGBoost wrote it; save it again with XGBoost 1.0 or newer")
        }
        guard numbers.count == 3, numbers.allSatisfy({ (0...100_000).contains($0) }) else {
            throw FlockError(.modelLoadFailed, "its version \(numbers.prefix(8)) is not three numbers")
        }
        self.init(major: numbers[0], minor: numbers[1], patch: numbers[2])
    }

    init(major: Int, minor: Int, patch: Int) {
        self.major = major
        self.minor = minor
        self.patch = patch
    }

    /// Throws `modelLoadFailed` if a library of this version must not read a model of version `model`.
    func checkReads(_ model: XGBoostVersion, library: String) throws(FlockError) {
        guard self < model else { return }
        throw FlockError(
            .modelLoadFailed,
            "it was saved by XGBoost \(model), and \(library) is \(self): an older library can predict wrongly without "
                + "an error. Install xgboost-cpu \(model) or newer, or save the model with \(self)")
    }
}

/// Finds the version in JSON by one pass over the bytes. The values are not checked: the library does that.
private enum JSONScan {
    static func version(_ bytes: UnsafeRawBufferPointer) throws(FlockError) -> [Int]? {
        var scan = Scan(bytes)
        scan.skipSpace()
        guard scan.next() == UInt8(ascii: "{") else { throw notAModel }
        var depth = 1
        var found: [Int]?
        while depth > 0 {
            guard let byte = scan.next() else {
                throw FlockError(.modelLoadFailed, "not a whole JSON file: it ends within an object")
            }
            switch byte {
            case UInt8(ascii: "{"), UInt8(ascii: "["): depth += 1
            case UInt8(ascii: "}"), UInt8(ascii: "]"): depth -= 1
            case UInt8(ascii: "\""):
                let text = scan.string()
                guard depth == 1 else { continue }
                scan.skipSpace()
                guard scan.peek == UInt8(ascii: ":"), text.elementsEqual("version".utf8) else { continue }
                scan.skip(1)
                guard found == nil else { throw twice }
                found = scan.numbers()
            default: break
            }
        }
        return found
    }

    static let notAModel = FlockError(
        .modelLoadFailed,
        "neither JSON nor UBJSON. XGBoost's old binary format is not read; load such a model with the XGBoost that "
            + "wrote it and save it as .json or .ubj")
    static let twice = FlockError(.modelLoadFailed, "it has two versions")

    private struct Scan {
        let bytes: UnsafeRawBufferPointer
        var at = 0

        init(_ bytes: UnsafeRawBufferPointer) { self.bytes = bytes }

        var peek: UInt8? { at < bytes.count ? bytes[at] : nil }

        mutating func next() -> UInt8? {
            guard at < bytes.count else { return nil }
            at += 1
            return bytes[at - 1]
        }

        mutating func skip(_ count: Int) { at += count }

        mutating func skipSpace() {
            while let byte = peek, byte == 0x20 || (0x09...0x0D).contains(byte) { at += 1 }
        }

        /// The rest of a string whose quotation mark was read; escapes stay as they are.
        mutating func string() -> Slice<UnsafeRawBufferPointer> {
            let start = at
            while let byte = next() {
                if byte == UInt8(ascii: "\\") { at += 1 }
                if byte == UInt8(ascii: "\"") { return bytes[start..<at - 1] }
            }
            return bytes[min(start, bytes.count)..<bytes.count]
        }

        /// `[3, 1, 0]`; whatever else gives an empty list.
        mutating func numbers() -> [Int] {
            skipSpace()
            guard peek == UInt8(ascii: "[") else { return [] }
            skip(1)
            let start = at
            while let byte = next(), byte != UInt8(ascii: "]") {}
            let parts = bytes[start..<max(start, min(at - 1, bytes.count))].split(separator: UInt8(ascii: ","))
            let numbers = parts.map { part in
                Int(String(decoding: part.filter { !(0x09...0x20).contains($0) }, as: UTF8.self))
            }
            return numbers.contains(nil) ? [] : numbers.compactMap(\.self)
        }
    }
}

/// Finds the version in UBJSON, whose values have to be stepped over by their types.
private enum UBJSONScan {
    static func version(_ bytes: UnsafeRawBufferPointer) throws(FlockError) -> [Int]? {
        var scan = Scan(bytes: bytes, at: 1)
        var found: [Int]?
        guard bytes[0] == UInt8(ascii: "{") else { throw JSONScan.notAModel }
        while scan.peek != UInt8(ascii: "}") {
            let length = try scan.integer()
            let key = try scan.take(length)
            if key.elementsEqual("version".utf8) {
                guard found == nil else { throw JSONScan.twice }
                found = try scan.integers()
            } else {
                try scan.skipValue(depth: 0)
            }
        }
        return found
    }

    private struct Scan {
        let bytes: UnsafeRawBufferPointer
        var at: Int
        private static let deepest = 128

        var peek: UInt8? { at < bytes.count ? bytes[at] : nil }

        private static func broken(_ what: String) -> FlockError {
            FlockError(.modelLoadFailed, "not a whole UBJSON file: \(what)")
        }

        mutating func take(_ count: Int) throws(FlockError) -> Slice<UnsafeRawBufferPointer> {
            guard count >= 0, count <= bytes.count - at else { throw Self.broken("it ends within a value") }
            at += count
            return bytes[at - count..<at]
        }

        mutating func byte() throws(FlockError) -> UInt8 { try take(1).first ?? 0 }

        /// An integer with its type before it.
        mutating func integer() throws(FlockError) -> Int { try integer(of: byte()) }

        private mutating func integer(of type: UInt8) throws(FlockError) -> Int {
            guard "iUIlL".utf8.contains(type), let size = Self.size(of: type) else {
                throw Self.broken("a length has the type \(type)")
            }
            var value: Int64 = 0
            let raw = try take(size)
            for byte in raw { value = value << 8 | Int64(byte) }
            // Sign extension; U is the one type without a sign.
            let shift = Int64(64 - 8 * size)
            return Int(type == UInt8(ascii: "U") ? value : (value << shift) >> shift)
        }

        /// Bytes of a value of a type of fixed size.
        private static func size(of type: UInt8) -> Int? {
            switch type {
            case UInt8(ascii: "Z"), UInt8(ascii: "N"), UInt8(ascii: "T"), UInt8(ascii: "F"): 0
            case UInt8(ascii: "i"), UInt8(ascii: "U"), UInt8(ascii: "C"): 1
            case UInt8(ascii: "I"): 2
            case UInt8(ascii: "l"), UInt8(ascii: "d"): 4
            case UInt8(ascii: "L"), UInt8(ascii: "D"): 8
            default: nil
            }
        }

        /// `$type` and `#count` of a container whose bracket was read.
        private mutating func header() throws(FlockError) -> (type: UInt8?, count: Int?) {
            var type: UInt8?
            if peek == UInt8(ascii: "$") {
                at += 1
                type = try byte()
                guard peek == UInt8(ascii: "#") else { throw Self.broken("a type without a count") }
            }
            guard peek == UInt8(ascii: "#") else { return (type, nil) }
            at += 1
            let count = try integer()
            guard count >= 0 else { throw Self.broken("a count of \(count)") }
            return (type, count)
        }

        /// The type of a container's next value, which stands before it unless all have the same.
        private mutating func type(_ common: UInt8?) throws(FlockError) -> UInt8 {
            if let common { return common }
            return try byte()
        }

        mutating func skipValue(depth: Int) throws(FlockError) { try skip(type: byte(), depth: depth) }

        private mutating func skip(type: UInt8, depth: Int) throws(FlockError) {
            guard depth < Self.deepest else { throw Self.broken("it is nested too deeply") }
            if let size = Self.size(of: type) {
                _ = try take(size)
            } else if type == UInt8(ascii: "S") || type == UInt8(ascii: "H") {
                _ = try take(try integer())
            } else if type == UInt8(ascii: "[") {
                try skipContainer(end: UInt8(ascii: "]"), depth: depth)
            } else if type == UInt8(ascii: "{") {
                try skipContainer(end: UInt8(ascii: "}"), depth: depth)
            } else {
                throw Self.broken("a value has the type \(type)")
            }
        }

        private mutating func skipContainer(end: UInt8, depth: Int) throws(FlockError) {
            let header = try self.header()
            let isObject = end == UInt8(ascii: "}")
            if !isObject, let type = header.type, let count = header.count, let size = Self.size(of: type) {
                let (total, overflow) = count.multipliedReportingOverflow(by: size)
                guard !overflow else { throw Self.broken("a count of \(count)") }
                _ = try take(total)
                return
            }
            var left = header.count
            while left != 0 {
                if left == nil, peek == end {
                    at += 1
                    return
                }
                // A value has at least its type, so a count beyond the bytes ends here and not in a long loop.
                guard at < bytes.count else { throw Self.broken("it ends within a container") }
                if isObject { _ = try take(try integer()) }
                try skip(type: type(header.type), depth: depth + 1)
                left = left.map { $0 - 1 }
            }
        }

        /// A list of integers; whatever else gives an empty list.
        mutating func integers() throws(FlockError) -> [Int] {
            guard try byte() == UInt8(ascii: "[") else { return [] }
            let header = try self.header()
            var numbers: [Int] = []
            while numbers.count < header.count ?? 8 {
                if header.count == nil, peek == UInt8(ascii: "]") {
                    at += 1
                    break
                }
                numbers.append(try integer(of: type(header.type)))
            }
            return numbers
        }
    }
}
