// Flockwork · Apache-2.0 · see LICENSE

internal import Distributed
internal import FlockActors
internal import FlockCluster
internal import FlockTransport
internal import FlockWire

// What other nodes call to have a batch handled by this node's instances of a lane. One frame a batch; the outcomes
// come back over the same call, in parts as they are done, so that a lost connection can lose no outcome silently: the
// call fails, and the caller's dispatcher sends the runs elsewhere.

/// A lane of a pipeline on this node, as other nodes see it.
distributed actor StageHost {
    typealias ActorSystem = FlockSystem

    nonisolated var unownedExecutor: UnownedSerialExecutor { actorSystem.loopExecutor }

    /// The instances that there are now.
    private let lane: @Sendable () -> LaneFlow?
    private let check: @Sendable (ItemBuffer) throws(FlockError) -> Void

    init(
        lane: @escaping @Sendable () -> LaneFlow?, check: @escaping @Sendable (ItemBuffer) throws(FlockError) -> Void,
        actorSystem: FlockSystem
    ) {
        self.lane = lane
        self.check = check
        self.actorSystem = actorSystem
    }

    static func name(pipeline: PipelineDefinition, lane: Int) -> String {
        "lane/\(pipeline.name)/\(pipeline.fingerprint)/\(lane)"
    }

    /// Handles runs of requests: a direct call, answered in parts.
    distributed func run(_ message: EncodedMessage) async throws {
        throw FlockError(.invalidInput, "StageHost.run streams its answer: use a direct call.")
    }

    static let runMethod = DirectMethod(StageHost.self, "run")

    static func registerDirect(in system: FlockSystem, limits: Limits) {
        system.direct(StageHost.self, "run") { host, call in
            do {
                var reader = ByteReader(call.arguments)
                let message = try RunMessage(from: &reader, limits: limits)
                try host.assumeIsolated { try $0.run(message, for: call, limits: limits) }
            } catch {
                system.loop.limitsReached.reached(by: error)
                call.fail(FlockError.decoding(error))
            }
        }
    }

    private func run(_ message: RunMessage, for call: DirectCall, limits: Limits) throws {
        guard let lane = lane() else {
            throw FlockError(.moved, "The stage has no instances on this node any more.", node: actorSystem.node)
        }
        try check(message.items)
        let assignment = Self.answering(call, items: message.items.count, limits: limits)
        let now = EventLoop.now
        var first = 0
        var work: [WorkRun] = []
        for run in message.runs {
            work.append(
                WorkRun(
                    run: run.requests, items: message.items.slice(from: first, count: run.requests.count),
                    deadline: run.deadline.map { now + $0 }, arrived: now, trace: run.trace, priority: run.priority,
                    assignment: assignment))
            first += run.requests.count
        }
        lane.put(work)
    }

    /// Sends outcomes as parts of the call's answer, and ends the call with the last item.
    private static func answering(_ call: DirectCall, items: Int, limits: Limits) -> Assignment {
        let open = LoopConfined(items, on: call.peer.loop)
        return Assignment { run, ending in
            if case .done(let outcomes) = ending {
                let place = SessionPlace(partition: run.partition, session: run.session)
                let message = OutcomesMessage(outcomes: [SessionOutcomes(place: place, runs: outcomes)])
                call.part { message.write(to: &$0, limits: limits) }
            } else if case .returned = ending {
                call.fail(FlockError(.moved, "A later stage has no instances where it was expected."))
            } else {
                call.fail(FlockError(.unavailable, "A later stage's node was lost."))
            }
            let left = open.with { open in
                open -= run.count
                return open
            }
            precondition(left >= 0, "a call of \(items) items ended \(-left) too many")
            if left == 0 { call.finish() }
        }
    }

    /// Sends runs to a lane of another node. Each run's assignment hears what became of it.
    static func call(_ peer: Peer, pipeline: PipelineDefinition, lane: Int, runs: [WorkRun], limits: Limits) {
        let address = ActorAddress(named: name(pipeline: pipeline, lane: lane), on: peer.identity.node)
        let message = RunMessage(runs, at: EventLoop.now)
        let open = OpenWork(runs)
        peer.call(runMethod, on: address, deadline: limits.attemptTime) { writer in
            message.write(to: &writer)
        } onReply: { reply in
            switch reply {
            case .part(let bytes):
                do {
                    var reader = ByteReader(bytes)
                    for outcomes in try OutcomesMessage(from: &reader, limits: limits).outcomes { open.ended(outcomes) }
                } catch {
                    peer.close(FlockError(unreadable: "outcomes of a batch", error, on: peer.loop))
                }
            case .done: open.endAll(nil)
            case .failed(let error): open.endAll(error)
            }
        }
    }
}

/// Runs that another node has, until it has answered all. Of the loop.
private final class OpenWork: Sendable {
    // Only touched in callbacks of one peer, which run on the loop.
    private nonisolated(unsafe) var runs: [WorkRun]

    init(_ runs: [WorkRun]) {
        self.runs = runs
    }

    /// Outcomes for parts of these runs; what was not asked for is dropped.
    func ended(_ outcomes: SessionOutcomes) {
        for outcome in outcomes.runs {
            for (index, work) in runs.enumerated().reversed() where work.place == outcomes.place {
                let parts = work.parts(by: outcome.sequences)
                guard let inside = parts.first(where: \.isInside)?.0 else { continue }
                let offset = Int(inside.run.sequences.first - outcome.sequences.first)
                let part = OutcomeRun(
                    sequences: inside.run.sequences,
                    outcome: outcome.outcome.slice(from: offset, count: inside.run.count))
                runs.replaceSubrange(index...index, with: parts.filter { !$0.isInside }.map(\.0))
                work.assignment.ended(inside.run, .done([part]))
            }
        }
    }

    /// The call has ended: what is left has no outcome. An answered refusal is one; a lost node is not.
    func endAll(_ error: FlockError?) {
        let left = runs
        runs = []
        for work in left {
            if let error, error.code == .invalidInput || error.code == .tooLarge {
                let failed = OutcomeRun(sequences: work.run.sequences, outcome: .failed(error))
                work.assignment.ended(work.run, .done([failed]))
            } else if error?.code == .moved {
                work.assignment.ended(work.run, .returned)
            } else {
                work.assignment.ended(work.run, .lost)
            }
        }
    }
}
