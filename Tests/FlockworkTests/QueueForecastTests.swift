// Flockwork · Apache-2.0 · see LICENSE

import FlockCluster
import FlockWire
import Testing

@testable import Flockwork

@Suite("A queue's forecast")
struct QueueForecastTests {
    private func run(_ first: UInt64, _ count: Int) -> RequestRun {
        RequestRun(
            partition: PartitionID(rawValue: 1), session: SessionID(rawValue: 1),
            sequences: SequenceRun(first: first, count: count))
    }

    /// One that has seen requests take 5 ms, and 1 ms for each that was open.
    private func learned() -> QueueForecast {
        var forecast = QueueForecast()
        learn(&forecast, perItem: 1, from: 0)
        return forecast
    }

    private func learn(_ forecast: inout QueueForecast, perItem: Int, from first: UInt64) {
        for number in first..<first + 200 {
            let open = 1 + Int(number % 50)
            let now = Tick(nanoseconds: number * 1_000_000_000)
            forecast.began(run(number * 10, 10), open: open, at: now)
            forecast.ended(run(number * 10, 10), isDone: true, at: now + .milliseconds(5 + perItem * open))
        }
    }

    @Test("accepts what it knows nothing of, and one at least where nothing waits")
    func probes() {
        #expect(QueueForecast().room(for: 10, deadline: .milliseconds(1), behind: 1000, limits: Limits()) == 10)
        #expect(learned().room(for: 10, deadline: .milliseconds(1), behind: 0, limits: Limits()) == 1)
        #expect(learned().room(for: 10, deadline: .milliseconds(1), behind: 1, limits: Limits()) == 0)
    }

    @Test("takes of a run what can be in time with something to spare, and says when the rest may come again")
    func refuses() {
        let forecast = learned()
        let room = forecast.room(for: 1000, deadline: .milliseconds(100), behind: 20, limits: Limits())
        // 5 ms + 1 ms each within 60 of the 100 ms.
        #expect((25...45).contains(room), "\(room)")
        let error = forecast.refusal(deadline: .milliseconds(100), behind: 20 + 500, limits: Limits())
        #expect(error == .overloaded)
        let retryAfter = error.retryAfter ?? .zero
        #expect(retryAfter > .milliseconds(400) && retryAfter < .milliseconds(550), "\(retryAfter)")
        #expect(forecast.refusal(deadline: .milliseconds(2), behind: 1, limits: Limits()) == .deadlineExceeded)
        #expect(forecast.refusal(deadline: .seconds(1), behind: 1, limits: Limits()).retryAfter == Limits().retryAfter)
    }

    @Test("follows a queue that becomes ten times slower, and faster again")
    func follows() {
        var forecast = learned()
        learn(&forecast, perItem: 10, from: 1000)
        #expect(forecast.room(for: 1000, deadline: .milliseconds(100), behind: 0, limits: Limits()) < 10)
        learn(&forecast, perItem: 1, from: 2000)
        #expect(forecast.room(for: 1000, deadline: .milliseconds(100), behind: 0, limits: Limits()) > 40)
    }

    @Test("learns from what was given up that it takes longer, and not that it is quick")
    func censored() {
        var forecast = learned()
        for number in UInt64(1000)..<1020 {
            let now = Tick(nanoseconds: number * 1_000_000_000)
            forecast.began(run(number, 1), open: 10, at: now)
            forecast.ended(run(number, 1), isDone: false, at: now + .milliseconds(1))
        }
        #expect(abs(forecast.cost.expected(10) / 15e6 - 1) < 0.1)
        for number in UInt64(2000)..<2020 {
            let now = Tick(nanoseconds: number * 1_000_000_000)
            forecast.began(run(number, 1), open: 10, at: now)
            forecast.ended(run(number, 1), isDone: false, at: now + .milliseconds(150))
        }
        #expect(forecast.cost.expected(10) > 100e6)
    }

    @Test("requests that nobody ever answers do not blind it")
    func stale() {
        var forecast = learned()
        for number in UInt64(5000)..<5100 {
            forecast.began(run(number, 1), open: 5, at: Tick(nanoseconds: number * 1_000_000_000))
        }
        learn(&forecast, perItem: 10, from: 6000)
        #expect(forecast.cost.expected(50) > 400e6)
    }
}
