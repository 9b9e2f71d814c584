// Flockwork · Apache-2.0 · see LICENSE

import Testing

@Suite("code")
struct CodeTests {
    static let shipped = Repository.swift.filter { $0.path.hasPrefix("Sources/") || $0.path.hasPrefix("Samples/") }
    static let tests = Repository.swift.filter { $0.path.hasPrefix("Tests/") }

    @Test("a Swift file begins with the licence line")
    func header() {
        let manifests = ["Package.swift", "Benchmarks/Package.swift", "Fuzz/Package.swift"]
        hold(
            Repository.swift.filter { !manifests.contains($0.path) }, to: CodeRules.header,
            bad: ["import Testing\n", "// Flockwork - Apache-2.0 - see LICENSE\n", ""],
            good: ["// Flockwork · Apache-2.0 · see LICENSE\n\nimport Testing\n"])
    }

    @Test("a TODO carries the number of its issue")
    func todo() {
        hold(
            Repository.swift, to: CodeRules.todo,
            bad: ["// TODO: later", "let x = 1  // FIXME", "/* XXX */", "/// HACK (see below)"],
            good: ["// TODO(#12): later", "let todo = \"TODO\"", "// what TODOs hold"])
    }

    @Test("nothing is forced with try!")
    func forcedTry() {
        hold(
            Repository.swift, to: CodeRules.forcedTry, bad: ["let x = try! f()"],
            good: ["// never try! here", "let text = \"try!\"", "let x = try f()"])
    }

    @Test("a try? says in a comment why the error does not matter")
    func silentTry() {
        hold(
            Self.shipped, to: CodeRules.silentTry, bad: ["let x = try? f()", "// far above\n\nlet x = try? f()"],
            good: ["// A missing file means defaults.\nlet x = try? f()", "let x = try? f()  // none is fine"])
    }

    @Test("@unchecked Sendable is for FlockTransport and FlockGRPC, with the reason above it")
    func unchecked() {
        let sample = "final class Loop: @unchecked Sendable {}"
        hold(
            Repository.swift, to: CodeRules.unchecked, bad: [sample, "// Confined to the loop.\n" + sample],
            good: ["// no @unchecked Sendable here"])
        hold(
            Repository.swift, to: CodeRules.unchecked, at: "Sources/FlockTransport/EventLoop.swift",
            bad: [sample, "// Too far away.\n\n" + sample],
            good: ["// Confined to the loop.\n" + sample, "// Confined to the loop.\n@frozen\npublic\n" + sample])
    }

    @Test("no text reaches the look-up of names in Swift's runtime, but names that the program itself has")
    func runtimeNames() {
        hold(
            Self.shipped, to: CodeRules.runtimeNames,
            bad: ["_typeByName(text)", "try await executeDistributedTarget(", "NSClassFromString(text)"],
            good: ["// _typeByName is never called", "let text = \"_typeByName\""])
        // The one call that there is takes its name from the program's own table, by the number of a method.
        hold(
            Self.shipped, to: CodeRules.runtimeNames, at: "Sources/FlockActors/FlockSystemCalls.swift",
            bad: ["_typeByName(text)"], good: ["try await executeDistributedTarget("])
    }

    @Test("nonisolated(unsafe) comes with its reason")
    func unsafe() {
        hold(
            Self.shipped, to: CodeRules.unsafe, bad: ["nonisolated(unsafe) var x = 1"],
            good: [
                "// Written once, before it is shared.\nnonisolated(unsafe) let x = p",
                "// Both before sharing.\nnonisolated(unsafe) let x = p\nnonisolated(unsafe) let y = q",
                "nonisolated(unsafe) let x = p  // used by this thread only",
            ])
    }

    @Test("public items are documented")
    func documented() {
        let ours = TextFile(path: "P.swift", text: "protocol P {\n    func a()\n}\nstruct S {\n    func b() {}\n}")
        #expect(CodeRules.requirements(of: ours) == ["a"])
        hold(
            Repository.swift.filter { $0.path.hasPrefix("Sources/") }, to: CodeRules.documented,
            bad: [
                "public struct Bare {}", "/// Far away.\n\npublic func f() {}", "// No doc comment.\npublic class C {}",
                "public protocol P {}", "public distributed actor A {}", "@inlinable\npublic static func make() {}",
            ],
            good: [
                "/// What it is.\npublic struct S {}", "/// What it does.\n@inlinable\npublic func f() {}",
                "public static func == (a: S, b: S) -> Bool { true }", "public func hash(into h: inout Hasher) {}",
                "struct S { func f() {} }", "/// Why.\n#if DEBUG\n@inline(__always)\npublic func f() {}",
                "/// The two ends.\npublic func a() {}\npublic func b() {}", "/// What.\n// Why.\npublic class C {}",
            ])
    }

    @Test("no generic distributed actor over a stage type, no generic distributed func")
    func genericDistributed() {
        hold(
            Self.shipped, to: CodeRules.genericDistributed,
            bad: [
                "distributed actor Host<S: Stage> {}", "public distributed func call<T>(_ x: T) {}",
                "distributed func run(_ x: some Codable) {}", "distributed\nactor Host<S> {}",
            ],
            good: ["distributed actor Host: Stage {}", "distributed func process(_ x: [Int]) -> Array<Int> { x }"])
    }

