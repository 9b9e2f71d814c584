// Flockwork · Apache-2.0 · see LICENSE

import Flockwork
import Foundation
import Synchronization

// Callers that do not wait for each other: each asks when it is due, however long the others take, and its latency
// counts from then. So a system that falls behind cannot slow its own load down.

/// Requests that come at random, and in bursts.
struct Arrivals: Sendable {
    /// A second, the bursts among them; gaps are exponential.
    var rate: Double
    /// Requests that come at once, and how often.
    var burst = 0
    var burstSeconds = 0.25
    var seed: UInt64 = 1

    /// When each is due, in nanoseconds from the start.
    func times(seconds: Double) -> [UInt64] {
        var random = SplitMix(state: seed)
        var times: [Double] = []
        let steady = rate - (burst > 0 ? Double(burst) / burstSeconds : 0)
        precondition(steady > 0, "bursts of \(burst) alone are more than \(rate) a second")
        var time = 0.0
        while true {
            time += -log(1 - Double.random(in: 0..<1, using: &random)) / steady
            if time >= seconds { break }
            times.append(time)
        }
        time = burstSeconds
        while burst > 0, time < seconds {
            times += Array(repeating: time, count: burst)
            time += burstSeconds
        }
        return times.sorted().map { UInt64($0 * 1e9) }
    }

    /// What became of one.
    enum Ending: Sendable {
        case answered
        /// Not accepted: `overloaded`.
        case refused
        /// Accepted, and not done before its deadline; or refused for that.
        case late
    }

    struct Answer: Sendable {
        /// When it was due, and how long it took from then, in nanoseconds.
        var due: UInt64
        var took: UInt64
        /// The same from when it was asked.
        var tookFromAsking: UInt64
        var ending: Ending
        /// With a refusal.
        var retryAfter: Duration?
    }

    /// Asks, and returns once all have an answer. Another error than those of `Ending` ends the run.
    func ask(
        _ inbox: Inbox<Int, Int>, seconds: Double, deadline: Duration? = nil
    ) async throws -> (answers: [Answer], start: UInt64) {
        let times = times(seconds: seconds)
        let answers = Answers()
        let thread = OwnThread()
        defer { thread.stop() }
        let start = monotonicNanoseconds() + 1_000_000
        try await withThrowingTaskGroup(of: Void.self) { group in
            // The clock has a thread of its own, and each request a task of the pool.
            group.addTask(executorPreference: thread) {
                try await withThrowingTaskGroup(of: Void.self) { requests in
                    for (number, due) in times.enumerated() {
                        Self.wait(until: start + due)
                        requests.addTask(executorPreference: globalConcurrentExecutor) {
                            let answer = try await Self.ask(inbox, number, due, start, deadline)
                            answers.append(answer)
                        }
                    }
                    try await requests.waitForAll()
                }
            }
            try await group.waitForAll()
        }
        return (answers.all, start)
    }

    private final class Answers: Sendable {
        private let list = Mutex<[Answer]>([])
        var all: [Answer] { list.withLock { $0 } }
        func append(_ answer: Answer) { list.withLock { $0.append(answer) } }
    }

    private static func ask(
        _ inbox: Inbox<Int, Int>, _ number: Int, _ due: UInt64, _ start: UInt64, _ deadline: Duration?
    ) async throws -> Answer {
        let asked = monotonicNanoseconds()
        var ending = Ending.answered
        var retryAfter: Duration?
        do {
            guard try await inbox.ask(number, deadline: deadline) == number + 1 else {
                throw BenchmarkError("\(number) has a wrong answer")
            }
        } catch let error as FlockError where error == .overloaded {
            ending = .refused
            retryAfter = error.retryAfter
        } catch let error as FlockError where error == .deadlineExceeded {
            ending = .late
        }
        let now = monotonicNanoseconds()
        return Answer(
            due: due, took: now - min(now, start + due), tookFromAsking: now - asked, ending: ending,
            retryAfter: retryAfter)
    }

    private static func wait(until time: UInt64) {
        while true {
            let now = monotonicNanoseconds()
            guard now < time else { return }
            var pause = timespec(tv_sec: 0, tv_nsec: Int(min(time - now, 50_000_000)))
            nanosleep(&pause, nil)
        }
    }
}

extension [Arrivals.Answer] {
    func latency(of ending: Arrivals.Ending, fromAsking: Bool = false) -> Latency {
        var latency = Latency()
        for answer in self where answer.ending == ending {
            latency.record(fromAsking ? answer.tookFromAsking : answer.took)
        }
        return latency
    }

    func count(of ending: Arrivals.Ending) -> Int { count { $0.ending == ending } }
}

/// Sebastiano Vigna's splitmix64: the same arrivals for every policy.
struct SplitMix: RandomNumberGenerator {
    var state: UInt64
    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var value = state
        value = (value ^ (value >> 30)) &* 0xBF58_476D_1CE4_E5B9
        value = (value ^ (value >> 27)) &* 0x94D0_49BB_1331_11EB
        return value ^ (value >> 31)
    }
}
