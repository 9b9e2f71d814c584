// Flockwork · Apache-2.0 · see LICENSE

public import FlockWire

/// What the caller holds for a posted request. `Codable`: it may outlive the process.
public struct Ticket: Codable, Hashable, Sendable, CustomStringConvertible {
    public let id: RequestID
    public init(id: RequestID) { self.id = id }
    public var description: String { id.description }
}

/// The tickets of requests that were posted together, in their order.
public struct Tickets: Sendable, RandomAccessCollection {
    /// Usually one run; more where a post was spread over sessions or windows.
    public private(set) var runs: [RequestRun]
    private var starts: [Int]
    public private(set) var endIndex: Int

    public init(_ runs: [RequestRun] = []) {
        self.runs = []
        starts = []
        endIndex = 0
        for run in runs { append(run) }
    }

    mutating func append(_ run: RequestRun) {
        starts.append(endIndex)
        runs.append(run)
        endIndex += run.count
    }

    public var startIndex: Int { 0 }

    /// The ticket of the request at `index` of what was posted.
    public subscript(index: Int) -> Ticket {
        precondition(index >= 0 && index < endIndex, "ticket \(index) of \(endIndex)")
        var at = starts.count - 1
        if starts.count > 1 {
            var low = 0
            while low < at {
                let middle = (low + at + 1) / 2
                if starts[middle] <= index { low = middle } else { at = middle - 1 }
            }
        }
        let run = runs[at]
        return Ticket(
            id: RequestID(
                partition: run.partition, session: run.session,
                sequence: run.sequences.first + UInt64(index - starts[at])))
    }
}

/// What became of one request.
public enum Outcome<Value: Sendable>: Sendable {
    case value(Value)
    /// The pipeline filtered it.
    case filtered
    case failure(FlockError)

    /// The value, or the error that says why there is none.
    public func get() throws(FlockError) -> Value {
        switch self {
        case .value(let value): return value
        case .filtered: throw FlockError(.filtered, "The pipeline filtered the request.")
        case .failure(let error): throw error
        }
    }
}

extension Outcome: Equatable where Value: Equatable {}