    @Test("tests await conditions and clocks; they never sleep")
    func sleeping() {
        hold(
            Self.tests, to: CodeRules.sleeping, at: "Tests/FlockWireTests/Sample.swift",
            bad: [
                "try await Task.sleep(for: .seconds(1))", "usleep(10)", "nanosleep(&t, nil)", "    sleep(1)",
                "Thread.sleep(forTimeInterval: 1)", "try await ContinuousClock().sleep(until: x)",
            ],
            good: ["// Task.sleep is banned", "try await clock.sleep(until: x)", "let asleep = (1)"])
    }

    @Test("nothing is yielded for reading: the compiler may read it after the coroutine's end")
    func yieldedReads() {
        hold(
            Repository.swift, to: CodeRules.yieldedReads,
            bad: ["    _read { yield x }", "@inline(__always) _read { yield x }", "yielding borrow { yield x }"],
            good: ["// never _read", "    get { x }", "    _modify { yield &x }"])
    }

    @Test("every test has a name that is a sentence")
    func testNames() {
        hold(
            Self.tests, to: CodeRules.testNames, bad: ["@Test func f() {}", "@Test(arguments: [1]) func f() {}"],
            good: ["@Test(\"a frame waits\") func f() {}", "@Test(\n    \"it waits\", arguments: [1]) func f() {}"])
    }

    @Test("types are not called Utils, Manager, Helper or Impl")
    func vagueNames() {
        hold(
            Repository.swift, to: CodeRules.vagueNames,
            bad: ["struct FrameUtils {}", "final class ConnectionManager {}", "enum Helper {}", "actor NodeImpl {}"],
            good: ["struct Implementation {}", "final class Connection {}"])
    }
}

enum CodeRules {
    static func header(_ file: TextFile) -> [Finding] {
        file.lines.first == "// Flockwork · Apache-2.0 · see LICENSE"
            ? [] : [Finding(path: file.path, line: 1, text: "the first line is not the licence line")]
    }

