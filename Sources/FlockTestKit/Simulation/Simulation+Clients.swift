// Flockwork · Apache-2.0 · see LICENSE

internal import FlockCluster
internal import FlockWire

// What clients do when their time has come, and what they make of answers.

extension Simulation {
    static let callTime = 400 * Virtual.millisecond
    /// Requests that a session keeps at most; with more it issues nothing.
    static let mostHeld = 450

    func record(
        _ kind: HistoryLine.Kind, _ operation: HistoryLine.Operation, _ client: Int, _ session: Int, first: UInt64 = 0,
        count: Int = 0, words: [UInt64] = []
    ) {
        let line = HistoryLine(
            time: now, client: client, kind: kind, operation: operation,
            partition: Int(clients[client].sessions[session].partition.rawValue),
            session: clients[client].sessions[session].id.rawValue, first: first, count: count, words: words)
        history.check(line)
        historySink?(line)
    }

    private func call(
        _ client: Int, _ session: Int, _ kind: PendingCall.Kind, first: UInt64 = 0, count: Int = 0, _ call: ClientCall
    ) {
        let node = clients[client].sessions[session].guess
        let number = clients[client].note(kind, session: session, first: first, count: count, node: node)
        guard let arrival = arrival(from: processes.count + client, to: node) else { return }
        queue.push(.call(to: node, client: client, number: number, call), at: arrival)
    }

    // MARK: Waking

    func wakeClient(_ client: Int, _ session: Int) {
        let pause = clients[client].random.between(profile.thinkTime / 2, profile.thinkTime * 3 / 2)
        let before = clients[client].sessions[session].phase
        act(client, session)
        // One that ended itself wants nothing until it was opened again, which should have been done by its next turn.
        let wants = before == .opening || before == .open && clients[client].sessions[session].phase == .open
        if isThirdSecond && wants && clients[client].sessions[session].isDone.count < Self.mostHeld { wishes += 1 }
        queue.push(.client(client, session: session), at: now + pause)
    }

    func act(_ client: Int, _ session: Int) {
        switch clients[client].sessions[session].phase {
        case .closed, .opening:
            guard clients[client].sessions[session].openAt <= now, isLoaded else { return }
            let own = clients[client].sessions[session]
            clients[client].sessions[session].phase = .opening
            clients[client].sessions[session].openAt = now + Self.callTime
            if own.phase == .opening && own.isOpenUnderWay { guessAgain(client, session) }
            clients[client].sessions[session].isOpenUnderWay = true
            record(.invoke, .open, client, session)
            call(
                client, session, .open, .open(own.partition, pipeline: 0, own.secret, window: limits.sessionWindow))
        case .open:
            if close(client, session) { return }
            retry(client, session)
            issue(client, session)
            attach(client, session)
            acknowledge(client, session)
        }
    }

    /// Ends a session that has nothing to wait for, sometimes.
    private func close(_ client: Int, _ session: Int) -> Bool {
        let own = clients[client].sessions[session]
        guard isLoaded, own.pending.isEmpty, own.missing == 0, own.next > 0 else { return false }
        guard clients[client].random.chance(profile.closePerMille) else { return false }
        call(client, session, .ack, .close(own.partition, own.id, own.secret))
        clients[client].generations[session] += 1
        let secret = SessionSecret(clients[client].random.next(), clients[client].random.next())
        clients[client].sessions[session] = ClientSession(
            partition: own.partition, secret: secret, guess: own.guess, isLazy: own.isLazy)
        return true
    }

    /// Sends the runs that were not accepted, all from the first one whose time has come: order matters.
    private func retry(_ client: Int, _ session: Int) {
        guard let first = clients[client].sessions[session].pending.first, first.retryAt <= now else { return }
        // No answer in time: perhaps another node knows.
        if first.isUnderWay { guessAgain(client, session) }
        for index in clients[client].sessions[session].pending.indices { submit(client, session, index) }
    }

