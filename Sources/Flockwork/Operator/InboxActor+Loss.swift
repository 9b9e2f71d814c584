// Flockwork · Apache-2.0 · see LICENSE

internal import FlockActors
internal import FlockCluster
internal import FlockWire
internal import Logging

// Partitions of which no copy is left wait for one to come back: only a person knows that none will. What the register
// would give up is narrowed here: who has a disk that is being looked at is waited for.

extension InboxActor {
    /// Gives up what these partitions held, or all of which no copy can be reached; they begin empty. Returns which
    /// they were.
    func acceptLoss(of wanted: [PartitionID]?) async throws -> [PartitionID] {
        let view = try agreedView()
        let partitions = wanted ?? view.partitions.indices.map { PartitionID($0) }.filter { view.isOutOfReach($0) }
        for partition in partitions {
            let command = OperatorCommand.acceptLoss(partition)
            if let objection = command.objection(in: view) ?? Self.patience(with: partition, view) {
                throw FlockError(.invalidInput, objection)
            }
        }
        guard !partitions.isEmpty else { return [] }
        log.critical("an operator gives partitions up", metadata: ["partitions": "\(partitions.count)"])
        let generations = partitions.map { view.seats($0).generation }
        for partition in partitions { step(.command(.acceptLoss(partition))) }
        let isDone: @Sendable (ControlState) -> Bool = { view in
            zip(partitions, generations).allSatisfy { view.seats($0).generation != $1 }
        }
        guard try await !sees(within: Self.orderTime, isDone) else { return partitions }
        let last = try agreedView()
        let objections = partitions.lazy.compactMap { OperatorCommand.acceptLoss($0).objection(in: last) }
        throw FlockError(.unavailable, objections.first ?? Self.noMajority(last, Self.orderTime))
    }

    /// A copy on a disk is not lost before its node has said what it has.
    private static func patience(with partition: PartitionID, _ view: ControlState) -> String? {
        let nodes = view.copiesInReach(of: partition).compactMap { view.member($0)?.node.rawValue }
        guard !nodes.isEmpty else { return nil }
        return "\(nodes.sorted().joined(separator: ", ")) has a copy of \(partition) on its disk, which is being "
            + "looked at: wait a moment; if nobody leads it then, end that node first"
    }
}

extension ControlState {
    /// It was placed, and nobody with a copy in sync answers.
    fileprivate func isOutOfReach(_ partition: PartitionID) -> Bool {
        seats(partition).epoch > 0 && copiesInReach(of: partition).isEmpty
    }
}
