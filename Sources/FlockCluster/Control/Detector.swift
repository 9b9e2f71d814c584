// Flockwork · Apache-2.0 · see LICENSE

// A voter probes every member ten times a second and remembers when the newest probe that was answered was *sent*: the
// member lived at least then. Who answers none for long is accused, and voters tell each other whom they accuse; only
// the majority's accusation is a reason for a view. Who lags itself accuses nobody.

import FlockWire

/// The failure detector of one voter. It only suspects: the register decides.
struct Detector: Sendable {
    /// A member that is watched.
    struct Peer: Sendable {
        let number: MemberNumber
        let node: NodeID
        /// When the newest probe that it answered was sent.
        var answered: Tick
        /// Nanoseconds that its slow answers take: the slowest, fading.
        var slowest: UInt64 = 0
        /// Probes answered in a row, up to a few.
        var streak = 0
        /// Its connection was reset: answer a probe sent since, soon.
        var lookSince: Tick?
        /// The second probe of a look was sent.
        var isLookRepeated = false
        var isAccused = false
        /// What the view says.
        var isSuspected: Bool
        var suspectedSince: Tick
    }

    /// What another voter said last.
    private struct Voter: Sendable {
        let node: NodeID
        var accused: [MemberNumber] = []
        var heard = Tick.zero
    }

    private(set) var peers: [Peer] = []
    private var voters: [Voter] = []
    private var majority = 1
    private let times: ControlTimes
    private let own: NodeID
    private var sequence: UInt32 = 0
    private var sentAt = Array(repeating: Tick.zero, count: 64)
    /// 1 to 8: how much longer than usual this voter waits before it accuses, because it lags or hears nobody.
    private(set) var health = 1
    private(set) var nextRound = Tick.never
    private(set) var nextLook = Tick.never
    /// A majority's opinion differs from the view.
    private(set) var hasNews = false

    init(node: NodeID, times: ControlTimes) {
        own = node
        self.times = times
    }

    /// The earlier of the next round of probes and the next look.
    var nextDeadline: Tick { min(nextRound, nextLook) }
    /// Members that this voter accuses, ascending.
    var accused: [MemberNumber] { peers.lazy.filter(\.isAccused).map(\.number) }

    // MARK: Views

    /// Watches the members of a newer view. New ones have answered now, as far as it is known.
    mutating func watch(_ view: ControlState, now: Tick) {
        var fresh: [Peer] = []
        fresh.reserveCapacity(view.members.count)
        var place = 0
        for member in view.members where member.node != own {
            while place < peers.count, peers[place].number < member.number { place += 1 }
            var peer =
                place < peers.count && peers[place].number == member.number
                ? peers[place]
                : Peer(
                    number: member.number, node: member.node, answered: now, isSuspected: member.isSuspected,
                    suspectedSince: now)
            if peer.isSuspected != member.isSuspected {
                peer.isSuspected = member.isSuspected
                peer.suspectedSince = now
            }
            fresh.append(peer)
        }
        peers = fresh
        voters = view.voters.filter { $0 != own }.map { node in
            voters.first { $0.node == node } ?? Voter(node: node)
        }
        majority = view.voters.count / 2 + 1
        if nextRound == .never { nextRound = now }
        judge(now)
    }

    /// Watches nobody any more.
    mutating func stop() {
        peers = []
        nextRound = .never
        nextLook = .never
        hasNews = false
    }

    // MARK: Probes

    /// The number of the next probe, sent now.
    private mutating func newSequence(_ now: Tick) -> UInt32 {
        sequence &+= 1
        sentAt[Int(sequence % 64)] = now
        return sequence
    }

    /// Sends what is due and accuses who is late.
    mutating func tick(_ now: Tick, version: UInt64, out: inout [ControlDirective]) {
        var isChanged = false
        if now >= nextLook { isChanged = look(now, version: version, out: &out) }
        if now >= nextRound {
            measureHealth(late: now - nextRound, now)
            nextRound = now + times.probeInterval
            isChanged = accuse(now) || isChanged
            let sequence = newSequence(now)
            let accused = self.accused
            for peer in peers { probe(peer, sequence, version: version, accused: accused, out: &out) }
            judge(now)
        } else if isChanged {
            tellVoters(now, version: version, out: &out)
            judge(now)
        }
    }

    private func probe(
        _ peer: Peer, _ sequence: UInt32, version: UInt64, accused: [MemberNumber], out: inout [ControlDirective]
    ) {
        let suspects = !accused.isEmpty && voters.contains { $0.node == peer.node } ? accused : []
        out.append(
            .send(
                peer.node, .probe(sequence: sequence, to: peer.number, version: version, suspects: suspects)))
    }

    /// An accusation is news for the other voters, who have no need to wait for the next round.
    private mutating func tellVoters(_ now: Tick, version: UInt64, out: inout [ControlDirective]) {
        let sequence = newSequence(now)
        let accused = self.accused
        for peer in peers where voters.contains(where: { $0.node == peer.node }) {
            probe(peer, sequence, version: version, accused: accused, out: &out)
        }
    }

    /// A pause of this process says nothing about the others: whoever was silent meanwhile gets another chance. So does
    /// everybody if nobody answers, as long as no majority could act on it anyway.
    private mutating func measureHealth(late: Duration, _ now: Tick) {
        if late >= times.probeInterval {
            health = min(8, health + 1)
            for place in peers.indices {
                peers[place].answered = now
                peers[place].isAccused = peers[place].isAccused && peers[place].isSuspected
                peers[place].lookSince = nil
            }
        } else if majority > 1, peers.count > 1, peers.allSatisfy({ now - $0.answered >= times.suspectAfterMinimum }) {
            health = min(8, health + 1)
        } else {
            health = max(1, health - 1)
        }
    }

