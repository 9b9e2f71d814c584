// Flockwork · Apache-2.0 · see LICENSE

internal import FlockWire

// A batch that throws is halved and tried again, until the items that cause it stand alone: they fail, their neighbours
// succeed. The search has a budget of calls of its own; what is still unsure when it is used up fails with the batch's
// error, so that one poisoned batch cannot occupy an instance for ever.

/// Runs one instance's step over encoded items.
struct BatchExecution: Sendable {
    let step: EncodedStep
    let stage: String
    let limits: Limits
    /// Whose items they are, of the pipelines that share the lane.
    var flow = 0
    /// Asked before each call but the first. False: nobody waits for the result any more.
    var mayCallAgain: @Sendable () -> Bool = { true }

    /// On whose thread the caller is; nil: on one that may compute.
    var executor: (any TaskExecutor)?

    /// Larger batches are coded on Swift's pool: there the instances do it side by side.
    private static let small = (items: 64, bytes: 64 << 10)

    /// As `run`; from a thread that has others to serve, small batches only.
    func runWherever(_ items: ItemBuffer) async -> BatchResult {
        if executor == nil || (items.count <= Self.small.items && items.byteCount <= Self.small.bytes) {
            return await run(items)
        }
        return await withTaskExecutorPreference(globalConcurrentExecutor) { await run(items) }
    }

    func run(_ items: ItemBuffer) async -> BatchResult {
        do {
            return BatchResult(parts: [try await part(of: items, from: 0, count: items.count)])
        } catch {
            guard items.count > 1, StepCall.maySucceedInParts(after: error) else {
                return failed(0, items.count, error)
            }
            var budget = limits.bisectionCalls
            return BatchResult(parts: await bisect(items, from: 0, count: items.count, error: error, budget: &budget))
        }
    }

    private func part(of items: ItemBuffer, from first: Int, count: Int) async throws -> BatchResult.Part {
        let output = try await step(.encoded(items.slice(from: first, count: count), flow: flow))
        guard output.items.count == output.origins?.count ?? count else {
            throw FlockError(.badBatch, "The lane made \(output.items.count) results of \(count) items.", stage: stage)
        }
        return BatchResult.Part(start: first, count: count, ending: .output(output))
    }

    private func bisect(
        _ items: ItemBuffer, from first: Int, count: Int, error: any Error, budget: inout Int
    ) async -> [BatchResult.Part] {
        guard StepCall.maySucceedInParts(after: error) else { return failed(first, count, error).parts }
        guard count > 1, budget > 0 else {
            return failed(first, count, error, limit: count > 1 ? .bisectionCalls : nil).parts
        }
        var parts: [BatchResult.Part] = []
        let half = count / 2
        for (start, size) in [(first, half), (first + half, count - half)] {
            guard budget > 0, mayCallAgain() else {
                parts += failed(start, size, error, limit: budget > 0 ? nil : .bisectionCalls).parts
                continue
            }
            budget -= 1
            do {
                let made = try await StepCall.again(after: error) {
                    try await part(of: items, from: start, count: size)
                }
                parts.append(made)
            } catch {
                parts += await bisect(items, from: start, count: size, error: error, budget: &budget)
            }
        }
        return parts
    }

    private func failed(_ first: Int, _ count: Int, _ error: any Error, limit: Limit? = nil) -> BatchResult {
        var failure = failure(error)
        failure.limit = failure.limit ?? limit
        return BatchResult(parts: [BatchResult.Part(start: first, count: count, ending: .failed(failure))])
    }

    private func failure(_ error: any Error) -> FlockError {
        var failure = FlockError.ofStage(error)
        failure.stage = failure.stage ?? stage
        return failure
    }
}

extension FlockError {
    /// What a stage threw, as its callers see it.
    static func ofStage(_ error: any Error) -> FlockError {
        (error as? FlockError)
            ?? FlockError(
                .stageFailed, "The stage threw \(String(describing: type(of: error))): \(error)", cause: error)
    }
}
