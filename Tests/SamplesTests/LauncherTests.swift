// Flockwork · Apache-2.0 · see LICENSE

import BreastCancer
import Flockwork
import Foundation
import Testing

@testable import Launcher

@Suite struct CheckerTests {
    @Test("what has no outcome below a number is counted, wherever that number lies", arguments: [1, 63, 64, 65, 130])
    func lostBelow(bound: Int) throws {
        var checker = try checker(200)
        checker.accepted(0..<200)
        for request in stride(from: 0, to: 200, by: 2) { checker.answered(request, right(checker, request)) }
        #expect(checker.lost(below: bound) == bound / 2 && checker.lost(below: 200) == checker.lost)
    }

    private func checker(_ total: Int) throws -> Checker {
        Checker(total: total, reference: try Reference.bundled(), diagnoses: try Dataset.bundled().diagnoses)
    }

    private func right(_ checker: Checker, _ request: Int) -> Checker.Answer {
        let row = request % checker.diagnoses.count
        return .value(
            Verdict(label: checker.reference.labels[row], probability: Float(checker.reference.probabilities[row])))
    }

    @Test("a run in which all is right is perfect")
    func perfect() throws {
        var checker = try checker(1200)
        checker.accepted(0..<1200)
        for request in (0..<1200).reversed() { checker.answered(request, right(checker, request)) }
        #expect(checker.isPerfect && checker.values == 1200 && checker.lost == 0 && checker.right > 1100)
    }

    @Test("one lost, one doubled, one wrong, one filtered, one failed or one never accepted request spoils the run")
    func spoiled() throws {
        func run(_ spoil: (inout Checker, Int) -> Void) throws -> Checker {
            var checker = try checker(700)
            checker.accepted(0..<700)
            for request in 0..<700 {
                if request == 600 {
                    spoil(&checker, request)
                } else {
                    checker.answered(request, right(checker, request))
                }
            }
            #expect(!checker.isPerfect)
            return checker
        }
        let lost = try run { _, _ in }
        #expect(lost.lost == 1 && lost.lostExamples == [600])
        let doubled = try run { checker, request in
            for _ in 0..<2 { checker.answered(request, self.right(checker, request)) }
        }
        #expect(doubled.doubled == 1 && doubled.lost == 0 && doubled.values == 700)
        // A double that hides a loss keeps the count right, and is found all the same.
        let hidden = try run { checker, _ in checker.answered(5, self.right(checker, 5)) }
        #expect(hidden.doubled == 1 && hidden.lost == 1)
        // The value of the row beside it is wrong even though it is somebody's right value.
        let wrong = try run { checker, request in checker.answered(request, self.right(checker, request + 1)) }
        #expect(wrong.wrong == 1 && wrong.examples.first?.contains("request 600, row 31") == true)
        #expect(try run { $0.answered($1, .filtered) }.filtered == 1)
        let failed = try run { $0.answered($1, .failure(FlockError(.stageFailed, "x"))) }
        #expect(failed.failures == ["stageFailed": 1] && failed.failureCount == 1)
        var short = try checker(2)
        short.accepted(0..<1)
        short.answered(0, right(short, 0))
        #expect(!short.isPerfect && short.lost == 0)
    }

    @Test("a ledger finds the request of a ticket, and none for a foreign one")
    func ledger() {
        var ledger = Ledger()
        #expect(ledger.parts(of: 0..<1).map(\.posting?.firstRequest) == [nil])
        // Several tasks post at once, so the runs come in any order.
        let runs: [(Range<UInt64>, Int)] = [(20..<30, 0), (0..<10, 100), (10..<12, 500), (11..<13, 700), (29..<31, 7)]
        let taken = runs.map { ledger.posted($0.0, firstRequest: $0.1, at: 1) }
        #expect(taken == [true, true, true, false, false], "a ticket that is there already is refused")
        let parts = ledger.parts(of: 0..<32)
        #expect(parts.map(\.sequences) == [0..<10, 10..<12, 12..<20, 20..<30, 30..<32])
        #expect(parts.map(\.posting?.firstRequest) == [100, 500, nil, 0, nil])
        #expect(ledger.parts(of: 11..<11).isEmpty && ledger.parts(of: 5..<11).map(\.sequences) == [5..<10, 10..<11])
    }

    @Test("outcomes that come before their tickets are kept, and given to those who show them")
    func earlyOutcomes() {
        var ledger = Ledger()
        for first in [0, 4, 10] as [UInt64] {
            ledger.keep(Ledger.Early(first: first, outcomes: Array(repeating: .filtered, count: 4), at: first))
        }
        #expect(ledger.strays == 12 && ledger.takeEarly(of: 8..<10).isEmpty)
        #expect(ledger.takeEarly(of: 2..<5).map(\.sequences) == [0..<4, 4..<8])
        #expect(ledger.strays == 4 && ledger.takeEarly(of: 0..<10).isEmpty)
        #expect(ledger.takeEarly(of: 13..<20).map(\.at) == [10] && ledger.strays == 0)
    }
}

