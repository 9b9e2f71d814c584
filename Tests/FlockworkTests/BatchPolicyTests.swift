// Flockwork · Apache-2.0 · see LICENSE

import FlockWire
import Testing

@testable import Flockwork

@Suite("A batch policy")
struct BatchPolicyTests {
    struct Case: Sendable, CustomTestStringConvertible {
        var name: String
        var policy: BatchPolicy
        var items: Int
        var bytes = 0
        var waited = Duration.zero
        var idle = 0
        var draining = false
        var expected: BatchPolicy.Decision
        var testDescription: String { name }
    }

    static let limits: Limits = {
        var limits = Limits()
        limits.batchItems = 1000
        limits.batchBytes = 10_000
        return limits
    }()

    static let lingering = BatchPolicy.lingering(.milliseconds(10), upTo: 64)

    static let cases = [
        Case(name: "one item is taken at once", policy: .drain, items: 1, expected: .take(items: 1, bytes: 10_000)),
        Case(name: "all that waits", policy: .drain, items: 300, expected: .take(items: 300, bytes: 10_000)),
        Case(
            name: "no more than the limits allow", policy: .drain, items: 5000,
            expected: .take(items: 1000, bytes: 10_000)),
        Case(
            name: "a limit of its own", policy: .upTo(64), items: 300, expected: .take(items: 64, bytes: 10_000)),
        Case(
            name: "a limit of its own is not above the process's", policy: .upTo(5000, bytes: 1 << 30), items: 5000,
            expected: .take(items: 1000, bytes: 10_000)),
        Case(
            name: "bytes of its own", policy: .upTo(64, bytes: 100), items: 10,
            expected: .take(items: 10, bytes: 100)),
        Case(
            name: "few items are not shared with an idle instance", policy: .drain, items: 256, idle: 3,
            expected: .take(items: 256, bytes: 10_000)),
        Case(
            name: "many are", policy: .drain, items: 900, idle: 2, expected: .take(items: 300, bytes: 10_000)),
        Case(
            name: "the share is rounded up", policy: .drain, items: 901, idle: 2,
            expected: .take(items: 301, bytes: 10_000)),
        Case(
            name: "the share is not below the grain", policy: .drain, items: 300, idle: 9,
            expected: .take(items: 256, bytes: 10_000)),
        Case(name: "lingers from the start", policy: lingering, items: 1, expected: .wait(.milliseconds(10))),
        Case(
            name: "lingers for the rest", policy: lingering, items: 63, waited: .milliseconds(4),
            expected: .wait(.milliseconds(6))),
        Case(
            name: "not past its time", policy: lingering, items: 1, waited: .milliseconds(10),
            expected: .take(items: 1, bytes: 10_000)),
        Case(
            name: "not past its count", policy: lingering, items: 64, expected: .take(items: 64, bytes: 10_000)),
        Case(
            name: "not past the bytes", policy: lingering, items: 2, bytes: 10_000,
            expected: .take(items: 2, bytes: 10_000)),
        Case(
            name: "not while draining", policy: lingering, items: 2, draining: true,
            expected: .take(items: 2, bytes: 10_000)),
        Case(
            name: "takes no more than its count", policy: lingering, items: 100, waited: .seconds(1),
            expected: .take(items: 64, bytes: 10_000)),
    ]

    @Test("decides by what waits, for how long, and who else is free", arguments: cases)
    func table(_ row: Case) {
        let decision = row.policy.decide(
            items: row.items, bytes: row.bytes, waited: row.waited, idle: row.idle, draining: row.draining,
            limits: Self.limits)
        #expect(decision == row.expected)
    }

    @Test("never takes nothing, and never more than waits or is allowed")
    func bounds() {
        for policy in [BatchPolicy.drain, .upTo(1), .upTo(7), Self.lingering] {
            for items in 1...1100 {
                for idle in [0, 1, 2, 15] {
                    let decision = policy.decide(
                        items: items, bytes: 0, waited: .seconds(1), idle: idle, draining: false, limits: Self.limits)
                    guard case .take(let count, _) = decision else {
                        Issue.record("\(policy) waits with \(items) items")
                        return
                    }
                    #expect(count > 0 && count <= items && count <= min(policy.limit ?? 1000, 1000))
                }
            }
        }
    }
}
