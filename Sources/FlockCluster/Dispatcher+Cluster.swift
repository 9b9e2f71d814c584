// Flockwork · Apache-2.0 · see LICENSE

// What a cluster adds to a dispatcher: hosts on other nodes die or fall silent, and partitions come and go.

internal import FlockWire

extension Dispatcher {
    /// The host's process is dead. Each run that it held is one execution more, which the log has to know before the
    /// next one begins; so the runs are handed back instead of queued.
    mutating func hostLost(_ id: HostID, out: inout [DispatcherDirective]) {
        guard let host = hosts.slot(of: id) else { return }
        for slot in pieces.slots(of: host) {
            release(slot)
            if !pieces[slot].isRevoked { out.append(.lost(pieces[slot].run)) }
            remove(slot)
        }
        hosts.down(id)
    }

    /// The host does not answer, which says nothing about whether it works: others get what it has, and the first
    /// outcome counts.
    mutating func hostAway(_ id: HostID) {
        guard let host = hosts.slot(of: id) else { return }
        // Backwards, since each goes to the front of the queue.
        for slot in pieces.slots(of: host).reversed() {
            release(slot)
            if pieces[slot].isRevoked { remove(slot) } else { requeue(slot) }
        }
        hosts.down(id)
    }

    /// The host has the run from another dispatcher. It counts against its credit, which it may exceed by that.
    mutating func adopt(_ run: OpenRun, by id: HostID) {
        guard run.items.count > 0 else { return }
        guard let host = hosts.slot(of: id) else { return enqueue(run) }
        let place = pieces.insert(run)
        pieces[place.slot].host = host
        pieces[place.slot].chargedBytes = hosts.charge(host, items: run.items.count, bytes: run.items.byteCount)
        sentItems += run.items.count
        hold(run)
    }

    /// Lets go of a partition's runs. Hosts answer to whoever serves it now, so their credit returns at once.
    mutating func forget(_ partition: PartitionID) {
        for slot in pieces.slots(of: partition) {
            if pieces[slot].host == nil {
                queuedItems -= pieces[slot].run.items.count
            } else {
                release(slot)
            }
            remove(slot)
        }
    }
}
