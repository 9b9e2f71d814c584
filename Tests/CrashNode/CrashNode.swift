// Flockwork · Apache-2.0 · see LICENSE

import BreastCancer
import FlockTransport
import FlockWire
import Flockwork
import Foundation
import Logging

// A node of the sample's pipeline that kills itself in a chosen moment: what `launcher` must not be able to do. It
// takes the launcher's flags, as far as tests give them, and `--crash MOMENT`. SIGUSR1 arms it; with `--armed` it is
// from the start. With `--delay MS` what other nodes say waits so long before it is heard, and is lost if they die
// meanwhile.

@main
struct CrashNode {
    static func main() async throws {
        let flags = Flags(CommandLine.arguments.dropFirst())
        let id = NodeID(try flags.text("id"))
        var limits = Limits()
        limits.partitions = 16
        LoggingSystem.bootstrap { StreamLogHandler.standardError(label: $0) }
        var logger = Logger(label: "node")
        logger.logLevel = .notice
        var configuration = NodeConfiguration(
            id: id, port: try flags.number("port"), limits: limits, logger: logger, cores: 1)
        configuration.join = try flags.text("join").split(separator: ",").map { String($0) }
        if flags.has("bootstrap") { configuration.bootstrap = try flags.number("bootstrap") }
        if flags.has("crash") {
            let name = try flags.text("crash")
            guard let moment = CrashMoment(rawValue: name) else { throw WrongFlag(name: "crash", value: name) }
            let point = CrashPoint(moment, isArmed: flags.has("armed")) { die(in: $0) }
            configuration.crashPoint = point
            arm(point)
        }
        if flags.has("delay") { configuration.faultSeed = 1 }
        followParent()
        let node = Node(pipelines: diagnosisPipeline(model: .logistic), configuration: configuration)
        try await node.start()
        if flags.has("delay") {
            var fault = LinkFault()
            fault.delay = .milliseconds(try flags.number("delay"))
            for place in 1...4 { node.faults?.set(fault, for: NodeID("node-\(place)")) }
        }
        try await node.joined()
        say("ready \(id)\n")
        await node.askedToLeave()
    }

    /// Nothing of it is handed over, and no destructor runs.
    @Sendable
    private static func die(in moment: CrashMoment) {
        say("dies: \(moment.rawValue)\n")
        kill(getpid(), SIGKILL)
    }

    private static func say(_ text: String) { FileHandle.standardOutput.write(Data(text.utf8)) }

    private static func arm(_ point: CrashPoint) {
        signal(SIGUSR1, SIG_IGN)
        let source = DispatchSource.makeSignalSource(signal: SIGUSR1, queue: .global())
        // It lives as long as the process.
        source.setEventHandler { [source] in if !source.isCancelled { point.arm() } }
        source.resume()
    }

    /// The end of standard input is the end of whoever started this.
    private static func followParent() {
        let thread = Thread {
            while FileHandle.standardInput.availableData.count > 0 {}
            _exit(0)
        }
        thread.start()
    }
}

/// `--name value` and `--name`.
struct Flags {
    private var values: [String: String] = [:]

    init(_ arguments: some Sequence<String>) {
        var name: String?
        for argument in arguments {
            if argument.hasPrefix("--") {
                name = String(argument.dropFirst(2))
                values[name ?? ""] = ""
            } else if let last = name {
                values[last] = argument
                name = nil
            }
        }
    }

    func has(_ name: String) -> Bool { values[name] != nil }

    func text(_ name: String) throws -> String {
        guard let value = values[name], !value.isEmpty else { throw WrongFlag(name: name, value: nil) }
        return value
    }

    func number(_ name: String) throws -> Int {
        guard let number = Int(try text(name)) else { throw WrongFlag(name: name, value: values[name]) }
        return number
    }
}

struct WrongFlag: Error {
    var name: String
    var value: String?
}
