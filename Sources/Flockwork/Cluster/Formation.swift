// Flockwork · Apache-2.0 · see LICENSE

internal import Distributed
internal import FlockActors
internal import FlockCluster
internal import FlockTransport
internal import FlockWire
internal import Logging

// How a process finds out who the others are, before it can be a member: it goes to the addresses that it was given,
// says where it listens, and hears names, as a guest.

/// The way of a process to its first view.
struct Formation: Sendable {
    let configuration: NodeConfiguration
    let port: Int
    let inbox: InboxActor
    let pipelines: [Greeting.Pipeline]
    let durablePartitions: Int
    /// What the node has that stages may ask for.
    let labels: [String]
    /// What the node's disk has.
    let disk: NodeDisk

    private static let pause = Duration.milliseconds(100)
    private static let knownPause = Duration.seconds(1)
    /// Seconds without being a member, after which the log says so.
    private static let admissionPatience = 5
    /// Between two log lines while others are missing.
    private static let patience = 50

    /// Takes part as soon as enough others are known. Ends when the task is cancelled.
    func run() async {
        do {
            let loop = inbox.actorSystem.loop
            let guest = try Guest.system(configuration, on: loop)
            defer { Task { await guest.stop() } }
            try await form(guest)
            try await stayKnown(guest)
        } catch is CancellationError {
            return
        } catch {
            let error = FlockError.ofStage(error)
            await inbox.whenLocal { $0.refused(error) }
        }
    }

    private func form(_ guest: FlockSystem) async throws {
        guard let count = configuration.bootstrap else { return try await join(guest) }
        var known: [String: Greeting.Place] = [:]
        let own = Greeting.Place(node: configuration.id, host: configuration.host, port: port)
        var addresses = configuration.join
        if addresses.isEmpty { addresses = ["\(configuration.host):\(port)"] }
        var round = 0
        let wanted = wanted(of: addresses.count)
        while known.count < wanted {
            for address in addresses where known[address] == nil {
                guard let answer = try await greet(address, guest) else { continue }
                let (host, port) = try HostPort.parse(address)
                known[address] = Greeting.Place(node: answer.node, host: host, port: port)
                // The cluster is there: this process comes in as any other does, with its vote if it has it still.
                if answer.isFormed { return try await join(guest) }
            }
            try await wait(&round, "waiting for the other voters of the bootstrap", known.count, of: wanted)
        }
        if let state = disk.record?.state {
            return await begin(voters: state.voters, isBootstrap: true, peers: Array(known.values))
        }
        let voters = Set(known.values.map(\.node)).union([own.node])
        guard voters.count == count else {
            throw FlockError(
                .invalidInput,
                "A bootstrap of \(count) voters needs \(count) addresses of different nodes, this one's among them; "
                    + "those given are \(voters.count).")
        }
        await begin(voters: voters.sorted(), isBootstrap: true, peers: Array(known.values))
    }

    /// How many of the voters must be there: all when a cluster begins, and a majority when one that stopped goes on.
    private func wanted(of count: Int) -> Int { disk.record?.state == nil ? count : count / 2 + 1 }

    private func join(_ guest: FlockSystem) async throws {
        var round = 0
        while true {
            for address in configuration.join {
                guard let answer = try await greet(address, guest), answer.isFormed, !answer.voters.isEmpty else {
                    continue
                }
                try await checkName(answer.members, guest)
                // Each of them is to know where this process is: some have to connect to it.
                for member in answer.members { _ = try await greet("\(member.host):\(member.port)", guest) }
                return await begin(voters: answer.voters, isBootstrap: false, peers: answer.members)
            }
            try await wait(&round, "waiting for a node of the cluster", 0, of: configuration.join.count)
        }
    }

    /// A member of this node's name is its own former life, unless it answers: this process has no view yet.
    private func checkName(_ members: [Greeting.Place], _ guest: FlockSystem) async throws {
        guard let namesake = members.first(where: { $0.node == configuration.id }) else { return }
        let address = "\(namesake.host):\(namesake.port)"
        let answer = try await greet(address, guest)
        guard let answer, answer.node == namesake.node, answer.isFormed else { return }
        throw Guest.nameIsTaken(configuration.id, at: address)
    }