    private func submit(_ client: Int, _ session: Int, _ index: Int) {
        clients[client].sessions[session].pending[index].retryAt = now + Self.callTime
        clients[client].sessions[session].pending[index].isUnderWay = true
        let own = clients[client].sessions[session]
        let run = own.pending[index]
        let sequences = SequenceRun(first: run.first, count: run.payloads.count)
        if run.isCancelled {
            record(.invoke, .cancel, client, session, first: run.first, count: run.payloads.count)
            call(
                client, session, .cancel, first: run.first, count: run.payloads.count,
                .cancel(own.partition, own.id, own.secret, sequences))
            return
        }
        record(.invoke, .submit, client, session, first: run.first, count: run.payloads.count, words: run.payloads)
        let accept = AcceptRun(sequences: sequences, items: Self.payloads(run.payloads), deadline: run.deadline)
        call(
            client, session, .submit, first: run.first, count: run.payloads.count,
            .submit(own.partition, own.id, own.secret, accept))
    }

    private func issue(_ client: Int, _ session: Int) {
        let own = clients[client].sessions[session]
        guard isLoaded, own.issueAt <= now, own.pending.count < 4, own.isDone.count < Self.mostHeld else { return }
        clients[client].sessions[session].issueAt = now + profile.thinkTime / 2
        let runs = faults.burstUntil > now ? 3 : 1
        for _ in 0..<runs {
            let count = 1 + clients[client].random.below(profile.itemsPerRun)
            let payloads = (0..<count).map { _ in payload(client) }
            let hasDeadline = clients[client].random.chance(profile.deadlinePerMille)
            let deadline: Duration? =
                hasDeadline ? .milliseconds(Int64(clients[client].random.between(5, 2000))) : nil
            let isCancelled = clients[client].random.chance(profile.cancelPerMille)
            let first = clients[client].sessions[session].next
            clients[client].sessions[session].next += UInt64(count)
            clients[client].sessions[session].missing += count
            for _ in 0..<count { clients[client].sessions[session].isDone.append(false) }
            clients[client].sessions[session].pending.append(
                PendingRun(first: first, payloads: payloads, deadline: deadline, retryAt: 0))
            report.counts.requests += count
            submit(client, session, clients[client].sessions[session].pending.count - 1)
            if isCancelled {
                // It may be accepted, done, or unknown by then; from now on it is a cancellation that is retried.
                let index = clients[client].sessions[session].pending.count - 1
                clients[client].sessions[session].pending[index].isCancelled = true
                submit(client, session, index)
            }
        }
    }

    private func payload(_ client: Int) -> UInt64 {
        let word = clients[client].random.next()
        guard profile.deadlyPerMille > 0 else { return word }
        let isEarly = now >= profile.faultsBegin && now < profile.faultsBegin + 2 * Virtual.second
        let isDeadly = isEarly && clients[client].random.chance(profile.deadlyPerMille)
        return PayloadKind.marked(word, isDeadly: isDeadly)
    }

    private func attach(_ client: Int, _ session: Int) {
        let own = clients[client].sessions[session]
        guard own.missing > 0 else { return }
        guard own.attachedTo != own.guess || own.heardAt + Self.callTime <= now else { return }
        if own.attachedTo == own.guess && own.heardAt + 3 * Self.callTime <= now { guessAgain(client, session) }
        clients[client].sessions[session].attachedTo = clients[client].sessions[session].guess
        clients[client].sessions[session].heardAt = now
        call(client, session, .attach, .attach(own.partition, own.id, own.secret))
    }

