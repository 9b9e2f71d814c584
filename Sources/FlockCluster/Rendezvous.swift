// Flockwork · Apache-2.0 · see LICENSE

// Highest-random-weight hashing with a bound on the load. Each (partition, member) pair has a fixed random score; the
// best member with room gets the partition. A member that joins or leaves therefore moves its own share and little
// else, and nobody holds more than 1.1 times the fair share. `Hasher` is seeded per process, hence a mix of our own.

public import FlockWire

/// Assigns partitions to weighted members. All who know the same members get the same answer.
public struct Rendezvous: Sendable {
    /// A node and its share.
    public struct Member: Sendable, Hashable {
        /// The node's stable name, which its scores are drawn from.
        public let id: NodeID
        /// 1 to 64: a member of weight 2 gets twice the partitions of one of weight 1.
        public let weight: Int

        /// Weight out of range is a broken invariant: `MemberSpec` checks it first.
        public init(id: NodeID, weight: Int = 1) {
            precondition((1...64).contains(weight), "weight \(weight) of \(id)")
            self.id = id
            self.weight = weight
        }
    }

    /// No member holds more than the fair share times this, in hundredths, rounded up to a whole partition.
    public let boundPercent: Int

    /// 110 is the bound that was measured to move no more than the ideal.
    public init(boundPercent: Int = 110) {
        precondition(boundPercent >= 100, "bound \(boundPercent) %")
        self.boundPercent = boundPercent
    }

    /// For each partition the place of its owner in `members`, which must not be empty, in any order, ids unique.
    public func owners(of partitions: Int, among members: [Member]) -> [Int] {
        precondition(!members.isEmpty, "partitions for nobody")
        let total = members.reduce(0) { $0 + $1.weight }
        let seeds = members.map { StableHash(of: $0.id.rawValue).value }
        var room = members.map { (partitions * $0.weight * boundPercent + total * 100 - 1) / (total * 100) }
        var result: [Int] = []
        result.reserveCapacity(partitions)
        for partition in 0..<partitions {
            var best: (place: Int, score: UInt64)?
            for (place, member) in members.enumerated() where room[place] > 0 {
                let score = Self.score(UInt64(partition), seed: seeds[place], weight: member.weight)
                if let old = best {
                    let isTie = score == old.score
                    guard isTie ? member.id < members[old.place].id : score > old.score else { continue }
                }
                best = (place, score)
            }
            guard let best else { preconditionFailure("no room for partition \(partition) of \(partitions)") }
            room[best.place] -= 1
            result.append(best.place)
        }
        return result
    }

    /// The best of `weight` draws: the maximum of n uniform draws is exactly weighted rendezvous hashing, without a
    /// logarithm that might round differently elsewhere.
    static func score(_ partition: UInt64, seed: UInt64, weight: Int) -> UInt64 {
        var best: UInt64 = 0
        for draw in 0..<UInt64(weight) {
            best = max(best, StableHash.mix(seed ^ StableHash.mix(partition << 8 | draw)))
        }
        return best
    }
}

/// A hash that is the same in every process and version: FNV-1a, then a finalizer that spreads its bits.
struct StableHash: Sendable {
    private var state: UInt64 = 0xCBF2_9CE4_8422_2325

    init() {}
    init(of text: String) { combine(text) }

    mutating func combine(_ text: String) {
        for byte in text.utf8 { combine(byte: byte) }
        combine(byte: 0xFF)  // not in UTF-8: "ab"+"c" differs from "a"+"bc"
    }

    mutating func combine(_ number: UInt64) {
        for shift in stride(from: UInt64(0), to: 64, by: 8) {
            combine(byte: UInt8(truncatingIfNeeded: number >> shift))
        }
    }

    private mutating func combine(byte: UInt8) { state = (state ^ UInt64(byte)) &* 0x100_0000_01B3 }

    var value: UInt64 { Self.mix(state) }

    /// SplitMix64's finalizer: every bit of the input changes about half of the output.
    static func mix(_ value: UInt64) -> UInt64 {
        var mixed = value &+ 0x9E37_79B9_7F4A_7C15
        mixed = (mixed ^ mixed >> 30) &* 0xBF58_476D_1CE4_E5B9
        mixed = (mixed ^ mixed >> 27) &* 0x94D0_49BB_1331_11EB
        return mixed ^ mixed >> 31
    }
}
