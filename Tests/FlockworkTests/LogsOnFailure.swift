// Flockwork · Apache-2.0 · see LICENSE

import FlockTestKit
import Synchronization
import Testing

/// Gives each test a capture for the logs of its nodes, and prints them if the test has an issue.
struct LogsOnFailure: SuiteTrait, TestTrait, TestScoping {
    var isRecursive: Bool { true }

    func provideScope(
        for test: Test, testCase: Test.Case?, performing function: @concurrent @Sendable () async throws -> Void
    ) async throws {
        guard testCase != nil else { return try await function() }
        let logs = LogCapture()
        let hasIssue = Mutex(false)
        let watch = IssueHandlingTrait.compactMapIssues { issue in
            hasIssue.withLock { $0 = true }
            return issue
        }
        try await LogCapture.$current.withValue(logs) {
            try await watch.provideScope(for: test, testCase: testCase, performing: function)
        }
        if hasIssue.withLock({ $0 }) { logs.printAll(because: "an issue in: \(test.displayName ?? test.name)") }
    }
}

extension Trait where Self == LogsOnFailure {
    /// Prints what the test's nodes logged if it fails.
    static var logsOnFailure: Self { Self() }
}
