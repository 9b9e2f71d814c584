// Flockwork · Apache-2.0 · see LICENSE

import FlockWire
import Testing

@testable import FlockCluster

extension PartitionWalk {
    mutating func acknowledge(_ id: SessionID) {
        guard var session = model.sessions[id] else { return }
        session.lastCall = partition.now
        var runs: [SequenceRun] = []
        for _ in 0..<random.below(4) {
            runs.append(sequences(UInt64(random.below(Int(session.next) + 5)), random.below(10)))
        }
        let lowestOpen = random.chance(30) ? UInt64(random.below(Int(session.next) + 10)) : 0
        for sequence in session.done
        where sequence < lowestOpen || runs.contains(where: { $0.first <= sequence && sequence < $0.end }) {
            session.items[sequence] = .acked
        }
        model.sessions[id] = session
        let out = partition.ack(id, runs, lowestOpen: lowestOpen)
        expect(out.isEmpty, "ack: \(texts(out))")
    }

    mutating func cancel(_ id: SessionID) {
        guard var session = model.sessions[id] else { return }
        session.lastCall = partition.now
        let low = Int(session.base)
        let run = sequences(UInt64(low + random.below(Int(session.next) - low + 3)), 1 + random.below(9))
        let isRefused =
            run.end > session.next && (run.first > session.next || Int(run.end - session.base) > session.window)
        var expected: [UInt64: PartitionModel.Outcome] = [:]
        let wereOpen = Set(session.open)
        if !isRefused {
            let expires = partition.now + model.limits.outcomeTimeToLive
            for sequence in run.first..<run.end {
                if sequence >= session.next {
                    session.items[sequence] = .done(.failed(.cancelled), expires: expires)
                    session.latestExpiry = max(session.latestExpiry, expires)
                    expected[sequence] = .failed(.cancelled)
                } else if session.complete(sequence, .failed(.cancelled), expires: expires) {
                    expected[sequence] = .failed(.cancelled)
                }
            }
            session.next = max(session.next, run.end)
        }
        model.sessions[id] = session
        let out = partition.step(.cancel(session: id, secret: Partition.secret, sequences: run, reply: 4))
        expect(out.last?.text == (isRefused ? "failed overloaded" : "done"), "cancel \(run): \(texts(out))")
        checkDeliveries(out, id, expected, "cancel")
        checkRevokes(out, id, Set(expected.keys).intersection(wereOpen))
    }

    mutating func checkRevokes(_ out: [PartitionDirective], _ id: SessionID, _ expected: Set<UInt64>) {
        var revoked: Set<UInt64> = []
        for directive in out {
            guard case .revoke(let run) = directive, run.session == id else { continue }
            for sequence in run.sequences.first..<run.sequences.end {
                expect(revoked.insert(sequence).inserted, "\(sequence) revoked twice")
            }
        }
        expect(revoked == expected, "revoked \(revoked.sorted()), expected \(expected.sorted())")
    }

    mutating func attach(_ id: SessionID) {
        guard var session = model.sessions[id] else { return }
        session.lastCall = partition.now
        let subscriber = UInt64(1 + random.below(3))
        session.subscriber = subscriber
        model.sessions[id] = session
        var expected: [UInt64: PartitionModel.Outcome] = [:]
        for sequence in session.done {
            if case .done(let outcome, _) = session.items[sequence] { expected[sequence] = outcome }
        }
        checkDeliveries(partition.attach(id, subscriber), id, expected, "attach")
    }

    mutating func detach() {
        let subscriber = UInt64(1 + random.below(3))
        for id in model.sessions.keys.sorted() where model.sessions[id]?.subscriber == subscriber {
            model.sessions[id]?.subscriber = nil
            model.sessions[id]?.lastCall = partition.now
        }
        let out = partition.step(.detach(subscriber: subscriber))
        expect(out.isEmpty, "detach: \(texts(out))")
    }

    mutating func close(_ id: SessionID) {
        let open = Set(model.sessions[id]?.open ?? [])
        model.sessions[id] = nil
        let out = partition.step(.close(session: id, secret: Partition.secret, reply: 3))
        expect(out.suffix(2).map(\.text) == ["closed", "done"], "close: \(texts(out))")
        checkRevokes(out, id, open)
    }

