// Flockwork · Apache-2.0 · see LICENSE

// Many requests under way at once, their results in the order of the lines.

internal import Flockwork

/// The results of lines, in order; at most `window` are asked for at a time.
struct Asked<Input: Sendable, Output: Sendable>: AsyncSequence {
    typealias Element = (number: Int, result: Result<Output, FlockError>)
    private let lines: [RequestLine<Input>]
    private let window: Int
    private let ask: @Sendable (Input) async throws -> Output

    init(_ lines: [RequestLine<Input>], window: Int, _ ask: @escaping @Sendable (Input) async throws -> Output) {
        self.lines = lines
        self.window = window
        self.ask = ask
    }

    func makeAsyncIterator() -> Iterator { Iterator(lines: lines, window: window, ask: ask) }

    struct Iterator: AsyncIteratorProtocol {
        let lines: [RequestLine<Input>]
        let window: Int
        let ask: @Sendable (Input) async throws -> Output
        private var tasks: [Task<Result<Output, FlockError>, Never>?] = []
        private var started = 0
        private var taken = 0

        init(lines: [RequestLine<Input>], window: Int, ask: @escaping @Sendable (Input) async throws -> Output) {
            self.lines = lines
            self.window = window
            self.ask = ask
            tasks = Array(repeating: nil, count: Swift.min(window, lines.count))
        }

        mutating func next() async -> Element? {
            while started < lines.count, started - taken < window {
                tasks[started % tasks.count] = start(lines[started])
                started += 1
            }
            guard taken < started, let task = tasks[taken % tasks.count] else { return nil }
            defer { taken += 1 }
            return (lines[taken].number, await task.value)
        }

        private func start(_ line: RequestLine<Input>) -> Task<Result<Output, FlockError>, Never> {
            Task { [ask] in
                switch line.item {
                case .failure(let error): return .failure(error)
                case .success(let item):
                    do {
                        return .success(try await ask(item))
                    } catch let error as FlockError {
                        return .failure(error)
                    } catch {
                        return .failure(FlockError(.cancelled, "\(error)"))
                    }
                }
            }
        }
    }
}