    static func todo(_ file: TextFile) -> [Finding] {
        find(#/\b(?:TODO|FIXME|XXX|HACK)\b(?!\(#\d+\))/#, in: file.swift.comments, of: file, "no issue number")
    }

    static func forcedTry(_ file: TextFile) -> [Finding] {
        find(#/\btry!/#, in: file.swift.code, of: file, "throw, or handle the error")
    }

    static func runtimeNames(_ file: TextFile) -> [Finding] {
        let names = #/\b(?:_typeByName|_getTypeByMangled\w*|swift_getType\w*|NSClassFromString)\b/#
        let found = find(names, in: file.swift.code, of: file, "a name that may come from a peer")
        guard file.path != "Sources/FlockActors/FlockSystemCalls.swift" else { return found }
        return found + find(#/\bexecuteDistributedTarget\b/#, in: file.swift.code, of: file, "names go there once only")
    }

    /// Decision 0014.
    static func yieldedReads(_ file: TextFile) -> [Finding] {
        find(#/\b_read\b|\byielding\s+borrow\b/#, in: file.swift.code, of: file, "use `get`")
    }

    static func silentTry(_ file: TextFile) -> [Finding] {
        find(#/\btry\?/#, in: file.swift.code, of: file, "no comment says why the error does not matter")
            .filter { !hasReason(file, line: $0.line, below: #/\btry\?/#) }
    }

    static func unchecked(_ file: TextFile) -> [Finding] {
        let found = find(#/@unchecked\s+Sendable/#, in: file.swift.code, of: file, "use Mutex or Atomic")
        let isShell = ["FlockTransport", "FlockGRPC"].contains { file.path.hasPrefix("Sources/\($0)/") }
        guard isShell else { return found }
        return found.filter { !hasReason(file, line: $0.line, below: #/^\s*(?:@\w+|public|final)\s*$/#) }
    }

    static func unsafe(_ file: TextFile) -> [Finding] {
        find(#/nonisolated\(unsafe\)/#, in: file.swift.code, of: file, "no comment gives the reason")
            .filter { !hasReason(file, line: $0.line, below: #/nonisolated\(unsafe\)/#) }
    }

    /// A comment stands on the line or above it, where lines that match `below` belong to it too.
    private static func hasReason(_ file: TextFile, line: Int, below: Regex<Substring>) -> Bool {
        var index = line - 1
        if file.swift.comments[index].contains("//") { return true }
        while index > 0 {
            index -= 1
            if file.swift.comments[index].contains("//") { return true }
            if !file.swift.code[index].contains(below) { return false }
        }
        return false
    }

    /// Members that a well-known protocol asks for say nothing new, nor do initialisers that only store.
    private static let conformances: Set<String> = [
        "hash", "encode", "next", "makeAsyncIterator", "makeIterator", "formatted", "index", "resolve", "assignID",
        "actorReady", "resignID", "makeInvocationEncoder", "remoteCall", "remoteCallVoid", "enqueue",
        "asUnownedSerialExecutor", "asUnownedTaskExecutor", "isSameExclusiveExecutionContext", "checkIsolated",
        "isIsolatingCurrentContext", "recordArgument", "recordGenericSubstitution", "recordReturnType",
        "recordErrorType", "doneRecording", "decodeGenericSubstitutions", "decodeNextArgument", "decodeErrorType",
        "decodeReturnType", "onReturn", "onReturnVoid", "onThrow",
    ]

    /// What our own public protocols ask for is documented there.
    private static let requirements: Set<String> = Set(Repository.swift.flatMap { requirements(of: $0) })

    static func requirements(of file: TextFile) -> [String] {
        var names: [String] = []
        var depth = 0
        for line in file.swift.code {
            if depth == 0 && !(line.contains("protocol") && line.contains(#/\bprotocol\s+\w+[^{]*{/#)) { continue }
            if let match = line.firstMatch(of: #/\bfunc\s+(\w+)/#) { names.append(String(match.1)) }
            depth += line.utf8.reduce(0) { $0 + ($1 == UInt8(ascii: "{") ? 1 : $1 == UInt8(ascii: "}") ? -1 : 0) }
        }
        return names
    }

    private static func isWitness(_ function: String) -> Bool {
        function.isEmpty || conformances.contains(function) || requirements.contains(function)
    }

    static func documented(_ file: TextFile) -> [Finding] {
        let modifiers =
            #/^\s*(?:@\S+\s+)*public\s+(?:(?:static|final|indirect|mutating|nonisolated\S*|distributed)\s+)*/#
        var findings: [Finding] = []
        for (index, line) in file.swift.code.enumerated() where line.contains("public") {
            guard let prefix = line.prefixMatch(of: modifiers) else { continue }
            let rest = line[prefix.range.upperBound...]
            guard let item = rest.prefixMatch(of: #/(?:struct|enum|class|actor|protocol|func|subscript)\b\s*(\w*)/#),
                !(rest.hasPrefix("func") && isWitness(String(item.1))),
                !isDocumented(file, line: index)
            else { continue }
            let text = rest.prefix(60).trimmingPrefix(" ")
            findings.append(Finding(path: file.path, line: index + 1, text: "no doc comment: public \(text)"))
        }
        return findings
    }

    /// A doc comment stands above, or above the first of a group of one-line declarations.
    private static func isDocumented(_ file: TextFile, line: Int) -> Bool {
        for index in stride(from: line - 1, through: 0, by: -1) {
            if file.swift.comments[index].contains("///") { return true }
            let code = file.swift.code[index].drop { $0 == " " }
            let isAttribute = code.hasPrefix("@") || code.hasPrefix("#if")
            let isComment = code.isEmpty && file.swift.comments[index].contains("//")
            if !isAttribute && !isComment && !code.hasPrefix("public") { return false }
        }
        return false
    }

    static func genericDistributed(_ file: TextFile) -> [Finding] {
        let shape = #/\bdistributed\s+(?:actor\s+\w+\s*<|func\s+\w+\s*<|func\s+\w+\s*\([^)]*\bsome\s)/#
        let code = file.swift.code.joined(separator: "\n")
        return code.matches(of: shape).map { match in
            let line = code[..<match.range.lowerBound].utf8.count(where: { $0 == UInt8(ascii: "\n") }) + 1
            return Finding(path: file.path, line: line, text: "the method table cannot name a generic method")
        }
    }

    static func sleeping(_ file: TextFile) -> [Finding] {
        let call = #/Task\.sleep|Thread\.sleep|Clock\(\)\.sleep|\b(?:usleep|nanosleep)\(|(?:^|[^.\w])sleep\(/#
        return find(call, in: file.swift.code, of: file, "await a condition, or pass a clock in")
            .filter { !file.swift.code[$0.line - 1].contains("func sleep(") }
    }

    static func testNames(_ file: TextFile) -> [Finding] {
        let code = file.swift.code.joined(separator: "\n")
        return code.matches(of: #/[@]Test\b(?!\s*\(\s*#*\u{22})/#).map { match in
            let line = code[..<match.range.lowerBound].utf8.count(where: { $0 == UInt8(ascii: "\n") }) + 1
            return Finding(path: file.path, line: line, text: "a test without a name")
        }
    }

    static func vagueNames(_ file: TextFile) -> [Finding] {
        let name = #/\b(?:struct|class|enum|actor|protocol)\s+\w*(?:Utils?|Manager|Helpers?|Impl)\b/#
        return find(name, in: file.swift.code, of: file, "a name that says nothing")
    }

    static func find(
        _ pattern: Regex<Substring>, in lines: [String], of file: TextFile, _ why: String
    ) -> [Finding] {
        // By default `\b` is a boundary of words in prose: none between `Int` and `random` in `Int.random`.
        let pattern = pattern.wordBoundaryKind(.simple).matchingSemantics(.unicodeScalar)
        return lines.enumerated().compactMap { index, line in
            guard let match = line.firstMatch(of: pattern) else { return nil }
            return Finding(path: file.path, line: index + 1, text: "\(match.0): \(why)")
        }
    }
}
