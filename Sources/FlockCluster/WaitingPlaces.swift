// Flockwork · Apache-2.0 · see LICENSE

internal import DequeModule
internal import FlockWire

/// What waits for a host, by priority: in order of dispatch within one, by weight between them.
struct WaitingPlaces: Sendable {
    /// Items of the lowest weight in a round.
    private static let quantum = 64

    private var levels: [Deque<Dispatcher.Place>] = Array(repeating: [], count: RequestPriority.allCases.count)
    private var turns = DeficitRoundRobin(weights: RequestPriority.weights)

    mutating func append(_ place: Dispatcher.Place, _ priority: RequestPriority) {
        levels[Int(priority.rawValue)].append(place)
    }

    mutating func prepend(_ place: Dispatcher.Place, _ priority: RequestPriority) {
        levels[Int(priority.rawValue)].prepend(place)
    }

    /// The level whose turn it is; nil if nothing waits.
    mutating func next() -> Int? {
        turns.next(quantum: Self.quantum) { !levels[$0].isEmpty }?.flow
    }

    func first(of level: Int) -> Dispatcher.Place { levels[level][0] }

    /// The first of the level is through with waiting, and has taken so many items of what is shared.
    mutating func removeFirst(of level: Int, items: Int) {
        levels[level].removeFirst()
        turns.take(items, from: level)
    }
}
