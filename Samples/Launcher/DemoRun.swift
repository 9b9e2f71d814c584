// Flockwork · Apache-2.0 · see LICENSE

// The demo's load: several tasks post the data set round and round, one reads the outbox. The inbox bounds what is
// open; the checker sees every ticket and every outcome.

import BreastCancer
import Dispatch
import Flockwork
import Synchronization

/// One run of the demo against an inbox.
final class DemoRun: Sendable {
    /// Rows of one post.
    static let chunk = 1024

    struct SessionKey: Hashable {
        let partition: PartitionID
        let session: SessionID
    }

    struct State {
        var checker: Checker
        var ledgers: [SessionKey: Ledger] = [:]
        var latencies = LatencyHistogram()
        /// What was posted before is not counted.
        var latenciesFrom: UInt64 = 0
        var nextRequest = 0
        /// Requests that there will be; what is claimed at its end where nobody knows before.
        var end: Int
        var done = 0
        var interruption: String?
        var finishedAt: UInt64?
        /// Requests are spread over time while the cluster is changed.
        var pace: Double?
        var paced: (first: Int, at: UInt64) = (0, 0)
        /// When each session had its newest outcome, since gaps are looked for.
        var heard: [SessionKey: UInt64]?
        var gap: UInt64 = 0
        /// Requests come when they are due, whatever became of earlier ones.
        var openLoop: OpenLoop?
    }

    /// Requests that there can be.
    let total: Int
    private let chunk: Int
    private let rows: Rows<Float>
    private let width: Int
    let state: Mutex<State>
    /// Set when all are answered, or when the run cannot go on; the text says why.
    private let finished = OneShot<String?>()

    init(total: Int, chunk: Int = DemoRun.chunk, data: Dataset, reference: Reference) {
        self.total = total
        self.chunk = chunk
        width = data.rows.count
        // The data set is repeated, so that any chunk is a view on it.
        let rounds = (chunk + width - 1) / width + 1
        rows = Rows((0..<rounds).flatMap { _ in data.rows.elements }, width: Dataset.width)
        state = Mutex(
            State(
                checker: Checker(total: total, reference: reference, diagnoses: data.diagnoses), end: total))
    }

    static func now() -> UInt64 { DispatchTime.now().uptimeNanoseconds }

    /// Requests that have an outcome.
    var done: Int { state.withLock { $0.done } }

    /// So many requests a second from now on; nil for as many as there can be.
    func setPace(_ pace: Double?) {
        state.withLock { state in
            state.pace = pace
            state.paced = (state.nextRequest, Self.now())
        }
    }

    /// Looks from now on how long sessions have no outcome.
    func watchGaps(from time: UInt64) {
        state.withLock { state in state.heard = state.ledgers.mapValues { _ in time } }
    }

    /// The longest time since `watchGaps` in which a session had no outcome.
    func longestGap() -> UInt64 { state.withLock { $0.gap } }

    /// Ends the run before its end.
    func interrupt(_ reason: String) {
        state.withLock { if $0.finishedAt == nil { $0.interruption = $0.interruption ?? reason } }
        finished.set(reason)
    }

    /// Posts all requests with `lanes` tasks and follows them to their outcomes. Returns the seconds that it took.
    func run(inbox: Inbox<Row, Verdict>, lanes: Int) async -> Double {
        let start = Self.now()
        await withTaskGroup(of: Void.self) { group in
            group.addTask {
                for await batch in inbox.outbox().batches {
                    self.took(batch.requests, Self.outcomes(of: batch), at: Self.now())
                }
            }
            let posted = OneShot<Bool>()
            let posters = Task {
                defer { posted.set(true) }
                await withTaskGroup(of: Void.self) { posters in
                    for _ in 0..<lanes { posters.addTask { await self.post(to: inbox) } }
                }
            }
            _ = await finished.value()
            // An interrupted run takes in what it has posted; what hangs with a dead node ends with the inbox. What
            // comes twice may come late, so the reader stays a moment longer.
            _ = await first(within: .seconds(3)) { await posted.value() }
            do { try await Task.sleep(for: .milliseconds(200)) } catch {}
            await inbox.close()
            await posters.value
            group.cancelAll()
        }
        let end = state.withLock { $0.finishedAt } ?? Self.now()
        return Double(end - start) / 1e9
    }

    /// The usual batch has values only, which are decoded together.
    private static func outcomes(of batch: OutcomeBatch<Verdict>) -> [Outcome<Verdict>] {
        do {
            if let values = try batch.values() { return values.items.map { .value($0) } }
        } catch {
            // One value that cannot be decoded: the others are still outcomes.
        }
        return batch.outcomes()
    }

    /// What was found out.
    func summary(seconds: Double, shares: [NodeShare], changes: ChangeTimes? = nil) -> Summary {
        state.withLock { state in
            var checker = state.checker
            checker.strays += state.ledgers.values.reduce(0) { $0 + $1.strays }
            return Summary(
                checker: checker, seconds: seconds, latencies: state.latencies, shares: shares,
                interruption: state.interruption, changes: changes)
        }
    }

