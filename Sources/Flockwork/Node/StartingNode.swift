// Flockwork · Apache-2.0 · see LICENSE

package import FlockActors
package import FlockWire
package import Logging

/// A node before it listens, for what other libraries put on it.
package struct StartingNode: Sendable {
    /// What nodes and clients reach.
    package let system: FlockSystem
    /// What operators reach, and nobody else; nil without an admin socket.
    package let operators: FlockSystem?
    package let log: Logger
    /// Nodes prove that they are some.
    package let hasToken: Bool
    /// Who is in the cluster now, this node included; a node alone is all there is.
    ///
    /// Throws `unavailable` before this node is a member.
    package let members: @Sendable () async throws -> [NodeID]
}
