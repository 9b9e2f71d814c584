// Flockwork · Apache-2.0 · see LICENSE

import FlockWire

@testable import FlockActors
@testable import FlockCluster
@testable import Flockwork

/// Every message that a node or a client reads. Input: which one (a byte), then its bytes.
enum MessageTarget {
    typealias Read = @Sendable (Bytes) throws -> Void

    static let readers: [Read] = [
        fixed {
            try SubmitMessage(from: &$0, limits: fuzzLimits)
        } write: {
            $0.write(to: &$1)
        },
        fixed {
            try CancelMessage(from: &$0, limits: fuzzLimits)
        } write: {
            $0.write(to: &$1)
        },
        fixed {
            try SessionKey(from: &$0)
        } write: {
            $0.write(to: &$1)
        },
        fixed {
            try StreamPart(from: &$0, limits: fuzzLimits)
        } write: {
            $0.write(to: &$1, limits: fuzzLimits)
        },
        fixed {
            try OutcomesMessage(from: &$0, limits: fuzzLimits)
        } write: {
            $0.write(to: &$1, limits: fuzzLimits)
        },
        fixed {
            try OutcomeRun(from: &$0, limits: fuzzLimits)
        } write: {
            $0.write(to: &$1, limits: fuzzLimits)
        },
        fixed {
            try FlockError(from: &$0, limits: fuzzLimits)
        } write: {
            $0.write(to: &$1, limits: fuzzLimits)
        },
        fixed {
            try TraceContext(from: &$0)
        } write: {
            $0.write(to: &$1)
        },
        fixed {
            try items(&$0)
        } write: {
            $0.write(to: &$1)
        },
        whole {
            try MethodsFrame(from: $0, limits: fuzzLimits)
        } write: {
            $0.write(to: &$1)
        },
        whole {
            try CallHeader(from: $0)
        } write: {
            $0.write(to: &$1)
        },
        whole {
            try ReplyHeader(from: $0)
        } write: {
            $0.write(to: &$1)
        },
        { bytes in
            var reader = ByteReader(bytes)
            let message = try RunMessage(from: &reader, limits: fuzzLimits)
            precondition(message.items.count == message.runs.reduce(0) { $0 + $1.requests.count })
        },
        coded(OpenRequest.self), coded(ClusterDescription.self), coded(Announcement.self), coded(NodeStatus.self),
        coded(SessionToken.self), coded(Ticket.self), coded(ActorAddress.self),
        fixed {
            try NodeMessage(from: &$0, limits: fuzzLimits)
        } write: {
            $0.write(to: &$1, limits: fuzzLimits)
        },
    ]

    private static func items(_ reader: inout ByteReader) throws -> ItemBuffer {
        let items = try ItemBuffer(from: &reader, limits: fuzzLimits)
        for index in 0..<items.count { _ = items[index].array }
        _ = items.rows(of: Float.self, width: 2)
        _ = ItemBuffer.joined([items, items]).payload
        return items
    }

    /// What was read can be written and read again.
    private static func fixed<Message>(
        _ read: @escaping @Sendable (inout ByteReader) throws -> Message,
        write: @escaping @Sendable (Message, inout ByteWriter) -> Void
    ) -> Read {
        { bytes in
            var reader = ByteReader(bytes)
            let message = try read(&reader)
            var writer = ByteWriter()
            write(message, &writer)
            var again = ByteReader(writer.finish())
            do { _ = try read(&again) } catch { preconditionFailure("\(Message.self) cannot be read again: \(error)") }
        }
    }

    private static func whole<Message>(
        _ read: @escaping @Sendable (Bytes) throws -> Message,
        write: @escaping @Sendable (Message, inout ByteWriter) -> Void
    ) -> Read {
        fixed({ try read($0.readBytes($0.remaining)) }, write: write)
    }

    private static func coded<Message: Codable & SendableMetatype>(_ type: Message.Type) -> Read {
        fixed {
            try WireCoder.decode(Message.self, from: &$0, limits: fuzzLimits)
        } write: { message, writer in
            do { try WireCoder.encode(message, into: &writer, limits: Limits()) } catch {
                preconditionFailure("\(Message.self) cannot be written: \(error)")
            }
        }
    }

    static func run(_ input: [UInt8]) {
        guard let first = input.first else { return }
        do { try readers[Int(first) % readers.count](Bytes(Array(input[1...]))) } catch {
            precondition("\(error)".utf8.count < 100_000)
        }
    }

