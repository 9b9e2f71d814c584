// Flockwork · Apache-2.0 · see LICENSE

internal import FlockActors
internal import FlockCluster
internal import FlockTransport
internal import FlockWire
internal import Logging

// Who the members are, as the view says it, and the messages between them. Connections and streams follow the view:
// to each member a link, and no stream of a partition that another node leads.

extension InboxActor {
    // MARK: Messages

    func post(_ message: NodeMessage, to node: NodeID, _ cluster: ClusterShell) {
        cluster.post(message, to: node)
        turn?.arm()
    }

    /// One frame for each member, or a few: what does not arrive is said again by whoever needs it. It leaves at the
    /// end of the turn, or at once.
    func sendPosted(_ cluster: ClusterShell, atOnce: Bool) {
        let addressees = cluster.addressees
        cluster.addressees.removeAll(keepingCapacity: true)
        for node in addressees {
            guard let outgoing = cluster.outgoing.removeValue(forKey: node), let peer = actorSystem.peers[node],
                peer.isOpen
            else { continue }
            let control = actorSystem.controlPeers[node].flatMap { $0.isOpen ? $0 : nil }
            send(outgoing.control, over: control ?? peer)
            // Not after the bulk of this turn: a socket that is read meanwhile takes all of it.
            if !outgoing.control.isEmpty { control?.flush() }
            send(outgoing.bulk, over: peer)
            if atOnce { peer.flush() }
        }
    }

    private func send(_ messages: [NodeMessage], over peer: Peer) {
        let address = ActorAddress(named: MemberActor.name, on: peer.identity.node)
        var writer = ByteWriter()
        for message in messages {
            message.write(to: &writer, limits: limits)
            guard writer.count >= limits.replicationMessageBytes else { continue }
            peer.send(MemberActor.deliverMethod, on: address, payload: writer.finish())
            writer = ByteWriter()
        }
        if writer.count > 0 { peer.send(MemberActor.deliverMethod, on: address, payload: writer.finish()) }
    }

    /// A frame of messages from the process that the node of that name is now.
    func received(_ bytes: Bytes, from node: NodeID) throws {
        var reader = ByteReader(bytes)
        while !reader.isAtEnd {
            step(.message(from: node, try NodeMessage(from: &reader, limits: limits)))
        }
    }

    // MARK: Views

    /// Links lead to the members; streams of partitions that are led elsewhere end.
    func follow(_ cluster: ClusterShell) {
        guard let view = cluster.node.view else { return }
        cluster.followed = view.version
        var wanted: [NodeID: ClusterShell.Address] = [:]
        for member in view.members where member.node != actorSystem.node {
            wanted[member.node] = ClusterShell.Address(host: member.host, port: member.port)
            cluster.guests[member.node] = nil
        }
        for (node, _) in cluster.guests { wanted[node] = wanted[node] ?? cluster.guestAddresses[node] }
        relink(wanted, cluster)
        for stream in streams.keys.sorted() {
            guard let place = streams[stream]?.place, !cluster.node.leads(place.partition) else { continue }
            endStream(stream, moved(place.partition, view))
        }
        tellViewWaiters(view)
        sayUnplaceable(cluster)
        log.debug("view", metadata: ["version": "\(view.version)", "members": "\(view.members.count)"])
        if !cluster.leaving.isEmpty, view.members.allSatisfy({ $0.phase == .leaving || $0.isSuspected }) {
            // Nobody is left to hand anything over to.
            letGo(cluster)
        }
    }

    /// The connection to a node is lost.
    func memberDown(_ node: NodeID) {
        step(.connectionReset(node))
        guard let cluster, !cluster.leaving.isEmpty || diskError != nil, let view = cluster.node.view else { return }
        let others = view.members.filter { $0.node != actorSystem.node }
        guard others.allSatisfy({ actorSystem.peers[$0.node]?.isOpen != true }) else { return }
        letGo(cluster)
        guard let diskError else { return }
        // Who lets a process go may end the connection before it has said so.
        cluster.hasLeft = true
        excluded(diskError)
    }

    private func moved(_ partition: PartitionID, _ view: ControlState) -> FlockError {
        let place = Int(partition.rawValue)
        let primary = place < view.partitions.count ? view.partitions[place].primary : nil
        let node = primary.flatMap { view.member($0)?.node }
        return FlockError(.moved, "Another node leads \(partition).", node: node ?? actorSystem.node)
    }

    private func relink(_ wanted: [NodeID: ClusterShell.Address], _ cluster: ClusterShell) {
        for (node, address) in cluster.linked where wanted[node] != address {
            actorSystem.unlink(node)
            cluster.linked[node] = nil
        }
        for (node, address) in wanted where cluster.linked[node] == nil {
            cluster.linked[node] = address
            actorSystem.link(to: node, host: address.host, port: address.port, withControl: true)
        }
    }

