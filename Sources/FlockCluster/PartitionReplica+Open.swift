// Flockwork · Apache-2.0 · see LICENSE

internal import DequeModule
internal import FlockWire

extension PartitionReplica {
    /// What is open of these requests, in the order of ids: what may be dispatched again.
    func openRuns(of requests: RequestRun) -> [OpenRun] {
        guard let slot = sessions.slot(of: requests.session) else { return [] }
        var result: [OpenRun] = []
        for entry in sessions[slot].entries {
            let start = max(entry.sequences.first, requests.sequences.first)
            let end = min(entry.sequences.end, requests.sequences.end)
            guard start < end, let items = entry.items else { continue }
            var open: [SequenceRun] = []
            entry.appendOpen(in: SequenceRun(first: start, count: Int(end - start)), to: &open)
            for run in open { result += openRuns(run, of: sessions[slot], entry: entry, items: items) }
        }
        return result
    }

    /// The part of these requests that is proposed and not accepted yet; nil if there is none.
    func proposed(of requests: RequestRun) -> SequenceRun? {
        guard let slot = sessions.slot(of: requests.session) else { return nil }
        return sessions[slot].proposed(in: requests.sequences)
    }
}
