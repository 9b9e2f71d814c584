// Flockwork · Apache-2.0 · see LICENSE

import FlockCluster
import FlockTestKit
import FlockWire
import Testing

@testable import Flockwork

@Suite("Messages between clients, inboxes and stages")
struct MessageTests {
    static let key = SessionKey(
        partition: PartitionID(7), session: SessionID(generation: 3, counter: 9), secretHigh: .max, secretLow: 5)

    static func numbers(_ values: [Int64]) -> ItemBuffer { ItemBuffer(Rows(values, width: 1)) }

    static func texts(_ values: [String]) throws -> ItemBuffer {
        try ItemBuffer(count: values.count) { index, writer in writer.write(Bytes(values[index])) }
    }

    static func submit() throws -> SubmitMessage {
        let trace = TraceContext(traceHigh: 1, traceLow: 2, spanID: 3, flags: 1)
        return SubmitMessage(
            key: key, taken: [SequenceRun(first: 2, count: 3), SequenceRun(first: 9, count: 1)], lowestOpen: 2,
            runs: [
                SubmittedRun(
                    first: 40, items: numbers([1, 2, 3]), deadline: .milliseconds(50), trace: nil, notify: true),
                SubmittedRun(first: 43, items: try texts(["", "ab"]), deadline: nil, trace: trace, notify: false),
                SubmittedRun(first: .max - 1, items: try texts(["c"]), deadline: nil, trace: nil, notify: true),
            ])
    }

    static func outcomes() throws -> [OutcomeRun] {
        var mask = ItemMask(count: 9)
        mask[0] = true
        mask[8] = true
        let error = FlockError(.overloaded, "wait", stage: "s", node: "n", retryAfter: .milliseconds(5))
        return [
            OutcomeRun(sequences: SequenceRun(first: 0, count: 2), outcome: .values(numbers([1, 2]), filtered: nil)),
            OutcomeRun(
                sequences: SequenceRun(first: 2, count: 9),
                outcome: .values(try texts(["a", "b", "c", "d", "", "", "", "", "e"]), filtered: mask)),
            OutcomeRun(sequences: SequenceRun(first: 11, count: 1), outcome: .filtered),
            OutcomeRun(sequences: SequenceRun(first: .max - 3, count: 3), outcome: .failed(error)),
        ]
    }

    /// What a message says, for comparison.
    static func text(_ buffer: ItemBuffer) -> String {
        "\(buffer.layout) \((0..<buffer.count).map { buffer[$0].array })"
    }

    static func text(_ run: OutcomeRun) -> String {
        switch run.outcome {
        case .values(let items, let mask):
            "\(run.sequences) \(text(items)) \(mask.map { mask in (0..<mask.count).map { mask[$0] } } ?? [])"
        case .filtered: "\(run.sequences) filtered"
        case .failed(let error): "\(run.sequences) \(error)"
        }
    }

    static func text(_ message: SubmitMessage) -> String {
        let runs = message.runs.map {
            "\($0.first) \(text($0.items)) \($0.deadline as Any) \($0.trace as Any) \($0.notify)"
        }
        return "\(message.key) \(message.taken) \(message.lowestOpen) \(runs)"
    }

    static func text(_ part: StreamPart) -> String {
        let refused = part.refused.map { "\($0.from) \($0.error)" } ?? ""
        return "\(part.accepted as Any) \(refused) \(part.outcomes.map { text($0) })"
    }

    static func text(_ message: RunMessage) -> String { "\(message.runs) \(text(message.items))" }

    static func text(_ message: OutcomesMessage) -> String {
        "\(message.outcomes.map { "\($0.place) \($0.runs.map { text($0) })" })"
    }

    /// Writes, reads, compares; then every truncation, and every surplus, must be refused.
    private func check<Message>(
        _ message: Message, write: (Message, inout ByteWriter) -> Void,
        read: (inout ByteReader) throws -> Message, text: (Message) -> String
    ) throws {
        var writer = ByteWriter()
        write(message, &writer)
        let bytes = writer.finish()
        var reader = ByteReader(bytes)
        #expect(text(try read(&reader)) == text(message))
        for count in 0..<bytes.count {
            var cut = ByteReader(bytes.slice(from: 0, count: count))
            #expect(throws: (any Error).self, "the first \(count) of \(bytes.count) bytes") { _ = try read(&cut) }
        }
        var surplus = ByteReader(Bytes(bytes.array + Array(repeating: 0, count: 8)))
        #expect(throws: (any Error).self, "8 bytes more") { _ = try read(&surplus) }
    }

    @Test("a submit survives the wire; every truncation is refused")
    func submitMessage() throws {
        let limits = Limits()
        for message in [try Self.submit(), SubmitMessage(key: Self.key, lowestOpen: .max)] {
            try check(
                message, write: { $0.write(to: &$1) }, read: { try SubmitMessage(from: &$0, limits: limits) },
                text: Self.text)
        }
    }

    @Test("a cancel survives the wire; every truncation is refused")
    func cancelMessage() throws {
        try check(
            CancelMessage(key: Self.key, sequences: SequenceRun(first: .max - 10, count: 10)),
            write: { $0.write(to: &$1) }, read: { try CancelMessage(from: &$0, limits: Limits()) },
            text: { "\($0.key) \($0.sequences)" })
    }

