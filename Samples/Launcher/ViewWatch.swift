// Flockwork · Apache-2.0 · see LICENSE

import Flockwork

/// Waits for views of a cluster, as a client sees them.
struct ViewWatch: Sendable {
    let client: Client
    /// What is not seen within it is given up.
    var patience = Duration.seconds(60)
    /// A node that does not answer within it is cut off, or too busy to be asked.
    var answerTime = Duration.milliseconds(100)

    /// Until the newest view that some node has is as wanted.
    @discardableResult
    func wait(_ what: String, _ isThere: (ClusterStatus) -> Bool) async throws -> ClusterStatus {
        let end = ContinuousClock.now + patience
        var last: ClusterStatus?
        while ContinuousClock.now < end {
            if let view = await newest() {
                if isThere(view) { return view }
                last = view
            }
            try await Task.sleep(for: .milliseconds(5))
        }
        throw FlockError(.deadlineExceeded, "\(what): not within \(patience); \(Self.text(of: last))")
    }

    /// Until the client is connected to so many nodes, and they answer.
    func allAnswer(_ count: Int) async throws {
        let end = ContinuousClock.now + patience
        while ContinuousClock.now < end {
            if try await client.status(within: answerTime).count == count { return }
            try await Task.sleep(for: .milliseconds(5))
        }
        throw FlockError(.deadlineExceeded, "\(count) nodes do not answer within \(patience)")
    }

    /// Nil while no node answers.
    func newest() async -> ClusterStatus? {
        do {
            return try await client.status(within: answerTime).compactMap(\.cluster).max { $0.version < $1.version }
        } catch { return nil }
    }

    /// What of a view tells why it is not as wanted.
    private static func text(of view: ClusterStatus?) -> String {
        guard let view else { return "no node answers" }
        let members = view.members.map { "\($0.node)#\($0.number) \($0.phase)\($0.isSuspected ? " suspected" : "")" }
        let led = view.partitions.count { $0.primary != nil }
        let copied = view.partitions.count { $0.inSync.count >= min(view.members.count, 3) && $0.learners.isEmpty }
        return "view \(view.version): \(members.joined(separator: ", ")); of \(view.partitions.count) partitions "
            + "\(led) led, \(copied) with all copies"
    }
}