@Suite struct LatencyTests {
    @Test("percentiles are at most 1.6 % above those of the sorted values")
    func percentiles() {
        var histogram = LatencyHistogram()
        var state: UInt64 = 7
        var values: [UInt64] = [0, 1, 63, 64, 65, 127, 128, .max]
        for _ in 0..<20_000 {
            state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
            values.append((state >> 20) >> (state % 40))
        }
        for value in values { histogram.record(value) }
        values.sort()
        for percent in [0.1, 1, 25, 50, 90, 99, 99.9, 100] {
            let exact = values[max(0, Int((percent / 100 * Double(values.count)).rounded(.up)) - 1)]
            let found = histogram.percentile(percent)
            #expect(found >= exact && Double(found) <= Double(exact) * 1.016 + 1, "p\(percent), seed 7")
        }
        #expect(histogram.maximum == .max && histogram.count == UInt64(values.count))
    }

    @Test("no values have no percentile; many of one value have that one")
    func edges() {
        var histogram = LatencyHistogram()
        #expect(histogram.percentile(50) == 0)
        histogram.record(1_000_003, times: 5)
        #expect(histogram.percentile(1) == 1_000_003 && histogram.percentile(100) == 1_000_003)
    }
}

@Suite struct OutputTests {
    private let plain = Terminal(environment: [:], isTerminal: false)

    @Test("numbers are grouped, times have three digits and a unit")
    func numbers() {
        #expect([0, 12, 999, 1000, 1_234_567].map { Text.count($0) } == ["0", "12", "999", "1,000", "1,234,567"])
        #expect(
            [999, 1240, 12_400, 124_000_000, 12_000_000_000].map { Text.time(nanoseconds: $0) }
                == ["999 ns", "1.24 µs", "12.4 µs", "124 ms", "12.0 s"])
        #expect([0.2, 59, 61, 3727].map { Text.wait(seconds: $0) } == ["1 s", "59 s", "1:01", "1:02:07"])
        #expect(Text.wait(seconds: .infinity) == "-")
    }

    @Test("the line has no escape codes elsewhere than on a terminal, and no colour with NO_COLOR")
    func color() {
        let progress = Progress(done: 620_000, total: 1_000_000, rate: 400_000, batch: 256)
        let text = ProgressLine(terminal: plain).text(progress, columns: 120)
        #expect(text == " 62 %  620,000 of 1,000,000 · 400,000/s · ETA 1 s · batch 256")
        let bare = Terminal(environment: ["NO_COLOR": "1", "TERM": "xterm"], isTerminal: true)
        #expect(!ProgressLine(terminal: bare).text(progress, columns: 100).contains("\u{1B}"))
        let color = Terminal(environment: ["TERM": "xterm"], isTerminal: true)
        #expect(ProgressLine(terminal: color).text(progress, columns: 100).contains("\u{1B}[36m"))
        #expect(!Terminal(environment: ["TERM": "dumb"], isTerminal: true).isInteractive)
    }

    @Test("the line never reaches the last column", arguments: [10, 20, 40, 60, 80, 200])
    func width(columns: Int) {
        let terminal = Terminal(environment: ["NO_COLOR": "1"], isTerminal: true)
        for done in [0, 620_000, 1_000_000] {
            let progress = Progress(done: done, total: 1_000_000, rate: 400_000, batch: 256)
            #expect(ProgressLine(terminal: terminal).text(progress, columns: columns).count < columns)
        }
    }

    @Test("the rate follows the last second and a half")
    func rate() {
        var meter = RateMeter()
        let second: UInt64 = 1_000_000_000
        #expect(meter.rate(done: 0, at: second) == 0)
        #expect(meter.rate(done: 100, at: 2 * second) == 100)
        #expect(meter.rate(done: 1100, at: 3 * second) == 1000)
    }

    @Test("the summary says what was lost, doubled and wrong")
    func summary() throws {
        var checker = Checker(total: 3, reference: try Reference.bundled(), diagnoses: try Dataset.bundled().diagnoses)
        checker.accepted(0..<3)
        checker.answered(0, .value(Verdict(probability: 0)))
        checker.answered(1, .value(Verdict(probability: 1)))
        checker.answered(1, .value(Verdict(probability: 1)))
        let share = NodeShare(node: "node-1", items: 2, batches: 1, batchSizes: [0, 1])
        let summary = Summary(
            checker: checker, seconds: 2, latencies: LatencyHistogram(), shares: [share], interruption: nil)
        let text = summary.lines(for: plain).joined(separator: "\n")
        for line in ["lost        1  ", "doubled     1  ", "wrong       1  ", "node-1  100.0 %", "2-3", "is not right"]
        {
            #expect(text.contains(line), "\(line) in\n\(text)")
        }
        #expect(!summary.isSuccess && !text.contains("\u{1B}"))
    }
}