    private func acknowledge(_ client: Int, _ session: Int) {
        let own = clients[client].sessions[session]
        // A lazy one keeps hundreds, so as to come back for them.
        let least = own.isLazy ? 300 : 8
        guard isLoaded, own.isDone.count > least, own.isDone[0], clients[client].random.chance(300) else { return }
        var count = 0
        while count < own.isDone.count && own.isDone[count] { count += 1 }
        if own.isLazy { count = min(count, 150) }
        // Nothing that may still be submitted: a cancelled run can have an outcome before its answer is here.
        if let first = own.pending.first { count = min(count, Int(first.first - own.base)) }
        guard count > 0 else { return }
        let run = SequenceRun(first: own.base, count: count)
        record(.invoke, .ack, client, session, first: run.first, count: count)
        clients[client].sessions[session].base = run.end
        clients[client].sessions[session].isDone.removeFirst(count)
        call(
            client, session, .ack, first: run.first, count: count,
            .ack(own.partition, own.id, own.secret, [run], lowestOpen: run.end))
    }

    private func acknowledgeAgain(_ client: Int, _ session: Int) {
        let own = clients[client].sessions[session]
        guard own.base > 0 else { return }
        call(client, session, .ack, .ack(own.partition, own.id, own.secret, [], lowestOpen: own.base))
    }

    /// No answer from there: perhaps another node knows.
    private func guessAgain(_ client: Int, _ session: Int) {
        clients[client].sessions[session].guess = clients[client].random.below(processes.count)
    }

    // MARK: Answers

    func refused(_ client: Int, _ number: UInt64) {
        guard let call = clients[client].call(number) else { return }
        clients[client].forget(number)
        again(client, call, after: 5 * Virtual.millisecond, elsewhere: true)
    }

    /// What the call was for is tried again soon.
    private func again(_ client: Int, _ call: PendingCall, after pause: UInt64, elsewhere: Bool) {
        let session = call.session
        if elsewhere && clients[client].sessions[session].guess == call.node { guessAgain(client, session) }
        switch call.kind {
        case .open:
            clients[client].sessions[session].openAt = now + pause
            clients[client].sessions[session].isOpenUnderWay = false
        case .submit, .cancel:
            guard let index = clients[client].sessions[session].pending.firstIndex(where: { $0.first == call.first })
            else { return }
            clients[client].sessions[session].pending[index].retryAt = now + pause
            clients[client].sessions[session].pending[index].isUnderWay = false
            guard index == 0 else { return }
        case .attach: clients[client].sessions[session].attachedTo = nil
        case .ack: return
        }
        queue.push(.nudge(client, session: session), at: now + pause)
    }

    func answered(_ client: Int, from node: Int, _ number: UInt64, _ answer: ClientAnswer) {
        guard let call = clients[client].call(number) else { return }
        clients[client].forget(number)
        let session = call.session
        if let trace, isHealed, case .refused(_, let error) = answer { trace("\(now) c\(client) n\(node): \(error)") }
        if let trace, isHealed, case .failed(let error) = answer { trace("\(now) c\(client) n\(node): \(error)") }
        switch answer {
        case .opened(let id):
            guard clients[client].sessions[session].phase == .opening else { return }
            clients[client].sessions[session].phase = .open
            clients[client].sessions[session].id = id
            record(.ok, .open, client, session)
        case .accepted(let through):
            accepted(client, session, call, through: through)
        case .refused(let from, let error):
            if error.code == .expired {
                // Only an earlier try, which came late, may hear that; this one was answered before it.
                guard let run = clients[client].sessions[session].pending.first(where: { $0.first == call.first }),
                    !run.isCancelled
                else { return }
                return violated("S1", "c\(client) submitted \(call.first), which nobody acknowledged: \(error)")
            }
            if from > call.first { accepted(client, session, call, through: from - 1) }
            record(.fail, .submit, client, session, first: from, count: Int(call.first) + call.count - Int(from))
            // Perhaps an acknowledgement was lost, and the window there is full.
            if error.code == .overloaded { acknowledgeAgain(client, session) }
            again(client, call, after: 20 * Virtual.millisecond, elsewhere: error.code == .unavailable)
        case .failed(let error):
            if error.code == .notFound || error.code == .lost { return lost(client, call, error) }
            again(client, call, after: 20 * Virtual.millisecond, elsewhere: error.code == .unavailable)
        case .done:
            if call.kind == .cancel { remove(client, session, call) }
        case .moved(_, let name):
            guard let owner = processes.firstIndex(where: { $0.name == name }) else { return }
            clients[client].sessions[session].guess = owner
            again(client, call, after: 5 * Virtual.millisecond, elsewhere: false)
        case .unavailable:
            again(client, call, after: 30 * Virtual.millisecond, elsewhere: clients[client].random.chance(300))
        }
    }

