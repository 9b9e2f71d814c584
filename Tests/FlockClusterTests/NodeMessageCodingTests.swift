// Flockwork · Apache-2.0 · see LICENSE

import FlockTestKit
import FlockWire
import Testing

@testable import FlockCluster

@Suite("Messages between nodes as bytes")
struct NodeMessageCodingTests {
    private static let limits = Limits()

    private func encoded(_ messages: [NodeMessage]) -> Bytes {
        var writer = ByteWriter()
        for message in messages { message.write(to: &writer, limits: Self.limits) }
        return writer.finish()
    }

    private func decoded(_ bytes: Bytes) throws -> [NodeMessage] {
        var reader = ByteReader(bytes)
        var messages: [NodeMessage] = []
        while !reader.isAtEnd { messages.append(try NodeMessage(from: &reader, limits: Self.limits)) }
        return messages
    }

    @Test("each kind of message is read back as it was written", arguments: 1...40 as ClosedRange<UInt64>)
    func roundTrip(seed: UInt64) throws {
        var random = SeededRandom(seed: seed)
        for kind in 0..<MessageSamples.kinds {
            let message = MessageSamples.message(kind: kind, &random)
            let bytes = encoded([message])
            let read = try decoded(bytes)
            #expect(encoded(read) == bytes, "seed \(seed), kind \(kind)")
            #expect(read.count == 1 && bytes.count <= message.encodedSize, "seed \(seed), kind \(kind)")
            // Bytes alone would not show a field that is neither written nor read.
            #expect(summary(of: read[0]) == summary(of: message), "seed \(seed), kind \(kind)")
        }
    }

    /// What Swift prints of a message, without addresses of storages and of log entries.
    private func summary(of message: NodeMessage) -> String {
        var text = ""
        dump(message, to: &text)
        let addresses = ["Storage", "base: 0x", "pointerValue", "capacity:", "start:"]
        return text.split(separator: "\n").filter { line in !addresses.contains { line.contains($0) } }
            .map { $0.prefix { $0 != "#" } }.joined(separator: "\n")
    }

    @Test("a frame holds several messages, each at a multiple of 8")
    func several() throws {
        var random = SeededRandom(seed: 3)
        let messages = (0..<MessageSamples.kinds).map { MessageSamples.message(kind: $0, &random) }
        let bytes = encoded(messages)
        let read = try decoded(bytes)
        #expect(read.count == messages.count && encoded(read) == bytes)
    }

    @Test("a message that is cut off at any byte is an error")
    func truncated() {
        var random = SeededRandom(seed: 7)
        for kind in 0..<MessageSamples.kinds {
            let bytes = encoded([MessageSamples.message(kind: kind, &random)])
            for count in 1..<bytes.count {
                #expect(throws: WireError.self, "kind \(kind), \(count) of \(bytes.count)") {
                    try decoded(bytes.slice(from: 0, count: count))
                }
            }
        }
    }

    @Test("a message whose head is shorter or longer than it is refused")
    func wrongLength() throws {
        var random = SeededRandom(seed: 8)
        for kind in 0..<MessageSamples.kinds {
            var raw = encoded([MessageSamples.message(kind: kind, &random)]).array + Array(repeating: 0, count: 16)
            let length = Int(raw[4]) | Int(raw[5]) << 8
            for other in [length - 1, length + 9] {
                raw[4] = UInt8(other & 0xFF)
                raw[5] = UInt8(other >> 8 & 0xFF)
                #expect(throws: WireError.self, "kind \(kind)") {
                    var reader = ByteReader(Bytes(raw))
                    _ = try NodeMessage(from: &reader, limits: Self.limits)
                }
            }
        }
    }

    @Test("unknown kinds and versions are refused")
    func unknown() {
        let good = encoded([.control(.pull(have: 1))]).array
        for (place, values) in [(0, [0, 4, 255]), (1, [0, 2, 255]), (2, [1]), (3, [1])] as [(Int, [UInt8])] {
            for value in values {
                var raw = good
                raw[place] = value
                #expect(throws: WireError.self, "byte \(place) = \(value)") { try decoded(Bytes(raw)) }
            }
        }
    }

    @Test("changed bytes give a message or an error, never a trap")
    func damaged() {
        let seed = UInt64.random(in: .min ... .max)
        print("NodeMessageCodingTests.damaged seed \(seed)")
        var random = SeededRandom(seed: seed)
        var refused = 0
        for round in 0..<20_000 {
            var bytes = encoded([MessageSamples.message(kind: round % MessageSamples.kinds, &random)]).array
            for _ in 0..<Int.random(in: 1...4, using: &random) {
                let at = Int.random(in: 0..<bytes.count, using: &random)
                switch Int.random(in: 0..<4, using: &random) {
                case 0: bytes[at] = UInt8.random(in: 0...255, using: &random)
                case 1: bytes[at] ^= 1 << UInt8.random(in: 0..<8, using: &random)
                case 2: bytes[at] = [0, 0x7F, 0x80, 0xFF][Int.random(in: 0..<4, using: &random)]
                default: if bytes.count > 9 { bytes.remove(at: at) }
                }
            }
            do {
                // What is read can be written, and read again.
                let again = encoded(try decoded(Bytes(bytes)))
                #expect(throws: Never.self, "seed \(seed)") { try decoded(again) }
            } catch { refused += 1 }
        }
        #expect(refused > 5_000, "seed \(seed)")
    }

    @Test("a count that no bytes follow takes no memory")
    func counts() {
        var random = SeededRandom(seed: 9)
        var (tried, refused) = (0, 0)
        for kind in 1..<MessageSamples.kinds {
            let good = encoded([MessageSamples.message(kind: kind, &random)]).array
            // Each aligned word becomes a huge number in turn.
            for place in stride(from: 8, to: good.count - 4, by: 4) {
                var raw = good
                for offset in 0..<3 { raw[place + offset] = 0xFF }
                raw[place + 3] = 0x7F
                tried += 1
                do { _ = try decoded(Bytes(raw)) } catch { refused += 1 }
            }
        }
        #expect(refused > tried / 10, "\(refused) of \(tried)")
    }

    @Test("items of a message that fills its storage stay there; those of a small one do not pin it")
    func placement() throws {
        let run = AcceptRun(sequences: sequences(0, 256), items: items(256))
        let operation = PartitionOperation.accept(SessionID(rawValue: 1), run, timeToLive: 1)
        let entry = LogEntry(epoch: 1, index: 1, time: .zero, operation: operation)
        let append = ReplicationAppend(
            epoch: 1, previousIndex: 0, previousEpoch: 0, commit: 0, held: 0, entries: [entry])
        let one = MemberNumber(rawValue: 1)
        let bytes = encoded([.replication(from: one, to: one, PartitionID(0), .append(append))])
        for (capacity, stays) in [(bytes.count, true), (4 * bytes.count - 64, true), (5 * bytes.count, false)] {
            let frame = Bytes(count: capacity) { target in
                bytes.withUnsafeBytes { target.copyMemory(from: $0) }
            }.slice(from: 0, count: bytes.count)
            guard case .replication(_, _, _, .append(let read))? = try decoded(frame).first,
                case .accept(_, let accepted, _)? = read.entries.first?.operation
            else { throw FlockError(.invalidInput, "another message") }
            #expect((accepted.items.payload.storage === frame.storage) == stays, "\(capacity) bytes")
        }
    }
}
