// Flockwork · Apache-2.0 · see LICENSE

// Calls of a peer. The registry decides whether it may make them; a direct body runs here and now, everything else in
// a task that this connection owns.

internal import Distributed
internal import FlockTransport
internal import FlockWire

/// A call that has not ended yet.
struct RunningCall {
    let call: DirectCall
    let task: Task<Void, Never>?

    func cancel() {
        task?.cancel()
        call.cancel()
    }
}

extension Peer {
    func receiveCall(_ body: Bytes) throws(WireError) {
        let header = try CallHeader(from: body)
        let call = DirectCall(
            peer: self, number: header.number, arguments: CallHeader.arguments(of: body),
            deadline: header.deadline == 0 ? nil : .nanoseconds(Int64(clamping: header.deadline)))
        guard running.count < limits.runningCalls else {
            loop.limitsReached.reached(.runningCalls)
            return call.fail(
                FlockError(
                    .overloaded, "\(running.count) calls of this peer are running", retryAfter: limits.retryAfter,
                    limit: .runningCalls))
        }
        if !running.isEmpty, running[header.number] != nil {
            throw .malformed("two calls with one number")
        }
        let target = system.registry.target(
            actor: header.actor, method: header.method, argumentCount: header.argumentCount, from: requiredExport)
        switch target {
        case .direct(let actor, let body):
            body(actor, call)
            if !call.isEnded && call.wantsReply && isOpen { list(call, task: nil) }
        case .method(let actor):
            // One-way calls are for direct methods: a task that nobody waits for is not started for a stranger.
            if call.wantsReply { start(call, on: actor, method: header.method) }
        case .missing:
            call.fail(FlockError(.notFound, "no such actor or method for this caller"))
        case .wrongArgumentCount:
            call.fail(
                FlockError(.invalidInput, "\(header.argumentCount) arguments are not what the method takes"))
        }
    }

    func receiveCancel(_ body: Bytes) throws(WireError) {
        var reader = ByteReader(body)
        let number: UInt64 = try reader.read()
        try reader.finish()
        // A call that ended before is none of ours any more. A task stays listed until it really ends.
        running[number]?.cancel()
        if let call = running[number], call.task == nil { finished(call.call) }
    }

    private func list(_ call: DirectCall, task: Task<Void, Never>?) {
        call.list()
        running[call.number] = RunningCall(call: call, task: task)
    }

    func finished(_ call: DirectCall) {
        running[call.number] = nil
    }

    private func start(_ call: DirectCall, on actor: any DistributedActor, method: UInt32) {
        let isPinned = actor.unownedExecutor.asSerialExecutor() === loop
        let names = system.registry.names
        let system = system
        let bytes = call.takeArguments()
        let task = Task(executorPreference: isPinned ? system.taskExecutor : nil) {
            let arguments = IncomingArguments(
                bytes, count: names[method].argumentCount, limits: system.limits, counts: system.loop.limitsReached)
            await system.run(names[method].identifier, on: actor, arguments: arguments, for: call)
        }
        list(call, task: task)
    }
}