    private func claimInTurn() async -> Range<Int>? {
        if state.withLock({ $0.openLoop != nil }) { return await claimWhenDue() }
        await waitForTurn()
        // The last requests are for the time after the changes.
        while state.withLock({ $0.pace != nil && $0.nextRequest >= total / 20 * 19 && $0.interruption == nil }) {
            do { try await Task.sleep(for: .milliseconds(20)) } catch { break }
        }
        return claim()
    }

    private func claim() -> Range<Int>? {
        state.withLock { state in
            guard state.nextRequest < state.end, state.interruption == nil else { return nil }
            let first = state.nextRequest
            state.nextRequest = min(state.end, first + chunk)
            return first..<state.nextRequest
        }
    }

    /// Claims before it waits: requests are late where nobody is there to post them, but none is left out.
    private func claimWhenDue() async -> Range<Int>? {
        guard let requests = claim() else { return nil }
        let wait = state.withLock { $0.openLoop?.wait(for: requests.lowerBound, at: Self.now()) ?? 0 }
        if wait > 0 { do { try await Task.sleep(for: .seconds(wait)) } catch { return nil } }
        return requests
    }

    /// Waits until the next requests are due.
    private func waitForTurn() async {
        let wait = state.withLock { state -> Double in
            guard let pace = state.pace else { return 0 }
            let due = Double(state.nextRequest - state.paced.first) / pace
            return due - Double(Self.now() - state.paced.at) / 1e9
        }
        // Cancelled: the claim that follows finds the run ended.
        if wait > 0 { do { try await Task.sleep(for: .seconds(min(wait, 1))) } catch {} }
    }

    private func post(to inbox: Inbox<Row, Verdict>) async {
        while let requests = await claimInTurn() {
            let some = rows.slice(from: requests.lowerBound % width, count: requests.count)
            while true {
                let at = Self.now()
                do {
                    accepted(requests, try await inbox.post(some), at: at)
                    break
                } catch let error as FlockError where error == .overloaded {
                    // Nothing of it was accepted: the same rows again, when the node said.
                    do { try await Task.sleep(for: error.retryAfter ?? .milliseconds(5)) } catch { return }
                } catch {
                    interrupt("a post failed: \(error)")
                    return
                }
            }
        }
    }

    private func accepted(_ requests: Range<Int>, _ tickets: Tickets, at: UInt64) {
        let now = Self.now()
        state.withLock { state in
            state.checker.accepted(requests)
            var first = requests.lowerBound
            for run in tickets.runs {
                let key = SessionKey(partition: run.partition, session: run.session)
                let sequences = run.sequences.first..<run.sequences.end
                state.openLoop?.accepted(key, at: now)
                if !state.ledgers[key, default: Ledger()].posted(sequences, firstRequest: first, at: at) {
                    state.checker.strays += run.count
                }
                first += run.count
                for early in state.ledgers[key]?.takeEarly(of: sequences) ?? [] { record(early, of: key, in: &state) }
            }
        }
        finishIfDone()
    }

    private func took(_ run: RequestRun, _ outcomes: [Outcome<Verdict>], at time: UInt64) {
        let key = SessionKey(partition: run.partition, session: run.session)
        state.withLock { state in
            if let before = state.heard?[key] {
                state.gap = max(state.gap, time > before ? time - before : 0)
                state.heard?[key] = time
            }
            record(Ledger.Early(first: run.sequences.first, outcomes: outcomes, at: time), of: key, in: &state)
        }
        finishIfDone()
    }

    private func record(_ came: Ledger.Early, of key: SessionKey, in state: inout State) {
        var rest = came.outcomes[...]
        for (sequences, posting) in state.ledgers[key, default: Ledger()].parts(of: came.sequences) {
            let outcomes = rest.prefix(sequences.count)
            rest = rest.dropFirst(sequences.count)
            guard let posting else {
                state.ledgers[key, default: Ledger()].keep(
                    Ledger.Early(first: sequences.lowerBound, outcomes: Array(outcomes), at: came.at))
                continue
            }
            let first = posting.firstRequest + Int(sequences.lowerBound - posting.sequences.lowerBound)
            for (offset, outcome) in outcomes.enumerated() { state.checker.answered(first + offset, answer(outcome)) }
            let latency = came.at - posting.at
            if posting.at >= state.latenciesFrom { state.latencies.record(latency, times: outcomes.count) }
            state.done += outcomes.count
            state.openLoop?.completed(outcomes.count, at: came.at, latency: latency)
        }
        if state.done >= state.end, state.finishedAt == nil { state.finishedAt = came.at }
    }

    private func answer(_ outcome: Outcome<Verdict>) -> Checker.Answer {
        switch outcome {
        case .value(let verdict): .value(verdict)
        case .filtered: .filtered
        case .failure(let error): .failure(error)
        }
    }

    func finishIfDone() {
        // `done` counts doubles too, so the checker is asked: a double must not end the run before the last outcome.
        let isDone = state.withLock { $0.done >= $0.end && $0.checker.answeredCount == $0.end }
        if isDone { finished.set(nil) }
    }
}
