// Flockwork · Apache-2.0 · see LICENSE

// Bounds by name. An error says which one it met, and metrics count each: labels out of this list, whatever peers send.

/// A bound of `Limits`, by the name of its property: who reads it knows what to turn.
public enum Limit: String, CaseIterable, Sendable, Codable {
    case handshakeFrameBytes, frameBytes, payloadBytes, itemsPerRun, runsPerFrame
    case codingDepth, codingElements, errorTextBytes, nameBytes, tensorDimensions

    case connections, halfOpenConnections, handshakeTime, frameTime, connectTime, acknowledgeTime, recoveryTime
    case writeHighWaterBytes, writeMaximumBytes

    case pendingCalls, runningCalls, methods, methodNameBytes, callTime

    case sessionWindow, sessionsPerPartition, openBytes, sessionResultBytes, reservedResultBytes, unreadResultBytes
    case outcomeTimeToLive, sessionIdleTime, deadlineShare

    case uncommittedEntries

    case creditItems, creditBytes, batchItems, batchBytes, bisectionCalls, attemptTime, attempts, drainTime

    case bundleFiles, bundleBytes, bundlePathBytes

    /// Properties of `Limits` that nothing reaches: sizes and pauses that are what they are.
    public static let settings = [
        "readBufferBytes", "writeLowWaterBytes", "reconnectMinimum", "reconnectMaximum", "partitions", "retryAfter",
        "replicationWindowBytes", "replicationMessageBytes", "replicationLogBytes", "resendMinimum", "resendMaximum",
        "laggingTime", "commitNoticeTime", "bundleChunkBytes",
    ]

    /// The bound that made something fail, if it was one.
    public init?(of error: any Error) {
        switch error {
        case WireError.overLimit(let limit, _): self = limit
        case let error as FlockError:
            guard let limit = error.limit else { return nil }
            self = limit
        default: return nil
        }
    }

    // MARK: In an error's message

    // Errors cross the wire with this behind their message: processes that do not know the name, or this rule, show it
    // to a person, who can read it too.

    /// ` [limit openBytes]`
    var suffix: String { " [limit \(rawValue)]" }

    /// Takes a known suffix off a message.
    static func take(from message: inout String) -> Limit? {
        guard message.utf8.last == UInt8(ascii: "]"), let open = message.utf8.lastIndex(of: UInt8(ascii: "[")) else {
            return nil
        }
        let words = message[message.index(after: open)...].dropLast().split(separator: " ")
        guard words.count == 2, words[0] == "limit", let limit = Limit(rawValue: String(words[1])),
            message.hasSuffix(limit.suffix)
        else { return nil }
        message.removeLast(limit.suffix.count)
        return limit
    }
}