    private func accepted(_ client: Int, _ session: Int, _ call: PendingCall, through: UInt64) {
        guard call.kind == .submit, through >= call.first else { return }
        let count = Int(through - call.first) + 1
        record(.ok, .submit, client, session, first: call.first, count: min(count, call.count))
        guard count >= call.count else { return }
        if let run = clients[client].sessions[session].pending.first(where: { $0.first == call.first }),
            run.isCancelled
        {
            return
        }
        remove(client, session, call)
    }

    private func remove(_ client: Int, _ session: Int, _ call: PendingCall) {
        guard let index = clients[client].sessions[session].pending.firstIndex(where: { $0.first == call.first })
        else { return }
        clients[client].sessions[session].pending.remove(at: index)
        if isThirdSecond { answers += 1 }
    }

    /// L2 is about this time.
    private var isThirdSecond: Bool {
        isHealed && now > healedAt + 2 * Virtual.second && now <= healedAt + 3 * Virtual.second
    }

    /// The node says that there is no such session. While no more than f copies are lost, that must not be.
    private func lost(_ client: Int, _ call: PendingCall, _ error: FlockError) {
        violated(
            "S1",
            "c\(client) \(call.kind) of \(clients[client].sessions[call.session].partition) on n\(call.node): \(error)"
        )
    }

    func violated(_ rule: String, _ text: String) { god.violations.append(Violation(rule, time: now, text)) }

    func pushed(_ client: Int, from node: Int, _ partition: PartitionID, _ id: SessionID, _ runs: [OutcomeRun]) {
        guard let session = clients[client].place(of: partition, id) else { return }
        clients[client].sessions[session].heardAt = now
        for run in runs {
            record(
                .ok, .outcome, client, session, first: run.sequences.first, count: run.sequences.count,
                words: Self.words(run))
            let base = clients[client].sessions[session].base
            for index in 0..<run.sequences.count {
                let sequence = run.sequences.first + UInt64(index)
                guard sequence >= base, sequence < clients[client].sessions[session].next else { continue }
                let place = Int(sequence - base)
                guard !clients[client].sessions[session].isDone[place] else { continue }
                clients[client].sessions[session].isDone[place] = true
                clients[client].sessions[session].missing -= 1
            }
        }
    }

    /// Three words for each sequence, as a history line has them.
    static func words(_ run: OutcomeRun) -> [UInt64] {
        var words: [UInt64] = []
        words.reserveCapacity(3 * run.sequences.count)
        switch run.outcome {
        case .values(let items, let mask):
            for index in 0..<run.sequences.count {
                if mask?[index] == true {
                    words += [1, 0, 0]
                } else {
                    words += [0, word(items, index), word(items, index, 8)]
                }
            }
        case .filtered: for _ in 0..<run.sequences.count { words += [1, 0, 0] }
        case .failed(let error): for _ in 0..<run.sequences.count { words += [2 + UInt64(error.code.rawValue), 0, 0] }
        }
        return words
    }

    /// Clients ask again for everything that they have not acknowledged.
    func recollect() {
        for client in clients.indices {
            for session in clients[client].sessions.indices
            where clients[client].sessions[session].phase == .open {
                record(.invoke, .recollect, client, session)
                for place in clients[client].sessions[session].isDone.indices
                where clients[client].sessions[session].isDone[place] {
                    clients[client].sessions[session].isDone[place] = false
                    clients[client].sessions[session].missing += 1
                }
                clients[client].sessions[session].attachedTo = nil
            }
        }
    }
}
