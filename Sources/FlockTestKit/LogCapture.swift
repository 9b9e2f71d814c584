// Flockwork · Apache-2.0 · see LICENSE

public import FlockWire
public import Logging
internal import Synchronization

// A test of several nodes is only understood with all their logs side by side, and nobody wants to see those of tests
// that pass. So they are kept, and printed when a test fails.

/// Log entries of the nodes of a test.
public final class LogCapture: Sendable {
    /// One entry.
    public struct Entry: Sendable {
        /// Which node's logger it was.
        public let node: String
        public let level: Logger.Level
        public let message: String
        public let metadata: Logger.Metadata
    }

    /// Where the test that runs now collects its entries, if a trait or a caller has set it.
    @TaskLocal public static var current: LogCapture?

    private struct State {
        var entries: [Entry] = []
        var dropped = 0
    }

    /// Entries that are kept; later ones are counted only.
    public let capacity: Int
    private let state = Mutex(State())

    /// An empty capture.
    public init(capacity: Int = 10_000) {
        self.capacity = capacity
    }

    /// All entries, in the order in which they came.
    public var entries: [Entry] { state.withLock { $0.entries } }

    /// The entries of one node.
    public func entries(of node: NodeID) -> [Entry] { entries.filter { $0.node == node.rawValue } }

    /// A logger whose entries are kept under the node's name.
    public func logger(for node: NodeID, level: Logger.Level = .debug) -> Logger {
        Logger(label: node.rawValue) { label in CapturingHandler(node: label, logLevel: level, capture: self) }
    }

    func append(_ entry: Entry) {
        state.withLock { state in
            if state.entries.count < capacity { state.entries.append(entry) } else { state.dropped += 1 }
        }
    }

    /// The entries as text, a line each, for a person.
    public var text: String {
        let (entries, dropped) = state.withLock { ($0.entries, $0.dropped) }
        let width = entries.map(\.node.count).max() ?? 0
        var lines = entries.map { entry in
            let metadata = entry.metadata.sorted { $0.key < $1.key }.map { "\($0.key)=\($0.value)" }
            let name = entry.node + String(repeating: " ", count: width - entry.node.count)
            return ([name, "\(entry.level)", entry.message] + metadata).joined(separator: " ")
        }
        if dropped > 0 { lines.append("(\(dropped) entries more)") }
        return lines.joined(separator: "\n")
    }

    /// Runs `body`; if it throws, prints the entries before the error goes on.
    public func printingOnFailure<Result>(_ body: () async throws -> Result) async throws -> Result {
        do {
            return try await body()
        } catch {
            printAll(because: "\(error)")
            throw error
        }
    }

    /// Prints all entries.
    public func printAll(because reason: String) {
        print("--- logs of the nodes (\(reason)) ---\n\(text)\n--- end of the logs ---")
    }
}

/// Keeps what a logger gets.
private struct CapturingHandler: LogHandler {
    let node: String
    var logLevel: Logger.Level
    var metadata: Logger.Metadata = [:]
    let capture: LogCapture

    subscript(metadataKey key: String) -> Logger.Metadata.Value? {
        get { metadata[key] }
        set { metadata[key] = newValue }
    }

    func log(event: LogEvent) {
        let all = metadata.merging(event.metadata ?? [:]) { _, own in own }
        capture.append(
            LogCapture.Entry(node: node, level: event.level, message: "\(event.message)", metadata: all))
    }
}
