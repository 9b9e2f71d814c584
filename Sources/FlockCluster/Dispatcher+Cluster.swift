// Flockwork · Apache-2.0 · see LICENSE

// What a cluster adds to a dispatcher: hosts on other nodes die or fall silent, and partitions come and go.

internal import DequeModule
internal import FlockWire

extension Dispatcher {
    /// After a host that had another suspect run.
    static let suspectPause = Duration.milliseconds(10)

    /// The host's process is dead. The log has to know which runs it may have died of before they are executed again;
    /// so these are handed back instead of queued.
    mutating func hostLost(_ id: HostID, out: inout [DispatcherDirective]) {
        guard let host = hosts.slot(of: id) else { return }
        // Backwards, since some go to the front of the queue.
        for slot in pieces.slots(of: host).reversed() {
            let piece = pieces[slot]
            release(slot)
            if !piece.isRevoked && isSuspect(piece.run) && !piece.hasBegun {
                requeue(slot)
                continue
            }
            if !piece.isRevoked { out.append(.lost(piece.run)) }
            remove(slot)
        }
        hosts.down(id)
    }

    /// An execution of these ended there without an outcome. A later one goes on, perhaps there too.
    mutating func letGo(_ id: HostID, _ runs: [RequestRun], upTo attempt: Int) {
        guard let host = hosts.slot(of: id) else { return }
        for run in runs {
            for slot in cut(run, where: { $0.host == host && $0.run.attempt <= attempt }) {
                release(slot)
                remove(slot)
            }
        }
    }

    /// The parts of `run` that are neither queued nor with a host.
    func missing(of run: RequestRun) -> [SequenceRun] { pieces.missing(of: run) }

    /// The host does not answer, which says nothing about whether it works: others get what it has, and the first
    /// outcome counts. It may have died of it all the same. Of suspect runs that is to be found out first.
    mutating func hostAway(_ id: HostID, out: inout [DispatcherDirective]) {
        guard let host = hosts.slot(of: id) else { return }
        var keeps = false
        for slot in pieces.slots(of: host) {
            let piece = pieces[slot]
            if isSuspect(piece.run) && !piece.isRevoked {
                keeps = true
                if !piece.isStranded { suspectItems -= piece.run.items.count }
                pieces[slot].isStranded = true
                continue
            }
            release(slot)
            if !piece.isRevoked { out.append(.lost(piece.run)) }
            remove(slot)
        }
        if keeps { hosts.close(id) } else { hosts.down(id) }
    }

    /// A host begins with a suspect run.
    mutating func begun(_ id: HostID, _ run: RequestRun) {
        guard let host = hosts.slot(of: id) else { return }
        let isolation = isolation
        for slot in cut(run, where: { $0.host == host && $0.run.deaths >= isolation }) { pieces[slot].hasBegun = true }
    }

    /// These have an outcome from whoever had them first. Of others that would be a second execution; suspect runs go
    /// out one by one, and would wait for it.
    mutating func dropSuspects(_ runs: [RequestRun]) {
        let isolation = isolation
        for run in runs {
            for slot in cut(run, where: { $0.host == nil && $0.run.deaths >= isolation }) {
                queuedItems -= pieces[slot].run.items.count
                remove(slot)
            }
        }
    }

    /// The next suspect run goes out if none is out: to another process than this one, whose log says what it did.
    mutating func sendSuspect(now: Tick, out: inout [DispatcherDirective]) {
        suspectsLackHost = false
        while suspectItems == 0, suspectsAfter <= now, let place = suspects.first {
            guard pieces.isQueued(place) else {
                suspects.removeFirst()
                continue
            }
            let run = pieces[place.slot].run
            if let deadline = run.deadline, deadline <= now {
                suspects.removeFirst()
                queuedItems -= run.items.count
                remove(place.slot)
                giveUp(run, .pastDeadline, out: &out)
                continue
            }
            guard let host = hosts.chooseRemote(firstItem: run.items.byteCount(of: 0), random: &random) else {
                suspectsLackHost = true
                return
            }
            let fit = hosts.fit(run.items, on: host)
            suspects.removeFirst()
            if fit < run.items.count { suspects.prepend(pieces.split(place.slot, after: fit)) }
            let part = pieces[place.slot].run
            pieces[place.slot].host = host
            pieces[place.slot].chargedBytes = hosts.take(host, items: fit, bytes: part.items.byteCount)
            queuedItems -= fit
            sentItems += fit
            suspectItems += fit
            hosts.stage(part, for: host)
        }
    }

    /// The host has the run from another dispatcher. It counts against its credit, which it may exceed by that.
    mutating func adopt(_ run: OpenRun, by id: HostID) {
        guard run.items.count > 0 else { return }
        guard let host = hosts.slot(of: id) else { return enqueue(run) }
        let place = pieces.insert(run)
        pieces[place.slot].host = host
        pieces[place.slot].chargedBytes = hosts.charge(host, items: run.items.count, bytes: run.items.byteCount)
        sentItems += run.items.count
        if isSuspect(run) {
            // Who holds a suspect run executes it.
            pieces[place.slot].hasBegun = true
            suspectItems += run.items.count
        }
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
