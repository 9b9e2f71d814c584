// Flockwork · Apache-2.0 · see LICENSE

internal import ArgumentParser
internal import Flockwork
internal import Foundation

/// Sends the lines of a file to a pipeline.
struct SendCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "send",
        abstract: "Sends the lines of a file to a pipeline and prints one result a line, in order.",
        discussion: """
            The node says what the pipeline takes: lines of text, or rows of numbers between commas (a heading is \
            left out). A line that fails is an empty line on standard output, and says why on standard error; the \
            exit code is 1 then.
            """)

    @Argument(help: "The pipeline's name.")
    var pipeline: String
    @Argument(help: "The file, one request a line; - is standard input.", completion: .file())
    var file = "-"
    @Option(help: ArgumentHelp("Requests open at once.", valueName: "n"))
    var window = 4096
    @Option(help: ArgumentHelp("Time for each request.", valueName: "seconds"))
    var deadline = 60.0
    @Flag(help: "No last line on standard error that says how many there were.")
    var quiet = false
    @OptionGroup(title: "Cluster") var target: TargetFlags
    @OptionGroup(title: "Cluster") var cluster: ClusterFlags

    func validate() throws {
        guard (1...65_536).contains(window) else { throw ValidationError("--window is 1 to 65536, not \(window).") }
        guard deadline > 0, deadline <= 86_400 else {
            throw ValidationError("--deadline is more than 0 and at most 86400 seconds.")
        }
    }

    func run() async throws {
        try await FlockworkCommand.reporting {
            let requests = try RequestFile(file)
            let failed = try await target.withClient(cluster) { client in
                try await send(requests, through: client)
            }
            if failed > 0 { throw ExitCode.failure }
        }
    }

    /// Returns how many failed.
    private func send(_ file: RequestFile, through client: Client) async throws -> Int {
        let all = try await client.pipelines()
        guard let info = all.first(where: { $0.name == pipeline }) else {
            let names = all.map(\.name).joined(separator: ", ")
            throw FlockError(.notFound, "no pipeline \"\(pipeline)\"; the nodes run \(names)")
        }
        guard let form = info.form else {
            throw FlockError(
                .incompatibleNode,
                "the requests of \"\(pipeline)\" are of a Swift type; a program with it can send them")
        }
        switch form.input {
        case .text: return try await send(file, file.texts, form, client)
        case .bytes: return try await send(file, file.bytes, form, client)
        case .row: return try await send(file, file.rows(width: form.width), form, client)
        case .number:
            let numbers = file.rows(width: 1).map { line in
                RequestLine(number: line.number, item: line.item.map { $0.values[0] })
            }
            return try await send(file, numbers, form, client)
        }
    }

    private func send<Input: Codable & Sendable>(
        _ file: RequestFile, _ lines: [RequestLine<Input>], _ form: PlainForm, _ client: Client
    ) async throws -> Int {
        switch form.output {
        case .text: try await send(file, lines, form, client, String.self) { $0 }
        case .bytes: try await send(file, lines, form, client, Bytes.self) { String(decoding: $0.array, as: UTF8.self) }
        case .number: try await send(file, lines, form, client, Float.self) { "\($0)" }
        case .row:
            try await send(file, lines, form, client, Row.self) { row in
                row.values.map { "\($0)" }.joined(separator: ",")
            }
        }
    }

    private func send<Input: Codable & Sendable, Output: Codable & Sendable>(
        _ file: RequestFile, _ lines: [RequestLine<Input>], _ form: PlainForm, _ client: Client, _ type: Output.Type,
        _ print: @escaping @Sendable (Output) -> String
    ) async throws -> Int {
        let inbox = try await client.inbox(
            named: pipeline, of: Input.self, width: form.input == .row ? form.width : nil, returning: type)
        let start = ContinuousClock.now
        var failed = 0
        var text = ""
        let limit = Duration.milliseconds(Int64(deadline * 1000))
        for try await (number, result) in Asked(lines, window: window, { try await inbox.ask($0, deadline: limit) }) {
            switch result {
            case .success(let output): text += print(output)
            case .failure(let error):
                failed += 1
                FlockworkCommand.complain("\(file.name):\(number): \(error)")
            }
            text += "\n"
            if text.utf8.count > 1 << 16 || failed > 0 {
                FileHandle.standardOutput.write(Data(text.utf8))
                text = ""
            }
        }
        FileHandle.standardOutput.write(Data(text.utf8))
        await inbox.close()
        if !quiet {
            let seconds = (ContinuousClock.now - start) / .seconds(1)
            FlockworkCommand.complain(
                "\(lines.count) requests, \(lines.count - failed) results, \(failed) failures in "
                    + String(format: "%.3f s", seconds))
        }
        return failed
    }
}
