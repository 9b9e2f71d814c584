// Flockwork · Apache-2.0 · see LICENSE

// ONNX Runtime's C API is one table of functions that only ever grows at its end. So the slots of an old version serve
// every later library, and they are typed here: no vendor header is used.

import FlockWire
import Synchronization

/// ONNX Runtime's functions. Those that can fail return a status, which is nil if all is well.
struct ONNXLibrary: Sendable {
    /// Any of the API's opaque objects.
    typealias Object = UnsafeMutableRawPointer
    typealias Out = UnsafeMutablePointer<Object?>
    typealias Text = UnsafePointer<CChar>
    typealias Count = UnsafeMutablePointer<Int>
    typealias Number = UnsafeMutablePointer<Int32>
    typealias Free = @convention(c) @Sendable (Object?) -> Void
    typealias Make = @convention(c) @Sendable (Out) -> Object?
    typealias Read = @convention(c) @Sendable (Object, Out) -> Object?
    typealias ReadCount = @convention(c) @Sendable (Object, Count) -> Object?
    typealias ReadNumber = @convention(c) @Sendable (Object, Number) -> Object?
    typealias ReadAt = @convention(c) @Sendable (Object, Int, Out) -> Object?
    typealias ReadName =
        @convention(c) @Sendable (Object, Int, Object, UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>) -> Object?
    typealias SetNumber = @convention(c) @Sendable (Object, Int32) -> Object?

    /// The version of the table that is asked for: the oldest one that has all slots below.
    private static let tableVersion: UInt32 = 17
    // Values of the C API.
    /// Errors are in the status that a call returns; the library would print them as well.
    private static let logFatalOnly: Int32 = 4
    private static let allOptimizations: Int32 = 99
    private static let arenaAllocator: Int32 = 1
    private static let defaultMemory: Int32 = 0

    let path: String
    let version: String
    // Objects that are made once and never freed; the API documents them as safe for all threads.
    nonisolated(unsafe) let environment: Object
    nonisolated(unsafe) let memory: Object
    nonisolated(unsafe) let allocator: Object

    private let errorText: @convention(c) @Sendable (Object) -> Text?
    private let createOptions: Make
    private let setOptimization: SetNumber
    private let setThreads: SetNumber
    private let setThreadsBetween: SetNumber
    private let createSession: @convention(c) @Sendable (Object, Text, Object, Out) -> Object?
    /// Session, options, names and values in, how many, names out, how many; out: values.
    let run:
        @convention(c) @Sendable (
            Object, Object?, UnsafePointer<Text?>, UnsafePointer<Object?>, Int, UnsafePointer<Text?>, Int, Out
        ) -> Object?
    let (countInputs, countOutputs): (ReadCount, ReadCount)
    let (inputType, outputType): (ReadAt, ReadAt)
    let (inputName, outputName): (ReadName, ReadName)
    /// Allocator, shape, dimensions, element type.
    let createTensor: @convention(c) @Sendable (Object, UnsafePointer<Int64>?, Int, Int32, Out) -> Object?
    /// Memory, values, bytes, shape, dimensions, element type.
    let createTensorOnData:
        @convention(c) @Sendable (Object, Object?, Int, UnsafePointer<Int64>?, Int, Int32, Out) -> Object?
    let tensorData: Read
    let fillTexts: @convention(c) @Sendable (Object, UnsafePointer<Text?>, Int) -> Object?
    let textBytes: ReadCount
    /// Value, bytes, their number, where each text begins, texts.
    let readTexts: @convention(c) @Sendable (Object, Object?, Int, UnsafeMutablePointer<Int>?, Int) -> Object?
    let tensorInfo: Read
    let kindOfType: ReadNumber
    let elementType: ReadNumber
    let countDimensions: ReadCount
    let readDimensions: @convention(c) @Sendable (Object, UnsafeMutablePointer<Int64>, Int) -> Object?
    let shapeOfValue: Read
    let kindOfValue: ReadNumber
    private let freeText: @convention(c) @Sendable (Object, Object) -> Object?
    let valueAt: @convention(c) @Sendable (Object, Int32, Object, Out) -> Object?
    let countValues: ReadCount
    let createValue: @convention(c) @Sendable (UnsafePointer<Object?>, Int, Int32, Out) -> Object?
    private let freeStatus: Free
    let (freeSession, freeValue, freeType, freeShape): (Free, Free, Free, Free)
    private let freeOptions: Free

    /// The library, which is opened once in a process: it has one environment.
    static func shared(explicit: String?, search: LibrarySearch = .process) throws(FlockError) -> ONNXLibrary {
        let library = try SharedLibrary(.onnxRuntime, explicit: explicit, search: search)
        return try loaded.withLock { (loaded) throws(FlockError) in
            if let known = loaded[library.path] { return known }
            let made = try ONNXLibrary(library)
            loaded[library.path] = made
            return made
        }
    }

    private static let loaded = Mutex<[String: ONNXLibrary]>([:])

