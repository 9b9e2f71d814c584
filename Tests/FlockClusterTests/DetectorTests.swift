// Flockwork · Apache-2.0 · see LICENSE

import FlockWire
import Testing

@testable import FlockCluster

@Suite("Failure detector")
struct DetectorTests {
    /// The detector of node-0 with `voters` voters, in a cluster of four.
    struct Watch {
        var detector: Detector
        var now = milliseconds(1000)
        var view: ControlState

        init(voters: Int = 3) {
            detector = Detector(node: ControlWorld.name(0), times: ControlTimes())
            view = ControlState.sample(members: 4, voters: voters, partitions: 4)
            detector.watch(view, now: now)
        }

        /// One round of probes; those members answer at once.
        mutating func round(answering: [UInt32], at time: Tick? = nil) {
            now = time ?? detector.nextRound
            var out: [ControlDirective] = []
            detector.tick(now, version: 1, out: &out)
            for case .send(_, .probe(let sequence, let to, _, _)) in out where answering.contains(to.rawValue) {
                detector.answer(to, sequence: sequence, now: now + .milliseconds(1))
            }
        }

        mutating func rounds(_ count: Int, answering: [UInt32]) {
            for _ in 0..<count { round(answering: answering) }
        }

        var reasons: ControlReasons {
            var reasons = ControlReasons()
            detector.fill(&reasons, now: now)
            return reasons
        }
    }

    @Test("a silent member is accused after 300 to 500 ms, one that answers never")
    func silence() {
        var watch = Watch()
        watch.rounds(5, answering: [2, 3, 4])
        let fell = watch.now
        while watch.detector.accused.isEmpty, watch.now < fell + .seconds(5) { watch.round(answering: [2, 3]) }
        #expect(watch.detector.accused == [MemberNumber(rawValue: 4)])
        #expect(watch.now - fell >= .milliseconds(300) && watch.now - fell <= .milliseconds(500))
    }

    @Test("one voter of three accuses in vain, two of three are a majority")
    func majority() {
        var watch = Watch()
        watch.rounds(10, answering: [2, 3])
        #expect(watch.detector.accused == [MemberNumber(rawValue: 4)])
        #expect(!watch.detector.hasNews && watch.reasons.suspected.isEmpty)
        watch.detector.hear(ControlWorld.name(1), accused: [MemberNumber(rawValue: 4)], now: watch.now)
        #expect(watch.detector.hasNews && watch.reasons.suspected == [MemberNumber(rawValue: 4)])
        // What a voter said long ago is no vote.
        watch.rounds(12, answering: [2, 3])
        #expect(!watch.detector.hasNews && watch.reasons.suspected.isEmpty)
    }

    @Test("two voters must agree, a single one decides alone", arguments: [(1, true), (2, false)])
    func fewVoters(voters: Int, decides: Bool) {
        var watch = Watch(voters: voters)
        watch.rounds(10, answering: [2, 3])
        #expect(watch.detector.hasNews == decides)
    }

    @Test("who was away itself accuses nobody, and waits longer for a while")
    func lagging() {
        var watch = Watch(voters: 1)
        watch.rounds(5, answering: [2, 3, 4])
        watch.round(answering: [], at: watch.now + .seconds(3))
        #expect(watch.detector.accused.isEmpty && watch.detector.health == 2)
        watch.rounds(4, answering: [2, 3, 4])
        #expect(watch.detector.accused.isEmpty && watch.detector.health == 1)
    }

    @Test("a reset makes it look at once: silence is accused in 50 ms, an answer ends it")
    func reset() {
        for answers in [true, false] {
            var watch = Watch(voters: 1)
            watch.rounds(3, answering: [2, 3, 4])
            watch.now = watch.now + .milliseconds(10)
            var out: [ControlDirective] = []
            let member = MemberNumber(rawValue: 4)
            #expect(watch.detector.look(at: member, now: watch.now, version: 1, out: &out))
            guard case .send(_, .probe(let sequence, _, _, _)) = out.first else { return #expect(Bool(false)) }
            if answers { watch.detector.answer(member, sequence: sequence, now: watch.now + .milliseconds(2)) }
            let start = watch.now
            while watch.now < start + .milliseconds(60) {
                watch.now = watch.detector.nextDeadline
                watch.detector.tick(watch.now, version: 1, out: &out)
            }
            #expect(watch.detector.accused == (answers ? [] : [member]))
        }
    }

    @Test("a suspected member is trusted after three answers, but not after those of another incarnation")
    func refutation() {
        var watch = Watch(voters: 1)
        watch.rounds(8, answering: [2, 3])
        watch.view.members[3].isSuspected = true
        watch.detector.watch(watch.view, now: watch.now)
        watch.rounds(3, answering: [2, 3, 5])
        #expect(watch.reasons.trusted.isEmpty)
        watch.rounds(2, answering: [2, 3, 4])
        #expect(watch.reasons.trusted.isEmpty)
        watch.rounds(1, answering: [2, 3, 4])
        #expect(watch.reasons.trusted == [MemberNumber(rawValue: 4)])
    }
}

extension ControlState {
    /// A settled state of nodes `node-0`, …, members 1, ….
    static func sample(members: Int, voters: Int, partitions: Int, copies: Int = 3) -> ControlState {
        var function = ControlRules(rules: .all, times: ControlTimes())
        var reasons = ControlReasons()
        for index in 0..<members {
            let candidate = Candidate(
                node: ControlWorld.name(index), incarnation: UInt64(index) &* 0x9E37_79B9_7F4A_7C15,
                host: "10.0.0.\(index)",
                port: 7400)
            reasons.joins.append(.init(candidate: candidate, replaces: nil))
        }
        let configuration = ControlConfiguration(
            candidate: reasons.joins[0].candidate, voters: (0..<voters).map(ControlWorld.name), partitions: partitions)
        guard let state = function.first(configuration, reasons) else { preconditionFailure("no members") }
        return state
    }
}