@Suite struct SettingsTests {
    private func file(_ json: String) throws -> String {
        let file = FileManager.default.temporaryDirectory.appending(path: "settings-\(UUID()).json")
        try Data(json.utf8).write(to: file)
        return file.path
    }

    @Test("flags win over the environment, that over the file, that over the defaults")
    func precedence() async throws {
        let file = try file(#"{ "port": 1, "clusterID": "file", "host": "file", "insecure": true }"#)
        let settings = try await Settings.resolve(
            flags: [.port: "3"], file: file,
            environment: ["FLOCKWORK_PORT": "2", "FLOCKWORK_CLUSTER_ID": "environment", "PORT": "9"],
            defaults: [.nodes: "3"])
        #expect(settings.origins[.port] == Origin(value: "3", source: "flag --port"))
        #expect(
            settings.origins[.clusterID] == Origin(value: "environment", source: "environment FLOCKWORK_CLUSTER_ID"))
        #expect(settings.origins[.host] == Origin(value: "file", source: "file \(file) (host)"))
        #expect(settings.origins[.nodes] == Origin(value: "3", source: "default"))
        #expect(settings.origins[.logLevel] == Origin(value: "notice", source: "default"))
        #expect(settings.flag(.insecure) && settings.number(.cores) == nil && settings.optional(.members) == nil)
    }

    @Test("every value can come from its environment variable and from the file", arguments: Setting.allCases)
    func everySource(setting: Setting) async throws {
        let (text, json) =
            switch setting.kind {
            case .text: ("x", "\"x\"")
            case .number: ("5", "5")
            case .flag: ("true", "true")
            }
        let fromEnvironment = try await Settings.resolve(
            flags: [:], file: nil, environment: [setting.environmentName: text])
        #expect(
            fromEnvironment.origins[setting]
                == Origin(value: text, source: "environment \(setting.environmentName)"))
        let path = try file("{ \"\(setting.rawValue)\": \(json) }")
        let fromFile = try await Settings.resolve(
            flags: [:], file: nil, environment: ["FLOCKWORK_CONFIG_FILE": path])
        #expect(fromFile.origins[setting] == Origin(value: text, source: "file \(path) (\(setting.rawValue))"))
    }

    @Test(
        "what cannot be a value is refused with its origin",
        arguments: [
            (["FLOCKWORK_PORT": "abc"], "{}", "environment FLOCKWORK_PORT: not a whole number from 0 to 65535"),
            (["FLOCKWORK_PORT": "70000"], "{}", "environment FLOCKWORK_PORT: 70000 is not a whole number"),
            ([:], #"{ "port": "x" }"#, "(port): not a whole number"),
            ([:], #"{ "insecure": "yes" }"#, "(insecure): not true or false"),
            ([:], #"{ "prot": 3 }"#, "unknown key \"prot\"; there are admin"),
            ([:], "[]", "must hold one JSON object"), ([:], "{", "not readable as JSON"),
        ])
    func refused(environment: [String: String], json: String, says: String) async throws {
        let path = try file(json)
        let error = try await #require(throws: FlockError.self) {
            try await Settings.resolve(flags: [:], file: path, environment: environment)
        }
        #expect(error == .invalidInput && error.message.contains(says), "\(error.message)")
    }

    @Test("a missing file is named")
    func missing() async throws {
        let error = try await #require(throws: FlockError.self) {
            try await Settings.resolve(flags: [:], file: "/nowhere.json", environment: [:])
        }
        #expect(error.message == "/nowhere.json: there is no such file")
    }

    @Test("the table masks what may be a secret")
    func secrets() async throws {
        let terminal = Terminal(environment: [:], isTerminal: false)
        let wrong = try await Settings.resolve(
            flags: [.tokenFile: "hunter2"], file: nil, environment: [:]
        ).table(terminal).joined(separator: "\n")
        #expect(!wrong.contains("hunter2") && wrong.contains("***"))
        let path = try file("hunter2")
        let right = try await Settings.resolve(
            flags: [.tokenFile: path], file: nil, environment: [:]
        ).table(terminal).joined(separator: "\n")
        #expect(!right.contains("hunter2") && right.contains("\(path) (***)"))
    }
}