    /// A process that was cut off may find that the others have forgotten it, and of two nodes one waits to be called:
    /// so it makes itself known again while it is no member, or no voter is connected.
    private func stayKnown(_ guest: FlockSystem) async throws {
        var waited = 0
        while true {
            try await Task.sleep(for: Self.knownPause)
            waited = await inbox.whenLocal { $0.cluster?.node.state().member == nil } == true ? waited + 1 : 0
            if waited == Self.admissionPatience {
                let voters = await inbox.whenLocal { $0.clusterVoters } ?? []
                configuration.logger.warning(
                    "this node is no member: a majority of the voters has to answer", metadata: ["voters": "\(voters)"])
            }
            let places = await inbox.whenLocal { $0.placesToGreet() } ?? []
            let all = Set(places.map { "\($0.host):\($0.port)" }).union(places.isEmpty ? [] : configuration.join)
            try await withThrowingTaskGroup(of: Void.self) { group in
                for address in all where address != "\(configuration.host):\(port)" {
                    group.addTask { _ = try await greet(address, guest) }
                }
                try await group.waitForAll()
            }
        }
    }

    private func wait(_ round: inout Int, _ message: Logger.Message, _ known: Int, of all: Int) async throws {
        if round % Self.patience == Self.patience - 1 {
            configuration.logger.notice(message, metadata: ["known": "\(known)", "of": "\(all)"])
        }
        round += 1
        try await Task.sleep(for: Self.pause)
    }

    /// Nil if nobody answers there now. Throws where it never will be of use.
    private func greet(_ address: String, _ guest: FlockSystem) async throws -> Greeting.Answer? {
        let (host, port) = try HostPort.parse(address)
        do {
            let peer = try await guest.connect(host: host, port: port)
            defer { guest.loop.execute { peer.close(FlockError(.moved, "the guest has heard what it asked")) } }
            let member = try MemberActor.resolve(
                id: ActorAddress(named: MemberActor.name, on: peer.identity.node), using: guest)
            let answer = try await FlockSystem.$deadline.withValue(.seconds(1)) {
                try await member.greet(
                    Greeting(node: configuration.id, host: configuration.host, port: self.port))
            }
            guard answer.pipelines.map(\.unkept) != pipelines.map(\.unkept) || answer.pipelines == pipelines else {
                throw FlockError(
                    .incompatibleNode,
                    "The node \(answer.node) keeps pipelines in other partition groups (replicated or durable): all "
                        + "nodes of a cluster are started alike.", node: answer.node)
            }
            guard answer.pipelines == pipelines else {
                let (theirs, own) = (Set(answer.pipelines.map(\.name)).sorted(), Set(pipelines.map(\.name)).sorted())
                let what =
                    theirs == own
                    ? "other versions of \(own.joined(separator: ", "))"
                    : "\(theirs.joined(separator: ", ")), and this one runs \(own.joined(separator: ", "))"
                throw FlockError(
                    .incompatibleNode,
                    "The node \(answer.node) runs \(what): all nodes of a cluster run the same pipelines.",
                    node: answer.node)
            }
            return answer
        } catch let error as FlockError where error.code != .incompatibleNode && error.code != .unauthenticated {
            return nil
        }
    }

    private func begin(voters: [NodeID], isBootstrap: Bool, peers: [Greeting.Place]) async {
        var control = ControlConfiguration(
            candidate: Candidate(
                node: configuration.id, incarnation: .random(in: 1 ... .max), host: configuration.host, port: port,
                labels: labels, disk: disk.log),
            voters: voters, isBootstrap: isBootstrap,
            clusterID: ControlConfiguration.clusterID(named: configuration.clusterID),
            partitions: configuration.limits.partitions)
        control.durablePartitions = durablePartitions
        control.pipelines = pipelines.map(\.name)
        await inbox.whenLocal { [control] in $0.join(control, disk: disk, peers: peers) }
    }
}
