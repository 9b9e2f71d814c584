// Flockwork · Apache-2.0 · see LICENSE

import FlockWire

@testable import FlockCluster

/// SplitMix64: the same numbers for the same seed, everywhere.
struct Seeded {
    var state: UInt64
    init(_ seed: UInt64) { state = seed }

    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        return StableHash.mix(state)
    }
    /// 0 ..< bound.
    mutating func below(_ bound: Int) -> Int { Int(next() % UInt64(bound)) }
    mutating func chance(_ percent: Int) -> Bool { below(100) < percent }
}

/// Items of 8 bytes that hold `first`, `first + 1`, ….
func items(_ count: Int, from first: UInt64 = 0) -> ItemBuffer {
    let bytes = Bytes(count: count * 8) { raw in
        for index in 0..<count { raw.storeBytes(of: first + UInt64(index), toByteOffset: index * 8, as: UInt64.self) }
    }
    return ItemBuffer(fixed: bytes, stride: 8, count: count)
}

/// Items of different lengths.
func items(lengths: [Int]) throws -> ItemBuffer {
    try ItemBuffer(count: lengths.count) { index, writer in
        for _ in 0..<lengths[index] { writer.write(UInt8(index)) }
    }
}

func number(_ items: ItemBuffer, _ index: Int) -> UInt64 {
    items[index].withUnsafeBytes { $0.loadUnaligned(as: UInt64.self) }
}

func sequences(_ first: UInt64, _ count: Int) -> SequenceRun { SequenceRun(first: first, count: count) }

func milliseconds(_ value: UInt64) -> Tick { Tick(nanoseconds: value * 1_000_000) }

/// A replica with what the shell keeps for it.
struct Partition {
    static let id = PartitionID(3)
    static let secret = SessionSecret(11, 22)
    var replica: PartitionReplica
    var budget: ByteBudget
    var now = Tick.zero

    init(_ limits: Limits = Limits(), generation: UInt16 = 1) {
        replica = PartitionReplica(
            partition: Self.id, epoch: 1, node: NodeID("a"), inSync: [NodeID("a")], generation: generation,
            limits: limits)
        budget = ByteBudget(limits: limits)
    }

    mutating func step(_ event: PartitionEvent) -> [PartitionDirective] {
        var out: [PartitionDirective] = []
        replica.step(event, now: now, budget: &budget, out: &out)
        return out
    }

    mutating func open(window: Int = 1000) -> SessionID {
        let out = step(.open(pipeline: 7, secret: Self.secret, window: window, reply: 1))
        guard case .opened(reply: 1, let session) = out.first else { fatalError("no session: \(out)") }
        return session
    }

    mutating func submit(
        _ session: SessionID, _ first: UInt64, _ count: Int, deadline: Duration? = nil, payload: ItemBuffer? = nil
    ) -> [PartitionDirective] {
        let run = AcceptRun(
            sequences: sequences(first, count), items: payload ?? items(count, from: first), deadline: deadline)
        return step(.submit(session: session, secret: Self.secret, run: run, reply: 9))
    }

    mutating func complete(_ session: SessionID, _ first: UInt64, _ count: Int, value: UInt64 = 100)
        -> [PartitionDirective]
    {
        let values = RunOutcome.values(items(count, from: value + first), filtered: nil)
        return step(
            .completed(session: session, runs: [OutcomeRun(sequences: sequences(first, count), outcome: values)]))
    }

    mutating func attach(_ session: SessionID, _ subscriber: UInt64 = 5) -> [PartitionDirective] {
        step(.attach(session: session, secret: Self.secret, subscriber: subscriber))
    }

    mutating func ack(_ session: SessionID, _ runs: [SequenceRun], lowestOpen: UInt64 = 0) -> [PartitionDirective] {
        step(.ack(session: session, secret: Self.secret, runs: runs, lowestOpen: lowestOpen))
    }

    mutating func tick(at tick: Tick) -> [PartitionDirective] {
        now = tick
        return step(.tick)
    }
}

extension PartitionDirective {
    /// What matters of it, to compare with.
    var text: String {
        switch self {
        case .opened(let reply, let session): "opened \(reply) \(session)"
        case .accepted(_, let through): "accepted \(through)"
        case .refused(_, let from, let error): "refused \(from) \(error.code)"
        case .dispatch(let run): "dispatch \(run.requests.sequences)"
        case .revoke(let run): "revoke \(run.sequences)"
        case .deliver(let subscriber, _, let runs):
            "deliver \(subscriber): " + runs.map { "\($0.sequences) \($0.outcome.text)" }.joined(separator: ", ")
        case .failed(_, let error): "failed \(error.code)"
        case .done: "done"
        case .sessionClosed: "closed"
        case .attempted(let run, let attempts): "attempted \(run.sequences) \(attempts)"
        case .send(let member, let message): "send \(member) \(message.text)"
        case .report(let report): "report \(report)"
        case .persist(let first, let entries): "persist \(first)+\(entries.count)"
        case .persistSnapshot(let parts): "persist snapshot \(parts[0].index)"
        case .serving: "serving"
        case .demoted: "demoted"
        case .behind(let epoch): "behind \(epoch)"
        }
    }
}

extension ReplicationMessage {
    var text: String {
        switch self {
        case .append(let append):
            "append e\(append.epoch) \(append.previousIndex)+\(append.entries.count) commit \(append.commit)"
        case .appended(let epoch, let through, let committed): "appended e\(epoch) \(through) commit \(committed)"
        case .mismatch(let epoch, let committed, let last, _): "mismatch e\(epoch) \(last) commit \(committed)"
        case .snapshot(let part): "snapshot e\(part.epoch) \(part.index) \(part.number)/\(part.count)"
        case .received(let epoch, let index, let parts): "received e\(epoch) \(index) \(parts)"
        case .stale(let epoch): "stale e\(epoch)"
        }
    }
}

extension RunOutcome {
    var text: String {
        switch self {
        case .values(let items, let mask):
            "values \(number(items, 0))" + (mask.map { " mask " + $0.text } ?? "")
        case .filtered: "filtered"
        case .failed(let error): "\(error.code)"
        }
    }
}

extension ItemMask {
    var text: String { (0..<count).map { self[$0] ? "1" : "0" }.joined() }
}

func texts(_ directives: [PartitionDirective]) -> [String] { directives.map(\.text) }
