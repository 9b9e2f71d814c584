// Flockwork · Apache-2.0 · see LICENSE

internal import FlockActors
internal import FlockCluster
internal import FlockWire

/// A pipeline on a node: its lanes' instances that run here, and the dispatcher of its first lane.
struct HostedPipeline: Sendable {
    let definition: PipelineDefinition
    /// By lane; nil where no instance runs on this node.
    var runners: [LaneFlow?]
    var dispatcher: Dispatcher
    var dispatchDirectives: [DispatcherDirective] = []
    var isDirty = false
    /// Hosts of the first lane.
    var hosts: [HostID: NodeID] = [:]
    var hostOfNode: [NodeID: HostID] = [:]
    /// Nodes that run each lane, for what one lane hands to the next.
    var nodesOfLane: [[NodeID]]
    var nextNode = 0
    /// By priority; learns from all requests, and decides about those with a deadline.
    private var forecasts = RequestPriority.allCases.map { _ in QueueForecast() }

    init(_ definition: PipelineDefinition, runners: [LaneFlow?], seed: UInt64, limits: Limits) {
        self.definition = definition
        self.runners = runners
        dispatcher = Dispatcher(seed: seed, limits: limits)
        nodesOfLane = Array(repeating: [], count: runners.count)
    }
}

extension HostedPipeline {
    /// A run was given to a dispatcher, which holds `open` items of its priority now.
    mutating func began(_ run: RequestRun, _ priority: RequestPriority, open: Int, at now: Tick) {
        forecasts[Int(priority.rawValue)].began(run, open: open, at: now)
    }

    /// A run, or a part of it, is over. `isDone`: with an outcome, and not because nobody wanted it any more.
    mutating func ended(_ run: RequestRun, isDone: Bool, at now: Tick) {
        for index in forecasts.indices { forecasts[index].ended(run, isDone: isDone, at: now) }
    }

    /// How many items of a run can be done before its deadline behind `open` others, and why no more are taken.
    func room(
        for run: SubmittedRun, _ priority: RequestPriority, behind open: Int, limits: Limits
    ) -> (items: Int, refusal: FlockError?) {
        guard let deadline = run.deadline else { return (run.items.count, nil) }
        let forecast = forecasts[Int(priority.rawValue)]
        let room = forecast.room(for: run.items.count, deadline: deadline, behind: open, limits: limits)
        guard room < run.items.count else { return (room, nil) }
        return (room, forecast.refusal(deadline: deadline, behind: open + room, limits: limits))
    }
}

/// What nodes tell each other when they connect: which lanes of which pipelines they have instances of.
struct Announcement: Codable, Sendable {
    struct Entry: Codable, Sendable {
        var pipeline: String
        var fingerprint: UInt64
        /// Instances by lane.
        var instances: [Int]
    }
    var pipelines: [Entry]

    func encoded(limits: Limits) throws -> Bytes {
        var writer = ByteWriter()
        try WireCoder.encode(self, into: &writer, limits: limits)
        return writer.finish()
    }

    init(pipelines: [Entry]) {
        self.pipelines = pipelines
    }

    init(_ bytes: Bytes, limits: Limits) throws {
        var reader = ByteReader(bytes)
        self = try WireCoder.decode(Announcement.self, from: &reader, limits: limits)
    }
}