    /// A process that wants to come in, or to be known at the bootstrap, says where it is.
    func greeted(by greeting: Greeting) -> Greeting.Answer {
        if let cluster, greeting.node != actorSystem.node {
            cluster.guests[greeting.node] = EventLoop.now + Self.guestTime
            cluster.guestAddresses[greeting.node] = .init(host: greeting.host, port: greeting.port)
            let now = EventLoop.now
            for (node, until) in cluster.guests where until < now {
                cluster.guests[node] = nil
                cluster.guestAddresses[node] = nil
            }
            var wanted = cluster.linked
            wanted[greeting.node] = .init(host: greeting.host, port: greeting.port)
            relink(wanted, cluster)
        }
        let view = cluster?.node.view
        return Greeting.Answer(
            node: actorSystem.node, isFormed: view != nil,
            members: view?.members.map { .init(node: $0.node, host: $0.host, port: $0.port) } ?? [],
            voters: view?.voters ?? [], pipelines: pipelines.map { .init($0.definition) })
    }

    private static let guestTime = Duration.seconds(30)

    /// Where the others are, while this process is no member or hears no other voter.
    func placesToGreet() -> [Greeting.Place] {
        guard let cluster, cluster.refusal == nil, !cluster.hasLeft, cluster.leaving.isEmpty,
            let view = cluster.node.view
        else { return [] }
        let voters = view.voters.filter { $0 != actorSystem.node }
        let isHeard = voters.isEmpty || voters.contains { actorSystem.peers[$0]?.isOpen == true }
        if isHeard && cluster.node.state().member != nil { return [] }
        return view.members.filter { $0.node != actorSystem.node }.map {
            .init(node: $0.node, host: $0.host, port: $0.port)
        }
    }

    /// Whom this process knows as voters.
    var clusterVoters: [NodeID] { cluster.map { $0.node.view?.voters ?? $0.configuration.voters } ?? [] }

    // MARK: Beginning and end

    /// This process takes part, as `configuration` says; `peers` are where it begins to look for others.
    func join(_ configuration: ControlConfiguration, disk: NodeDisk, peers: [Greeting.Place]) {
        guard let plan else { return }
        let cluster = ClusterShell(
            configuration, record: disk.record, copies: disk.copies, plan: plan, limits: limits, now: EventLoop.now)
        self.cluster = cluster
        var wanted: [NodeID: ClusterShell.Address] = [:]
        for peer in peers where peer.node != actorSystem.node {
            wanted[peer.node] = .init(host: peer.host, port: peer.port)
            cluster.guests[peer.node] = EventLoop.now + Self.guestTime
            cluster.guestAddresses[peer.node] = wanted[peer.node]
        }
        relink(wanted, cluster)
        beginStepping()
    }

    /// Hands over what is here; returns when the cluster has let this process go, or nobody is left to take anything.
    func leaveCluster() async {
        guard let cluster, !cluster.hasLeft, cluster.refusal == nil else { return }
        guard let view = cluster.node.view, view.members.count > 1 else { return }
        await withUnsafeContinuation { (continuation: UnsafeContinuation<Void, Never>) in
            cluster.leaving.append(continuation)
            step(NodeEvent.leave)
        }
    }

    /// Returns once this process is a member. Throws why it cannot be one.
    func waitForAdmission() async throws {
        if let refusal = cluster?.refusal { throw refusal }
        if !isClustered || cluster?.node.state().member != nil { return }
        try await withUnsafeThrowingContinuation { admission.append($0) }
    }

    func admitted() {
        let waiting = admission
        admission = []
        for continuation in waiting { continuation.resume() }
    }

    /// This process is no part of the cluster, and will not be one.
    func refused(_ error: FlockError) {
        log.error("this process cannot be part of the cluster", metadata: ["error": "\(error)"])
        cluster?.refusal = error
        let waiting = admission
        admission = []
        for continuation in waiting { continuation.resume(throwing: error) }
        if let cluster { letGo(cluster) }
        excluded(error)
    }

    /// Nothing comes any more.
    func endCluster() {
        let waiting = admission
        admission = []
        for continuation in waiting { continuation.resume(throwing: Self.stopped) }
        excluded(nil)
        guard let cluster else { return }
        for number in cluster.calls.keys.sorted() { fail(number, Self.stopped, cluster) }
        letGo(cluster)
        voterFile = nil
        durableLog = nil
        self.cluster = nil
    }

    func letGo(_ cluster: ClusterShell) {
        let leaving = cluster.leaving
        cluster.leaving = []
        for continuation in leaving { continuation.resume() }
    }

    /// The members and who leads what, for clients.
    func clusterDescription() -> ClusterDescription {
        let view = cluster?.node.view
        let members = view?.members ?? []
        var description = ClusterDescription(
            members: members.map { .init(node: $0.node, host: $0.host, port: $0.port) },
            pipelines: pipelines.map { PipelineInfo(name: $0.definition.name, form: $0.definition.form) })
        description.version = view?.version ?? 0
        description.isCluster = true
        var places: [MemberNumber: Int32] = [:]
        for (place, member) in members.enumerated() { places[member.number] = Int32(place) }
        description.primaries = view?.partitions.map { $0.primary.flatMap { places[$0] } ?? -1 } ?? []
        return description
    }
}