    private func suspectAfter(_ peer: Peer) -> Duration {
        let learned = Duration.nanoseconds(Int64(clamping: peer.slowest)) * 3
        return min(max(learned, times.suspectAfterMinimum), times.suspectAfterMaximum) * health
    }

    private mutating func accuse(_ now: Tick) -> Bool {
        var isChanged = false
        for place in peers.indices where !peers[place].isAccused {
            guard now - peers[place].answered >= suspectAfter(peers[place]) else { continue }
            peers[place].isAccused = true
            peers[place].streak = 0
            isChanged = true
        }
        return isChanged
    }

    // MARK: Resets

    /// A connection to that node was reset. True if its member is to be looked at now.
    mutating func look(at number: MemberNumber, now: Tick, version: UInt64, out: inout [ControlDirective]) -> Bool {
        guard let place = place(of: number), peers[place].lookSince == nil, !peers[place].isAccused else {
            return false
        }
        peers[place].lookSince = now
        peers[place].isLookRepeated = false
        nextLook = min(nextLook, now + lookTime(peers[place]) / 2)
        probe(peers[place], newSequence(now), version: version, accused: accused, out: &out)
        return true
    }

    private func lookTime(_ peer: Peer) -> Duration {
        let learned = Duration.nanoseconds(Int64(clamping: peer.slowest)) * 2
        return min(max(learned, times.suspectAfterReset) * health, suspectAfter(peer))
    }

    private mutating func look(_ now: Tick, version: UInt64, out: inout [ControlDirective]) -> Bool {
        nextLook = .never
        var isChanged = false
        for place in peers.indices {
            guard let since = peers[place].lookSince else { continue }
            let limit = lookTime(peers[place])
            if now - since >= limit {
                peers[place].lookSince = nil
                peers[place].isAccused = true
                peers[place].streak = 0
                isChanged = true
            } else if !peers[place].isLookRepeated, now - since >= limit / 2 {
                peers[place].isLookRepeated = true
                nextLook = min(nextLook, since + limit)
                probe(peers[place], newSequence(now), version: version, accused: accused, out: &out)
            } else {
                nextLook = min(nextLook, since + (peers[place].isLookRepeated ? limit : limit / 2))
            }
        }
        return isChanged
    }

    // MARK: Answers

    /// The member of that number answered. An answer of another incarnation has another number and refutes nothing.
    mutating func answer(_ number: MemberNumber, sequence: UInt32, now: Tick) {
        guard let place = place(of: number), self.sequence &- sequence < 64 else { return }
        let sent = sentAt[Int(sequence % 64)]
        guard sent > peers[place].answered || peers[place].isAccused else { return }
        let took = (now - sent).clampedNanoseconds
        peers[place].slowest = max(took, peers[place].slowest - peers[place].slowest / 16)
        peers[place].answered = max(peers[place].answered, sent)
        if let since = peers[place].lookSince, sent >= since { peers[place].lookSince = nil }
        guard peers[place].isAccused || peers[place].isSuspected else { return }
        // A probe of long ago that only now is answered refutes nothing.
        guard now - sent < times.suspectAfterMaximum else { return }
        peers[place].streak += 1
        peers[place].isAccused = false
        judge(now)
    }

    /// What another voter says about the members. Old words arriving late are corrected by the next.
    mutating func hear(_ node: NodeID, accused: [MemberNumber], now: Tick) {
        guard let place = voters.firstIndex(where: { $0.node == node }) else { return }
        voters[place].heard = now
        guard voters[place].accused != accused else { return }
        voters[place].accused = accused
        judge(now)
    }

    // MARK: Judgement

    /// Answers in a row after which a suspected member is trusted again.
    private static let refutation = 3

    private mutating func judge(_ now: Tick) {
        hasNews = peers.contains { verdict($0, now) != nil || isExpired($0, now) }
    }

    /// What the view should say of a member and does not; nil if it is right.
    private func verdict(_ peer: Peer, _ now: Tick) -> Bool? {
        if !peer.isAccused && !peer.isSuspected { return nil }  // those who accuse propose
        var accusers = peer.isAccused ? 1 : 0
        for voter in voters where now - voter.heard <= times.reasonLife && voter.accused.contains(peer.number) {
            accusers += 1
        }
        if peer.isSuspected {
            return accusers < majority && !peer.isAccused && peer.streak >= Self.refutation ? false : nil
        }
        return accusers >= majority ? true : nil
    }

    /// Members that the view should call suspected, or no longer so; and those that were suspected for long.
    func fill(_ reasons: inout ControlReasons, now: Tick) {
        for peer in peers {
            if let isSuspected = verdict(peer, now) {
                if isSuspected { reasons.suspected.append(peer.number) } else { reasons.trusted.append(peer.number) }
            } else if isExpired(peer, now) {
                reasons.expired.append(peer.number)
            }
        }
    }

    private func isExpired(_ peer: Peer, _ now: Tick) -> Bool {
        peer.isSuspected && peer.streak == 0 && now - peer.suspectedSince >= times.evictAfter
    }

    /// Whether this voter accuses what runs on that node.
    func isAccused(_ node: NodeID) -> Bool { peers.contains { $0.node == node && $0.isAccused } }

    /// Whether a member answered a probe that was sent just now: then no later process of its node exists.
    func isAnswering(_ number: MemberNumber, now: Tick) -> Bool {
        guard let place = place(of: number), !peers[place].isAccused, peers[place].lookSince == nil else {
            return false
        }
        return now - peers[place].answered <= times.probeInterval * 2
    }

    private func place(of number: MemberNumber) -> Int? { peers.firstIndex { $0.number == number } }
}
