// Flockwork · Apache-2.0 · see LICENSE

// What clients saw, in lines that simulated and real clients write alike, one event each. The checker knows nothing
// else about a run.

/// One line of a client's history.
package struct HistoryLine: Sendable, Equatable, CustomStringConvertible {
    /// `invoke` begins an operation; `ok` says that it had its effect, `fail` that it had none; after `info` nobody
    /// knows.
    package enum Kind: String, Sendable, CaseIterable { case invoke, ok, fail, info }
    /// What the client wanted, or got: `outcome` is always `ok`; `lost` says that a session's partition was lost.
    package enum Operation: String, Sendable, CaseIterable { case open, submit, outcome, ack, cancel, recollect, lost }

    /// Nanoseconds, of the client's own clock.
    package var time: UInt64
    package var client: Int
    package var kind: Kind
    package var operation: Operation
    package var partition: Int
    /// 0 before the session is open.
    package var session: UInt64
    /// The sequences that it is about.
    package var first: UInt64
    package var count: Int
    /// `submit`: a word for each payload. `outcome`: three words for each sequence, see `Outcome`. Else empty.
    package var words: [UInt64]

    /// An outcome as three words.
    package struct Outcome: Sendable, Equatable {
        /// 0 for a value, 1 for filtered, and above that 2 + the error's code.
        package var kind: UInt64
        /// The payload that the value says it was made from.
        package var echo: UInt64
        /// A hash of all of its bytes.
        package var hash: UInt64
    }

    package init(
        time: UInt64, client: Int, kind: Kind, operation: Operation, partition: Int, session: UInt64, first: UInt64,
        count: Int, words: [UInt64] = []
    ) {
        self.time = time
        self.client = client
        self.kind = kind
        self.operation = operation
        self.partition = partition
        self.session = session
        self.first = first
        self.count = count
        self.words = words
    }

    /// Fields with a space between them, numbers in decimal, words in hexadecimal.
    package var description: String {
        var text = "\(time) \(client) \(kind.rawValue) \(operation.rawValue) \(partition) \(session) \(first) \(count)"
        for word in words { text += " " + String(word, radix: 16) }
        return text
    }

    /// Reads what `description` wrote; nil if it is no such line.
    package init?(parsing text: some StringProtocol) {
        let fields = text.split(separator: " ")
        guard fields.count >= 8, let time = UInt64(fields[0]), let client = Int(fields[1]),
            let kind = Kind(rawValue: String(fields[2])), let operation = Operation(rawValue: String(fields[3])),
            let partition = Int(fields[4]), let session = UInt64(fields[5]), let first = UInt64(fields[6]),
            let count = Int(fields[7])
        else { return nil }
        var words: [UInt64] = []
        for field in fields[8...] {
            guard let word = UInt64(field, radix: 16) else { return nil }
            words.append(word)
        }
        self.init(
            time: time, client: client, kind: kind, operation: operation, partition: partition, session: session,
            first: first, count: count, words: words)
    }
}