    private static func bytes(_ write: (inout ByteWriter) -> Void) -> [UInt8] {
        var writer = ByteWriter()
        write(&writer)
        return writer.finish().array
    }

    static func seeds() throws -> [[UInt8]] {
        let key = SessionKey(
            partition: PartitionID(7), session: SessionID(generation: 3, counter: 9), secretHigh: .max, secretLow: 5)
        let trace = TraceContext(traceHigh: 1, traceLow: 2, spanID: 3, flags: 1)
        let numbers = ItemBuffer(Rows<Int64>([1, 2, 3], width: 1))
        let texts = try ItemBuffer(count: 2) { index, writer in writer.writeText("ab\(index)") }
        let error = FlockError(.overloaded, "wait", stage: "s", node: "n", retryAfter: .milliseconds(5))
        var mask = ItemMask(count: 2)
        mask[1] = true
        let runs = [
            OutcomeRun(sequences: SequenceRun(first: 1, count: 2), outcome: .values(texts, filtered: mask)),
            OutcomeRun(sequences: SequenceRun(first: 3, count: 3), outcome: .values(numbers, filtered: nil)),
            OutcomeRun(sequences: SequenceRun(first: 9, count: 1), outcome: .failed(error)),
        ]
        let submit = SubmitMessage(
            key: key, taken: [SequenceRun(first: 2, count: 3)], lowestOpen: 2,
            runs: [
                SubmittedRun(first: 4, items: numbers, deadline: .milliseconds(5), trace: trace, notify: true),
                SubmittedRun(first: 7, items: texts, deadline: nil, trace: nil, notify: false),
            ])
        let part = StreamPart(accepted: 4, refused: .init(from: 9, error: error), outcomes: runs)
        let place = SessionPlace(partition: key.partition, session: key.session)
        let outcomes = OutcomesMessage(outcomes: [SessionOutcomes(place: place, runs: runs)])
        let methods = MethodsFrame(methods: [(1, "$s4Some6method"), (2, "x")], announcement: Bytes([1, 2]))
        let address = ActorAddress(named: "inbox", on: "n")
        return [
            bytes { submit.write(to: &$0) },
            bytes { CancelMessage(key: key, sequences: SequenceRun(first: 1, count: 3)).write(to: &$0) },
            bytes { key.write(to: &$0) }, bytes { part.write(to: &$0, limits: fuzzLimits) },
            bytes { outcomes.write(to: &$0, limits: fuzzLimits) },
            bytes { runs[0].write(to: &$0, limits: fuzzLimits) },
            bytes { error.write(to: &$0, limits: fuzzLimits) }, bytes { trace?.write(to: &$0) },
            bytes { texts.write(to: &$0) }, bytes { methods.write(to: &$0) },
            bytes {
                CallHeader(number: 1, actor: 2, method: 3, argumentCount: 1, flags: 0, deadline: 9).write(to: &$0)
            },
            bytes { ReplyHeader(number: 1, kind: .part).write(to: &$0) },
            runMessage(key, texts),
            try coded(OpenRequest(pipeline: "p", fingerprint: 7, window: 64)),
            try coded(
                ClusterDescription(
                    members: [.init(node: "n", host: "h", port: 1)], pipelines: [.init(name: "p", form: nil)])),
            try coded(Announcement(pipelines: [.init(pipeline: "p", fingerprint: 7, instances: [1, 2])])),
            [], [], [], try coded(address),
        ].enumerated().map { [UInt8($0)] + $1 }
            + NodeMessageSeeds.all.map { message in
                [UInt8(readers.count - 1)] + bytes { message.write(to: &$0, limits: fuzzLimits) }
            }
    }

    private static func coded(_ value: some Encodable) throws -> [UInt8] {
        var writer = ByteWriter()
        try WireCoder.encode(value, into: &writer, limits: Limits())
        return writer.finish().array
    }

    /// One run without a trace, as `RunMessage.write` has it.
    private static func runMessage(_ key: SessionKey, _ items: ItemBuffer) -> [UInt8] {
        bytes { writer in
            writer.write(UInt32(1))
            writer.write(UInt32(0))
            writer.write(key.partition.rawValue)
            writer.write(UInt16(0))
            writer.write(UInt32(items.count))
            writer.write(key.session.rawValue)
            writer.write(UInt64(4))
            writer.write(UInt64(0))
            items.write(to: &writer)
        }
    }
}
