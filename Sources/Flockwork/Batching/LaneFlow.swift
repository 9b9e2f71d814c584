// Flockwork · Apache-2.0 · see LICENSE

internal import FlockCluster

/// A pipeline's part in the instances of a lane: all of it, unless several pipelines share the lane.
struct LaneFlow: Sendable {
    let runner: LaneRunner
    /// Which of those that share it.
    var flow = 0

    /// Hands runs over.
    func put(_ runs: [WorkRun]) { runner.mailbox.put(runs, flow: flow) }

    /// Takes out what waits of a run that nobody wants any more.
    func revoke(_ run: RequestRun) -> [WorkRun] { runner.mailbox.revoke(run, flow: flow) }

    /// Items and bytes that wait.
    var backlog: (items: Int, bytes: Int) { runner.mailbox.backlog(of: flow) }

    func currentStatus(of pipeline: String) -> StageStatus { runner.currentStatus(of: pipeline, flow: flow) }
}
