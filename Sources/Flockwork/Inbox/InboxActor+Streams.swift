// Flockwork · Apache-2.0 · see LICENSE

internal import Distributed
internal import FlockActors
internal import FlockCluster
internal import FlockTransport
internal import FlockWire

// How a session hears of its requests: its stream is attached to a connection, gathers what a turn of the loop brings,
// and sends it in one frame at the end of the turn.

extension InboxActor {
    /// Returns the stream's number, for `detach`.
    @discardableResult
    func attach(_ key: SessionKey, to sink: OutcomeStream.Sink) -> UInt64 {
        let number = takeNumber()
        let place = SessionPlace(partition: key.partition, session: key.session)
        if isClustered {
            guard let cluster else {
                end(sink, with: FlockError(.unavailable, "The node is no member yet.", retryAfter: limits.retryAfter))
                return number
            }
            streams[number] = OutcomeStream(place: place, sink: sink, pipeline: kind(of: key)?.pipeline)
            attachInCluster(key, stream: number, cluster)
            return number
        }
        guard isOwned(key.partition) else {
            end(sink, with: Self.noPartition(key.partition))
            return number
        }
        // The newest stream wins: the session's client has come back over another connection. An older one is ended
        // only once the secret has proved right, which the answer to `attach` says.
        let earlier = streamOfSession[place]
        streams[number] = OutcomeStream(place: place, sink: sink, pipeline: kind(of: key)?.pipeline)
        streamOfSession[place] = number
        step(
            key.partition,
            .attach(session: key.session, secret: key.secret, subscriber: number, reply: number))
        if streams[number] == nil {
            streamOfSession[place] = earlier
        } else {
            streamOfSession[place] = earlier
            attached(number)
        }
        return number
    }

    /// The secret has proved right: an earlier stream of the session is over.
    func attached(_ number: UInt64) {
        guard let stream = streams[number] else { return }
        if let earlier = streamOfSession[stream.place] {
            // In a cluster `moved` means that another node is to be asked, which nobody is.
            endStream(
                earlier,
                FlockError(isClustered ? .cancelled : .moved, "The session was attached over another connection."))
        }
        streamOfSession[stream.place] = number
        if case .call(let call) = stream.sink {
            call.onCancel { [weak self] in self?.assumeIsolated { $0.detach(number) } }
        }
    }

    func detach(_ number: UInt64) {
        guard let stream = streams.removeValue(forKey: number) else { return }
        if streamOfSession[stream.place] == number { streamOfSession[stream.place] = nil }
        if let cluster { return detachInCluster(number, cluster) }
        step(stream.place.partition, .detach(subscriber: number))
    }

    func endStream(_ number: UInt64, _ error: FlockError) {
        guard let stream = streams.removeValue(forKey: number) else { return }
        if streamOfSession[stream.place] == number { streamOfSession[stream.place] = nil }
        end(stream.sink, with: error)
    }

    private func end(_ sink: OutcomeStream.Sink, with error: FlockError) {
        switch sink {
        case .call(let call): call.fail(error)
        case .local(_, let onEnd): onEnd(error)
        }
    }

    func noteAccepted(through sequence: UInt64, in stream: UInt64) {
        guard let known = streams[stream]?.part.accepted ?? (streams[stream] == nil ? nil : 0) else { return }
        streams[stream]?.part.accepted = max(known, sequence)
        markDirty(stream)
    }

    func note(_ error: FlockError, from sequence: UInt64, in stream: UInt64) {
        guard streams[stream] != nil, streams[stream]?.part.refused.map({ $0.from > sequence }) ?? true else { return }
        var error = error
        error.node = error.node ?? actorSystem.node
        streams[stream]?.part.refused = .init(from: sequence, error: error)
        markDirty(stream)
    }

    func deliver(_ runs: [OutcomeRun], to stream: UInt64) {
        for run in runs {
            counters.completed += UInt64(run.sequences.count)
            guard case .failed(let error) = run.outcome else { continue }
            counters.failed += UInt64(run.sequences.count)
            reached(error.limit)
        }
        guard streams[stream] != nil else { return }
        metrics?.delivered(runs, pipeline: streams[stream]?.pipeline)
        streams[stream]?.part.outcomes += runs
        markDirty(stream)
    }

    private func markDirty(_ stream: UInt64) {
        guard streams[stream]?.hasNews == false else { return }
        streams[stream]?.hasNews = true
        dirtyStreams.append(stream)
        turn?.arm()
    }

    /// Sends each session what the turn brought for it, in frames of at most about a quarter of the limit.
    func flushStreams() {
        let dirty = dirtyStreams
        dirtyStreams = []
        for number in dirty {
            guard var stream = streams[number] else { continue }
            stream.hasNews = false
            let part = stream.part
            stream.part = StreamPart()
            streams[number] = stream
            send(part, to: stream.sink)
        }
    }

    private func send(_ part: StreamPart, to sink: OutcomeStream.Sink) {
        switch sink {
        case .local(let onPart, _): onPart(part)
        case .call(let call):
            var rest = part.outcomes[...]
            var next = StreamPart(accepted: part.accepted, refused: part.refused)
            repeat {
                var bytes = 0
                let count = rest.prefix { run in
                    defer { bytes += run.outcome.byteCount + 64 }
                    return bytes < limits.frameBytes / 4
                }.prefix(limits.runsPerFrame).count
                next.outcomes = Array(rest.prefix(count))
                rest = rest.dropFirst(count)
                call.part { next.write(to: &$0, limits: limits) }
                next = StreamPart()
            } while !rest.isEmpty
        }
    }
}