    @Test("a part of a stream survives the wire; every truncation is refused")
    func streamPart() throws {
        let limits = Limits()
        let refusal = StreamPart.Refusal(from: 77, error: FlockError(.overloaded, "later", retryAfter: .seconds(1)))
        let parts = [
            StreamPart(), StreamPart(accepted: .max), StreamPart(refused: refusal),
            StreamPart(accepted: 3, refused: refusal, outcomes: try Self.outcomes()),
        ]
        for part in parts {
            try check(
                part, write: { $0.write(to: &$1, limits: limits) }, read: { try StreamPart(from: &$0, limits: limits) },
                text: Self.text)
        }
    }

    @Test("runs for a stage and their outcomes survive the wire; every truncation is refused")
    func stageMessages() throws {
        let limits = Limits()
        let place = SessionPlace(partition: PartitionID(7), session: SessionID(rawValue: .max))
        let none = Assignment { _, _ in }
        var work = [(UInt64(0), Tick?.none, Int64(2)), (UInt64.max - 4, Tick(nanoseconds: 5_000_000), Int64(3))].map {
            WorkRun(
                run: RequestRun(
                    partition: place.partition, session: place.session,
                    sequences: SequenceRun(first: $0.0, count: Int($0.2))),
                items: Self.numbers(Array(0..<$0.2)), deadline: $0.1, arrived: .zero, assignment: none)
        }
        work[0].trace = TraceContext(traceHigh: 1, traceLow: 2, spanID: 3, flags: 1)
        let message = RunMessage(work, at: .zero)
        #expect(message.runs.map(\.trace) == [work[0].trace, nil])
        #expect(message.runs.map(\.deadline) == [nil, .milliseconds(5)])
        try check(
            message, write: { $0.write(to: &$1) }, read: { try RunMessage(from: &$0, limits: limits) }, text: Self.text)
        // A deadline that has passed is still one.
        #expect(RunMessage(work, at: .never).runs[1].deadline == .microseconds(1))
        try check(
            OutcomesMessage(outcomes: [SessionOutcomes(place: place, runs: try Self.outcomes())]),
            write: { $0.write(to: &$1, limits: limits) }, read: { try OutcomesMessage(from: &$0, limits: limits) },
            text: Self.text)
    }

    @Test("counts that the limits do not allow are refused before anything is reserved for them")
    func counts() throws {
        var writer = ByteWriter()
        try Self.submit().write(to: &writer)
        let bytes = writer.finish().array
        // The counts of ranges and of runs are at 40 and 44.
        for offset in [40, 44] {
            for count in [4097, .max] as [UInt32] {
                var hostile = bytes
                withUnsafeBytes(of: count.littleEndian) { hostile.replaceSubrange(offset..<offset + 4, with: $0) }
                var reader = ByteReader(Bytes(hostile))
                #expect(throws: (any Error).self) { _ = try SubmitMessage(from: &reader, limits: Limits()) }
            }
        }
    }

    @Test("no mutation of a message breaks its reader", arguments: [11, 12, 13, 14] as [UInt64])
    func mutations(seed: UInt64) throws {
        let limits = Limits()
        var random = SeededRandom(seed: seed)
        var submit = ByteWriter()
        try Self.submit().write(to: &submit)
        var part = ByteWriter()
        StreamPart(accepted: 3, outcomes: try Self.outcomes()).write(to: &part, limits: limits)
        let originals = [submit.finish().array, part.finish().array]
        var understood = 0
        for _ in 0..<1500 {
            for (index, original) in originals.enumerated() {
                var reader = ByteReader(Bytes(Mutation.mutated(original, &random)))
                do {
                    if index == 0 {
                        _ = try SubmitMessage(from: &reader, limits: limits)
                    } else {
                        _ = try StreamPart(from: &reader, limits: limits)
                    }
                    understood += 1
                } catch {}
            }
        }
        #expect(understood > 0 && understood < 3000, "seed \(seed): the mutations are too wild or too tame")
    }
}

/// Hostile variants of bytes that were right.
enum Mutation {
    static let hostile: [UInt64] = [
        0, 1, 0x7F, 0xFF, 0x7FFF_FFFF, 0x8000_0000, 0xFFFF_FFFF, 1 << 32, 1 << 63, .max - 1, .max,
    ]

    static func mutated(_ original: [UInt8], _ random: inout SeededRandom) -> [UInt8] {
        var bytes = original
        for _ in 0..<Int.random(in: 1...3, using: &random) {
            guard !bytes.isEmpty else { return bytes }
            let at = Int.random(in: 0..<bytes.count, using: &random)
            switch Int.random(in: 0..<5, using: &random) {
            case 0: bytes[at] = .random(in: 0 ... .max, using: &random)
            case 1: bytes[at] ^= 1 << UInt8.random(in: 0..<8, using: &random)
            case 2: bytes.removeLast(Int.random(in: 0...min(16, bytes.count - 1), using: &random))
            case 3:
                bytes += (0..<Int.random(in: 1...16, using: &random)).map { _ in .random(in: 0 ... .max, using: &random)
                }
            default:
                let width = [2, 4, 8].randomElement(using: &random) ?? 4
                let start = at / width * width
                guard start + width <= bytes.count else { continue }
                let value = hostile.randomElement(using: &random) ?? 0
                withUnsafeBytes(of: value.littleEndian) {
                    bytes.replaceSubrange(start..<start + width, with: $0[..<width])
                }
            }
        }
        return bytes
    }
}
