// Flockwork · Apache-2.0 · see LICENSE

package import FlockActors
internal import FlockTransport
package import FlockWire
internal import Logging

// A process that is no member, and asks nodes of a cluster something. For that it has a name of its own, since between
// two nodes there is one connection, which the one with the lower name makes.

/// A visitor of a cluster's nodes.
package enum Guest {
    /// Of the names of guests, whom nobody counts among the nodes.
    static let prefix = "guest-"

    /// Its system, on a loop of somebody else's.
    static func system(_ configuration: NodeConfiguration, on loop: EventLoop) throws -> FlockSystem {
        let name = NodeID("\(prefix)\(UInt64.random(in: .min ... .max))")
        let identity = Identity(
            clusterID: configuration.clusterID, node: name, role: .node,
            token: try configuration.tokenFile.map { try Token(file: $0) })
        var limits = configuration.limits
        limits.connectTime = min(limits.connectTime, limits.reconnectMaximum)
        return FlockSystem(
            identity: identity, loop: loop, limits: limits, log: configuration.logger,
            announcement: try Announcement(pipelines: []).encoded(limits: configuration.limits))
    }

    /// Runs `body` with those of the nodes to `join` that answer: with at least one, for which it waits, or where it
    /// is not to wait with as many as are there.
    /// - Throws: what `body` throws; `unauthenticated`, `incompatibleNode`: it will never be let in; `invalidInput`: a
    ///   node of this one's name is there.
    package static func visiting<Result>(
        _ configuration: NodeConfiguration, waits: Bool = true,
        _ body: (FlockSystem, [NodeID]) async throws -> Result
    ) async throws -> Result {
        let loop = try EventLoop(name: "flock-guest")
        do {
            let system = try system(configuration, on: loop)
            do {
                let nodes = try await waits ? someNodes(configuration, system) : nodes(configuration, system)
                let result = try await body(system, nodes)
                await system.stop()
                await loop.stop()
                return result
            } catch {
                await system.stop()
                throw error
            }
        } catch {
            await loop.stop()
            throw error
        }
    }

    private static func someNodes(_ configuration: NodeConfiguration, _ system: FlockSystem) async throws -> [NodeID] {
        var hasSaid = false
        while true {
            let nodes = try await nodes(configuration, system)
            guard !nodes.contains(configuration.id) else {
                throw nameIsTaken(configuration.id, at: configuration.join.joined(separator: " or "))
            }
            if !nodes.isEmpty { return nodes }
            if !hasSaid {
                configuration.logger.notice(
                    "waiting for a node of the cluster", metadata: ["join": "\(configuration.join)"])
                hasSaid = true
            }
            try await Task.sleep(for: .milliseconds(500))
        }
    }

    private static func nodes(_ configuration: NodeConfiguration, _ system: FlockSystem) async throws -> [NodeID] {
        var nodes: [NodeID] = []
        for address in configuration.join {
            let (host, port) = try HostPort.parse(address)
            do {
                nodes.append(try await system.connect(host: host, port: port).identity.node)
            } catch let error as FlockError
                where error.code != .incompatibleNode && error.code != .unauthenticated
            {
                // Nobody is there now; perhaps later.
            }
        }
        return nodes
    }

    static func nameIsTaken(_ name: NodeID, at address: String) -> FlockError {
        FlockError(
            .invalidInput, "A node called \(name) runs already, at \(address): give this one another id.", node: name)
    }
}
