// Flockwork · Apache-2.0 · see LICENSE

internal import FlockTestKit

/// What was asked for on the command line.
struct SimulateOptions: Sendable {
    struct Problem: Error, CustomStringConvertible { let description: String }

    var first: UInt64?
    var seeds: Int?
    var profile = FaultProfile.all
    var trace = false
    var history = false
    var jobs = 0
    /// No seed begins after that.
    var seconds: Int?
    /// Whether the mutants are run too.
    var mutants = true
    /// One mutant to be run alone.
    var mutant: Mutant?

    init(_ arguments: some Sequence<String>) throws {
        for argument in arguments {
            let parts = argument.split(separator: "=", maxSplits: 1).map(String.init)
            let value = parts.count > 1 ? parts[1] : ""
            func number<Number: FixedWidthInteger>() throws -> Number {
                guard let number = Number(value) else { throw Problem(description: "\(argument): no number") }
                return number
            }
            switch parts[0] {
            case "FIRST": if !value.isEmpty { first = try number() }
            case "TIME": if !value.isEmpty { seconds = try number() }
            case "SEED": if !value.isEmpty { first = try number() }
            case "SEEDS": if !value.isEmpty { seeds = try number() }
            case "NODES": if !value.isEmpty { profile.nodes = try number() }
            case "JOBS": if !value.isEmpty { jobs = try number() }
            case "PROFILE": try choose(value)
            case "TRACE": trace = value == "1"
            case "HISTORY": history = value == "1"
            case "MUTANT":
                guard let found = Mutant.all.first(where: { $0.name == value }) else {
                    throw Problem(description: "\(argument): one of \(Mutant.all.map(\.name))")
                }
                mutant = found
                profile = found.profile
            case "MUTANTS": mutants = value != "0"
            default: throw Problem(description: "\(argument): unknown; SEEDS=n SEED=s NODES=n JOBS=n TRACE=1")
            }
        }
        if mutant == nil { profile.voters = profile.nodes >= 3 ? 3 : 1 }
    }

    private mutating func choose(_ name: String) throws {
        switch name {
        case "", "all": profile = .all
        case "calm": profile = .calm
        case "crashes": profile = .crashes
        case "operators": profile = .operators
        case "maintenance": profile = .maintenance
        case "poison": profile = .poison
        case "durable": profile = .durable
        default:
            throw Problem(
                description: "PROFILE=\(name): all, calm, crashes, operators, maintenance, poison or durable")
        }
    }
}