    private init(_ library: SharedLibrary) throws(FlockError) {
        path = library.path
        let base: @convention(c) () -> UnsafePointer<UnsafeRawPointer?>? = try library.function("OrtGetApiBase")
        // A struct of two functions: the table of a version, and the library's version as text.
        guard let base = base(), let first = base[0], let second = base[1] else {
            throw FlockError(.modelLoadFailed, "\(library.path): ONNX Runtime gave no API")
        }
        let versionText = unsafeBitCast(second, to: (@convention(c) () -> Text?).self)
        version = versionText().map { String(cString: $0) } ?? "unknown"
        let table = unsafeBitCast(first, to: (@convention(c) (UInt32) -> UnsafePointer<UnsafeRawPointer?>?).self)
        guard let slots = table(Self.tableVersion) else {
            throw FlockError(
                .modelLoadFailed,
                "\(library.path) is ONNX Runtime \(version); 1.\(Self.tableVersion) or newer is needed. "
                    + library.kind.remedy)
        }
        func slot<Function>(_ index: Int, as type: Function.Type = Function.self) -> Function {
            guard let address = slots[index] else { preconditionFailure("slot \(index) of ONNX Runtime is empty") }
            return unsafeBitCast(address, to: type)
        }
        errorText = slot(2)
        createSession = slot(7)
        run = slot(9)
        createOptions = slot(10)
        (setOptimization, setThreads, setThreadsBetween) = (slot(23), slot(24), slot(25))
        (countInputs, countOutputs) = (slot(30), slot(31))
        (inputType, outputType) = (slot(33), slot(34))
        (inputName, outputName) = (slot(36), slot(37))
        (createTensor, createTensorOnData, tensorData) = (slot(48), slot(49), slot(51))
        (fillTexts, textBytes, readTexts) = (slot(52), slot(53), slot(54))
        (tensorInfo, kindOfType) = (slot(55), slot(56))
        (elementType, countDimensions, readDimensions) = (slot(60), slot(61), slot(62))
        (shapeOfValue, kindOfValue) = (slot(65), slot(67))
        freeText = slot(76)
        (valueAt, countValues, createValue) = (slot(80), slot(81), slot(82))
        (freeStatus, freeSession, freeValue, freeType) = (slot(93), slot(95), slot(96), slot(98))
        (freeShape, freeOptions) = (slot(99), slot(100))

        let checking = Checking(errorText: errorText, freeStatus: freeStatus, version: version)
        let createEnvironment: @convention(c) (Int32, Text, Out) -> Object? = slot(3)
        let createMemory: @convention(c) (Int32, Int32, Out) -> Object? = slot(69)
        let defaultAllocator: Make = slot(78)
        environment = try checking.made { createEnvironment(Self.logFatalOnly, "flockwork", $0) }
        memory = try checking.made { createMemory(Self.arenaAllocator, Self.defaultMemory, $0) }
        allocator = try checking.made { defaultAllocator($0) }
    }

    /// A session of one thread a call: instances are the parallelism.
    func session(path: String) throws(FlockError) -> Object {
        let options = try made { createOptions($0) }
        defer { freeOptions(options) }
        try check(setThreads(options, 1))
        try check(setThreadsBetween(options, 1))
        try check(setOptimization(options, Self.allOptimizations))
        return try made { createSession(environment, path, options, $0) }
    }

    /// An input's or output's name.
    func name(_ read: ReadName, _ session: Object, _ index: Int) throws(FlockError) -> String {
        var text: UnsafeMutablePointer<CChar>?
        try check(read(session, index, allocator, &text))
        guard let text else { return "" }
        let name = String(cString: text)
        try check(freeText(allocator, text))
        return name
    }

    /// Throws the library's reason, if there is one.
    func check(_ status: Object?, _ code: FlockError.Code = .modelLoadFailed) throws(FlockError) {
        guard status != nil else { return }
        try Checking(errorText: errorText, freeStatus: freeStatus, version: version).check(status, code)
    }

    /// The object that `body` makes, which is the caller's to free.
    func made(_ code: FlockError.Code = .modelLoadFailed, _ body: (Out) -> Object?) throws(FlockError) -> Object {
        try Checking(errorText: errorText, freeStatus: freeStatus, version: version).made(code, body)
    }

    /// A number that `body` reads.
    func count(_ code: FlockError.Code = .modelLoadFailed, _ body: (Count) -> Object?) throws(FlockError) -> Int {
        var count = 0
        try check(body(&count), code)
        return count
    }

    /// A value of an enumeration that `body` reads.
    func number(_ code: FlockError.Code = .modelLoadFailed, _ body: (Number) -> Object?) throws(FlockError) -> Int32 {
        var number: Int32 = 0
        try check(body(&number), code)
        return number
    }

    private struct Checking {
        let errorText: @convention(c) @Sendable (Object) -> Text?
        let freeStatus: Free
        let version: String

        func check(_ status: Object?, _ code: FlockError.Code) throws(FlockError) {
            guard let status else { return }
            defer { freeStatus(status) }
            let text = errorText(status).map { String(cString: $0) } ?? "no reason is given"
            throw FlockError(code, "ONNX Runtime \(version): \(text)")
        }

        func made(_ code: FlockError.Code = .modelLoadFailed, _ body: (Out) -> Object?) throws(FlockError) -> Object {
            var object: Object?
            try check(body(&object), code)
            guard let object else { throw FlockError(code, "ONNX Runtime \(version) gave nothing") }
            return object
        }
    }
}
