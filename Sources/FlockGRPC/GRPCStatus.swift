// Flockwork · Apache-2.0 · see LICENSE

internal import CGRPC
public import FlockWire

/// How a call ended, by the codes of https://grpc.github.io/grpc/core/md_doc_statuscodes.html.
public struct GRPCStatus: Sendable, Equatable {
    /// 0 is success.
    public var code: Int
    /// For a person.
    public var message: String

    /// A status.
    public init(code: Int, message: String = "") {
        self.code = code
        self.message = message
    }

    /// The call did what it should.
    public static let ok = GRPCStatus(code: 0)
    /// The server has no such method.
    public static let unimplemented = GRPCStatus(code: 12, message: "no such method")

    /// Whether the call did what it should.
    public var isOK: Bool { code == 0 }

    /// The error that callers see.
    public var error: FlockError {
        let kind: FlockError.Code =
            switch code {
            case 1: .cancelled
            case 3, 9, 11: .invalidInput
            case 4: .deadlineExceeded
            case 5, 12: .notFound
            case 7, 16: .unauthenticated
            case 8: .overloaded
            case 14: .unavailable
            default: .callFailed
            }
        return FlockError(kind, "gRPC status \(code): \(message)")
    }

    /// What a failing handler answers.
    public init(_ error: any Error) {
        guard let error = error as? FlockError else {
            self.init(code: 2, message: "\(error)")
            return
        }
        let code =
            switch error.code {
            case .cancelled: 1
            case .invalidInput, .tooLarge: 3
            case .deadlineExceeded: 4
            case .notFound: 5
            case .unauthenticated: 16
            case .overloaded: 8
            case .unavailable, .shuttingDown: 14
            default: 2
            }
        self.init(code: code, message: error.description)
    }
}
