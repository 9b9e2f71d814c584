// Flockwork · Apache-2.0 · see LICENSE

import FlockPython
import Flockwork
import Foundation

/// Python functions in child processes, beside a bare loop in Python and a worker on grpcio, which call the same
/// functions (Benchmarks/Python). Every answer is compared.
enum PythonSuite {
    static func measure(_ run: Run) async throws {
        let python = BenchPython()
        print("python: \(python.interpreter)")
        try await echo(run, python)
        try await shares(run, python)
        try await PythonServed.measure(run, python)
    }

    /// Strings through a bounded job.
    private static func echo(_ run: Run, _ python: BenchPython) async throws {
        for (name, workers, batch, must) in [
            ("echo-1", 1, 1024, "4 M/s (aim 8 M/s)"), ("echo-1-256", 1, 256, "-"),
            ("echo-4", 4, 1024, "8 M/s (aim 18 M/s)"),
        ] {
            try await run.rate("python", name, must: must) {
                try await PythonJob.strings(python.model("handler:echo"), workers: workers, batch: batch, seconds: $0)
            }
        }
        guard run.wants(["echo-1-plain"]), python.has("grpc, google.protobuf") else { return }
        let plain = python.model("handler:echo", worker: .grpcio)
        try await run.rate("python", "echo-1-plain", must: "- (the worker in plain Python)") {
            try await PythonJob.strings(plain, workers: 1, batch: 1024, seconds: $0)
        }
    }

    /// What share of the bare loop a child's CPU does.
    private static func shares(_ run: Run, _ python: BenchPython) async throws {
        let hasGRPC = python.has("grpc, google.protobuf")
        if !hasGRPC { run.skip("rows *-grpcio", "\(python.interpreter) has no grpcio; make libs-python") }
        let echo = python.model("handler:echo")
        var rows: [(name: String, must: String, measure: (Double) async throws -> Measured)] = [
            ("echo-cpu-bare", "", { try await python.bare("echo", 1024, $0).measured }),
            (
                "echo-cpu", "-",
                { try await PythonJob.strings(echo, workers: 1, batch: 1024, seconds: $0).children }
            ),
        ]
        if hasGRPC { rows.append(("echo-cpu-grpcio", "", { try await python.grpcio("echo", 1024, $0).measured })) }
        try await run.interleaved("python", rows)
        guard python.has("numpy, sklearn") else {
            return run.skip("rows logreg-*", "\(python.interpreter) has no scikit-learn; make libs-python")
        }
        let predict = python.model("logreg:predict")
        let expected = try await python.bare("logreg", 256, 0.1).expected ?? []
        rows = [
            ("logreg-tensor256-bare", "", { try await python.bare("logreg", 256, $0).measured }),
            (
                "logreg-tensor256", "ratio 0.6 (aim 0.75)",
                { try await PythonJob.rows(predict, expected: expected, seconds: $0).children }
            ),
        ]
        if hasGRPC {
            rows.append(("logreg-tensor256-grpcio", "", { try await python.grpcio("logreg", 256, $0).measured }))
        }
        try await run.interleaved("python", rows)
        try await run.rate("python", "logreg-job256", must: "-") {
            try await PythonJob.rows(predict, expected: expected, seconds: $0)
        }
    }
}

/// The interpreter of the suite, and the programs of Benchmarks/Python.
struct BenchPython: Sendable {
    let interpreter: String
    /// `…/Benchmarks/Python`, from where this file was compiled.
    static let folder = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
        .deletingLastPathComponent().appending(path: "Python").path

    /// `FLOCKWORK_BENCH_PYTHON`, else that of `make libs-python`, else the system's.
    init() {
        let made = URL(filePath: Self.folder).deletingLastPathComponent().deletingLastPathComponent()
            .appending(path: ".venv-python/bin/python3").path
        interpreter =
            ProcessInfo.processInfo.environment["FLOCKWORK_BENCH_PYTHON"]
            ?? (FileManager.default.isExecutableFile(atPath: made) ? made : "/usr/bin/python3")
    }

    /// A function of the suite. One thread for each process, as in the bare loop.
    func model(_ handler: String, spares: Int = 0, worker: PythonWorkerKind = .library) -> PythonModel {
        var options = PythonModel.Options()
        options.worker = worker
        options.environment.interpreter = interpreter
        options.environment.variables = Self.variables
        options.window = 4
        options.spares = spares
        return .python(Self.folder, handler: handler, options: options)
    }

    /// What `make libs-python` has put beside its interpreter; nil for another one.
    var wheels: String? {
        let wheels = URL(filePath: interpreter).deletingLastPathComponent().deletingLastPathComponent()
            .appending(path: "wheels").path
        return FileManager.default.fileExists(atPath: wheels) ? wheels : nil
    }

    /// Where `make libs-python` puts uv.
    var uvFolder: String? {
        guard let wheels else { return nil }
        let folder = URL(filePath: wheels).deletingLastPathComponent().appending(path: "uv/bin").path
        return FileManager.default.isExecutableFile(atPath: folder + "/uv") ? folder : nil
    }

    /// What the wheels are for.
    var requirements: String? {
        let file = URL(filePath: Self.folder).deletingLastPathComponent().deletingLastPathComponent()
            .appending(path: "Samples/python/iris/requirements.txt").path
        return FileManager.default.fileExists(atPath: file) ? file : nil
    }

    private static let variables = [
        "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1",
    ]

    /// What a program of Benchmarks/Python prints.
    struct Report: Codable, Sendable {
        var items: Int
        var wall: Double
        var cpu: Double
        var loaded: Double?
        var p50: Double?
        var expected: [Float]?

        var measured: Measured { Measured(items: items, wallSeconds: wall, processorSeconds: cpu) }
    }

    /// The bare loop.
    func bare(_ kind: String, _ batch: Int, _ seconds: Double) async throws -> Report {
        try await report(["bare.py", kind, "\(batch)", "\(seconds)"])
    }

    /// The worker on grpcio, with its client.
    func grpcio(_ kind: String, _ batch: Int, _ seconds: Double) async throws -> Report {
        try await report(["grpcio_worker.py", kind, "\(batch)", "\(seconds)"])
    }

    /// Whether modules can be imported.
    func has(_ modules: String) -> Bool {
        let process = process(["-c", "import \(modules)"])
        process.standardError = FileHandle.nullDevice
        do { try process.run() } catch { return false }
        process.waitUntilExit()
        return process.terminationStatus == 0
    }

    private func process(_ arguments: [String]) -> Process {
        let process = Process()
        process.executableURL = URL(filePath: interpreter)
        process.currentDirectoryURL = URL(filePath: Self.folder)
        process.arguments = arguments
        process.environment = ProcessInfo.processInfo.environment.merging(Self.variables) { $1 }
        return process
    }

    private func report(_ arguments: [String]) async throws -> Report {
        let process = process(arguments)
        let output = Pipe()
        process.standardOutput = output
        try process.run()
        let data = try output.fileHandleForReading.readToEnd() ?? Data()
        process.waitUntilExit()
        guard process.terminationStatus == 0 else { throw BenchmarkError("\(arguments) failed") }
        return try JSONDecoder().decode(Report.self, from: data)
    }
}