    mutating func closeAll() {
        for id in model.sessions.keys.sorted() { close(id) }
    }

    mutating func wrongSecret(_ id: SessionID) {
        let wrong = SessionSecret(11, 23)
        let run = AcceptRun(sequences: sequences(model.sessions[id]?.next ?? 0, 1), items: items(1))
        let events: [PartitionEvent] = [
            .submit(session: id, secret: wrong, run: run, reply: 1),
            .cancel(session: id, secret: wrong, sequences: sequences(0, 5), reply: 1),
            .attach(session: id, secret: wrong, subscriber: 9, reply: 1),
            .ack(session: id, secret: wrong, runs: [sequences(0, 99)], lowestOpen: 99, reply: 1),
            .close(session: id, secret: wrong, reply: 1),
        ]
        let out = partition.step(events[random.below(events.count)])
        expect(texts(out) == ["failed notFound"], "wrong secret: \(texts(out))")
    }

    mutating func tick() {
        let passed = random.chance(15) ? random.below(400) : random.below(40)
        partition.now = partition.now + .milliseconds(Int64(passed))
        let before = model
        let closed = model.tick(partition.now)
        let out = partition.step(.tick)
        let said = out.compactMap { directive -> SessionID? in
            if case .sessionClosed(let id) = directive { id } else { nil }
        }
        expect(said == closed, "closed \(said), expected \(closed)")
        for (id, old) in before.sessions.sorted(by: { $0.key < $1.key }) {
            let due = old.open.filter {
                if case .open(let deadline) = old.items[$0] { deadline <= partition.now } else { false }
            }
            checkRevokes(out, id, Set(due))
            let mine = out.filter { if case .deliver(_, id, _) = $0 { true } else { false } }
            let expected = due.map { ($0, PartitionModel.Outcome.failed(.deadlineExceeded)) }
            checkDeliveries(mine, id, Dictionary(uniqueKeysWithValues: expected), "tick")
        }
    }

    /// The replica holds exactly what the model holds.
    mutating func check(_ context: String) {
        let replica = partition.replica
        expect(replica.sessionCount == model.sessions.count, "\(context): \(replica.sessionCount) sessions")
        let open = model.sessions.values.reduce(0) { $0 + $1.open.count }
        expect(replica.openItems == open, "\(context): \(replica.openItems) open items, expected \(open)")
        expect(
            partition.budget.open == model.openBytes,
            "\(context): \(partition.budget.open) open bytes, expected \(model.openBytes)")
        let unread = model.unread
        let most = unread.values + unread.others * 16 + 48
        expect(
            (unread.values...most).contains(partition.budget.unread),
            "\(context): \(partition.budget.unread) unread bytes, expected \(unread)")
        var sum = 0
        var earliest = Tick.never
        for (id, session) in model.sessions {
            guard let slot = replica.sessions.slot(of: id) else {
                expect(false, "\(context): \(id) is missing")
                continue
            }
            let real = replica.sessions[slot]
            expect(
                real.next == session.next && real.base == session.base,
                "\(context): \(id) holds \(real.held), expected \(session.base)..<\(session.next)")
            expect(
                real.unreadBytes + real.reservedBytes <= model.limits.sessionResultBytes,
                "\(context): \(id) is over its quota")
            var held = 0
            real.forEachHeld { held += $1.bytes }
            expect(held == real.unreadBytes, "\(context): \(id) counts \(real.unreadBytes), holds \(held)")
            sum += held
            for item in session.items.values {
                switch item {
                case .open(let deadline): earliest = min(earliest, deadline)
                case .done(_, let expires): earliest = min(earliest, expires)
                case .acked: break
                }
            }
        }
        expect(partition.budget.unread == sum, "\(context): \(partition.budget.unread) unread of \(sum)")
        expect(replica.nextDeadline <= earliest, "\(context): tick at \(replica.nextDeadline), due at \(earliest)")
        let openRuns = replica.openRuns().reduce(0) { $0 + $1.items.count }
        expect(openRuns == open, "\(context): \(openRuns) in open runs of \(open)")
    }
}
