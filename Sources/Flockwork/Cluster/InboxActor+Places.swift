// Flockwork · Apache-2.0 · see LICENSE

internal import FlockActors
internal import FlockCluster
internal import FlockTransport
internal import FlockWire
internal import Logging

// Instances come and go as the node's view shares them out. New ones are made beside those that there are, which then
// finish what they hold: a change of number costs memory for a moment, and no request its time.

extension InboxActor {
    /// The instances of a lane that take runs now; nil if there are none here.
    func instances(of user: LanePlan.User) -> LaneFlow? {
        // Empty once the node has stopped.
        pipelines.indices.contains(user.pipeline) ? pipelines[user.pipeline].runners[user.lane] : nil
    }

    /// This node is to have so many instances of each stage.
    func place(_ counts: [Int]) {
        guard !isEndingPlaces else { return }
        for (index, count) in counts.enumerated() where places[index].wanted != count {
            places[index].wanted = count
            change(index)
        }
    }

    private func change(_ index: Int) {
        guard places[index].change == nil, !isEndingPlaces else { return }
        guard places[index].wanted != places[index].running?.count ?? 0 else { return }
        places[index].change = Task {
            await makeWanted(index)
            places[index].change = nil
            // It may be another number by now, or have failed.
            change(index)
        }
    }

    private func makeWanted(_ index: Int) async {
        let plan = places[index].plan.with(places[index].wanted)
        guard let laneFactory, plan.instances > 0 else { return use(nil, at: index) }
        do {
            let made = try await laneFactory.make(plan)
            places[index].failure = nil
            places[index].pause = PlacedLane.shortestPause
            guard isEndingPlaces else { return use(made, at: index) }
            await made.end()
        } catch {
            let error = FlockError.ofStage(error)
            log.error(
                "instances that this node is to have could not be made; it tries again",
                metadata: ["stage": "\(plan.shape.name)", "error": "\(error)", "after": "\(places[index].pause)"])
            places[index].failure = error
            // Ends early when the node does.
            do { try await Task.sleep(for: places[index].pause) } catch { return }
            places[index].pause = min(places[index].pause * 2, PlacedLane.longestPause)
        }
    }

    /// From here on these take runs, or none do. Those before them finish what they hold.
    private func use(_ made: RunningLane?, at index: Int) {
        let old = places[index].running
        places[index].running = made
        if made == nil { places[index].failure = nil }
        for (flow, user) in places[index].plan.users.enumerated() where pipelines.indices.contains(user.pipeline) {
            pipelines[user.pipeline].runners[user.lane] = made.map { LaneFlow(runner: $0.runner, flow: flow) }
        }
        log.notice(
            "instances of a stage",
            metadata: [
                "stage": "\(places[index].plan.shape.name)", "instances": "\(made?.count ?? 0)",
                "before": "\(old?.count ?? 0)",
            ])
        step(.hosts(places.map { $0.running?.count ?? 0 }))
        guard let old else { return }
        let number = takeNumber()
        retiring[number] = Task {
            await old.end()
            retiring[number] = nil
        }
    }

    /// Ends all instances, after what they hold; returns when nothing of them is left.
    func endPlaces() async {
        isEndingPlaces = true
        for place in places {
            place.change?.cancel()
            await place.change?.value
        }
        for task in retiring.values { await task.value }
        for place in places { await place.running?.end() }
        places = []
        await laneFactory?.context.end()
        laneFactory = nil
    }

    // MARK: What operators hear

    /// Why a pipeline's requests wait: lanes without an instance anywhere, as far as is known here.
    func unplaced(_ index: Int) -> [String] {
        guard pipelines.indices.contains(index) else { return [] }
        return pipelines[index].runners.indices.compactMap { lane in
            let user = LanePlan.User(pipeline: index, lane: lane)
            guard let place = places.firstIndex(where: { $0.plan.users.contains(user) }) else { return nil }
            let plan = places[place].plan
            let name = plan.shape.name
            if let failure = places[place].failure {
                return "\(name): \(actorSystem.node) cannot make its instances: \(failure.message)"
            }
            let nodes = cluster?.node.nodes(hosting: place) ?? pipelines[index].nodesOfLane[lane]
            guard nodes.isEmpty else { return nil }
            let isPlaceable = cluster.map { !$0.node.unplaceable.contains(place) } ?? plan.placement.labels.isEmpty
            return isPlaceable
                ? "\(name): no node has instances of it yet"
                : "\(name): no node has \(Self.words(plan.placement.labels))"
        }
    }

    /// Says once what no member can have instances of, and once that one can.
    func sayUnplaceable(_ cluster: ClusterShell) {
        guard !isEndingPlaces else { return }
        let now = cluster.node.unplaceable
        for stage in now where !cluster.unplaceable.contains(stage) {
            log.warning(
                "no member has the labels that a stage asks for; its requests wait",
                metadata: [
                    "stage": "\(places[stage].plan.shape.name)",
                    "labels": "\(places[stage].plan.placement.labels.joined(separator: ","))",
                ])
        }
        for stage in cluster.unplaceable where !now.contains(stage) {
            log.notice(
                "a member has the labels that a stage asks for",
                metadata: ["stage": "\(places[stage].plan.shape.name)"])
        }
        cluster.unplaceable = now
    }

    private static func words(_ labels: [String]) -> String {
        labels.count == 1 ? "the label \(labels[0])" : "all the labels \(labels.joined(separator: ", "))"
    }

    /// Members other than this one that have instances of a lane and are connected.
    func othersHosting(_ index: Int, _ lane: Int) -> [NodeID] {
        guard let cluster, let plan else { return [] }
        return cluster.node.nodes(hosting: plan.pipelines[index][lane])
            .filter { actorSystem.peers[$0]?.isOpen == true }
    }
}
