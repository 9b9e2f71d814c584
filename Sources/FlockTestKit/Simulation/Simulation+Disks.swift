// Flockwork · Apache-2.0 · see LICENSE

// The disks under durable partitions. What a process wrote and did not sync is a matter of luck when it dies, sector by
// sector; what it synced is what the next process of the node finds.

internal import FlockCluster
internal import FlockWire

extension Simulation {
    /// Small, so that a run sees segments come and go.
    static var segments: WriteAheadLog.Configuration {
        var configuration = WriteAheadLog.Configuration()
        configuration.segmentBytes = 16 << 10
        configuration.segments = 3
        configuration.flushBytes = 4 << 10
        return configuration
    }

    /// What a process finds when it starts.
    func readDisk(_ place: Int) -> (recovery: WALRecovery, copies: [RecoveredCopy]) {
        processes[place].files.isFailing = false
        let files = processes[place].files.names.map { name in
            (first: name, bytes: processes[place].files.read(name) ?? .empty)
        }
        let fresh = diskRandom.next() | 1
        let recovery = WALRecovery(segments: files, fresh: fresh, limits: limits)
        if recovery.verdict.isDamaged {
            violated("W1", "the log of n\(place) is \(recovery.verdict), and no disk did that")
        }
        for name in processes[place].files.names where !recovery.segments.contains(name) {
            processes[place].files.remove(name)
        }
        do throws(WireError) {
            var copies: [RecoveredCopy] = []
            for partition in recovery.partitions { copies.append(try RecoveredCopy(partition, limits: limits)) }
            report.counts.recovered += copies.count
            trace?("\(now) n\(place) finds \(copies.count) copies, log \(recovery.verdict)")
            return (recovery, copies)
        } catch {
            violated("W1", "the log of n\(place) cannot be read: \(error)")
            return (WALRecovery(segments: [], fresh: fresh, limits: limits), [])
        }
    }

    /// A copy has something new.
    func keep(_ directive: NodeDirective, _ place: Int) {
        var out: [NodeLogDirective] = []
        switch directive {
        case .keep(let partition, let first, let entries):
            processes[place].node?.log?.append(partition, first: first, entries, out: &out)
        case .keepSnapshot(let partition, let snapshot):
            processes[place].node?.log?.step(.snapshot(partition, snapshot), out: &out)
        case .dropCopy(let partition, let generation):
            processes[place].node?.log?.step(.drop(partition, generation: generation), out: &out)
        default: preconditionFailure("not for a disk: \(directive)")
        }
        carryOut(out, place)
    }

    /// The end of a turn of the process's loop.
    func turn(_ place: Int) {
        guard processes[place].node?.log?.isWaiting == true else { return }
        stepLog(place, .turn)
    }

    func synced(_ place: Int, _ segment: UInt64) {
        do throws(SimulatedDisk.Failure) {
            try processes[place].files.sync(segment)
            stepLog(place, .flushed)
            turn(place)
        } catch {
            stepLog(place, .failed)
        }
    }

    private func stepLog(_ place: Int, _ event: WALEvent) {
        var out: [NodeLogDirective] = []
        processes[place].node?.log?.step(event, out: &out)
        carryOut(out, place)
    }

    private func carryOut(_ directives: [NodeLogDirective], _ place: Int) {
        let run = processes[place].run
        for directive in directives {
            // Being put out ends a process: what it still wanted written is nobody's.
            guard processes[place].run == run, processes[place].isUp else { return }
            switch directive {
            case .flush(let segment, let offset, let bytes):
                do throws(SimulatedDisk.Failure) {
                    try processes[place].files.write(segment, at: offset, bytes)
                    let time = UInt64.random(
                        in: 100 * Virtual.microsecond...profile.longestSync, using: &diskRandom)
                    queue.push(.synced(place, run: run, segment: segment), at: now + time)
                } catch {
                    stepLog(place, .failed)
                }
            case .kept(let kept): step(place, .kept(kept))
            case .wantSnapshot(let partition): step(place, .snapshotWanted(partition))
            case .remove(let segment): processes[place].files.remove(segment)
            case .failed:
                trace?("\(now) n\(place) has no disk any more")
                processes[place].isLeaving = true
                report.counts.leaves += 1
                step(place, .diskFailed)
            }
        }
    }

    /// The disk takes nothing any more: the process has to go. Others take its place, so that for the count of faults
    /// its copies are lost.
    func failDisk(_ place: Int) {
        faults.recount(god, processes)
        guard place >= profile.voters, processes[place].isUp, !processes[place].isLeaving,
            processes.filter({ $0.isUp && !$0.isLeaving }).count > profile.voters, processes[place].node?.member != nil
        else { return }
        let exposed = faults.exposed(on: names[place], god, processes.map(\.disk))
        guard exposed.allSatisfy({ faults.destroyed[$0] < faults.bearable(god) }) else { return }
        for number in exposed { faults.destroyed[number] += 1 }
        processes[place].files.isFailing = true
    }
}
