// Flockwork · Apache-2.0 · see LICENSE

// M. Shreedhar, G. Varghese: Efficient Fair Queueing Using Deficit Round Robin (SIGCOMM 1995). What a flow may take in
// its turn and could not, since the next piece was too large, it keeps for its next turn: so that shares are right
// whatever the sizes of the pieces, and each choice costs the same however much waits.

/// Turns of several flows at something that they share. Pure; costs are in any unit, the same for all.
public struct DeficitRoundRobin: Sendable {
    private let weights: [Int]
    // What a flow may still take. Over by a piece's size at most.
    private var balances: [Int]
    private var current: Int
    private var isInTurn = false

    /// One flow for each weight, which is its part of what is shared.
    public init(weights: [Int]) {
        precondition(!weights.isEmpty && weights.allSatisfy { $0 > 0 }, "weights \(weights)")
        self.weights = weights
        balances = Array(repeating: 0, count: weights.count)
        current = weights.count - 1
    }

    /// The flow whose turn it is, and the cost that it may take (at least 1); nil if nobody waits.
    ///
    /// A flow gets `quantum` times its weight in each round. One that waits for nothing loses what it has saved.
    public mutating func next(quantum: Int, isWaiting: (Int) -> Bool) -> (flow: Int, credit: Int)? {
        precondition(quantum > 0, "a quantum of \(quantum)")
        if isInTurn, isWaiting(current), balances[current] > 0 { return (current, balances[current]) }
        isInTurn = false
        guard let rounds = roundsNeeded(quantum, isWaiting) else { return nil }
        for flow in weights.indices where rounds > 1 && isWaiting(flow) {
            balances[flow] += (rounds - 1) * quantum * weights[flow]
        }
        while true {
            current = (current + 1) % weights.count
            guard isWaiting(current) else {
                balances[current] = min(balances[current], 0)
                continue
            }
            balances[current] += quantum * weights[current]
            if balances[current] > 0 {
                isInTurn = true
                return (current, balances[current])
            }
        }
    }

    /// The flow took that much.
    public mutating func take(_ cost: Int, from flow: Int) {
        precondition(cost >= 0, "a cost of \(cost)")
        balances[flow] -= cost
    }

    /// The flow in turn can take no more in it, and keeps the rest for its next one.
    public mutating func endTurn() { isInTurn = false }

    /// Rounds until a flow that waits may take something; nil if none waits. More than one where all are in debt.
    private func roundsNeeded(_ quantum: Int, _ isWaiting: (Int) -> Bool) -> Int? {
        var least: Int?
        for flow in weights.indices where isWaiting(flow) {
            let step = quantum * weights[flow]
            let rounds = balances[flow] >= 0 ? 1 : -balances[flow] / step + 1
            least = min(least ?? rounds, rounds)
        }
        return least
    }
}
