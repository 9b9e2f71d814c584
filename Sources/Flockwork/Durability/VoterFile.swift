// Flockwork · Apache-2.0 · see LICENSE

// A voter's record on its disk. Records come faster than a disk syncs; each replaces those before it, so that of those
// that wait only the newest is written.

internal import FlockCluster
internal import FlockTransport
internal import FlockWire

/// The file with a voter's record. Of one loop: nothing but `load` is called elsewhere.
final class VoterFile: Sendable {
    private static let name = "voter"

    private struct State {
        var waiting: (record: VoterRecord, token: UInt64)?
        var isWriting = false
        var hasFailed = false
    }

    private let folder: DataFolder
    private let state: LoopConfined<State>
    private let finished: @Sendable (Result<UInt64, FlockError>) -> Void

    /// `finished` is told on the loop: the record of that token is on the disk, and so are all before it; or, once,
    /// that the disk refuses. After that nothing is written any more, since what is on the disk is not known.
    init(
        in folder: DataFolder, on loop: EventLoop, finished: @escaping @Sendable (Result<UInt64, FlockError>) -> Void
    ) {
        self.folder = folder
        self.finished = finished
        state = LoopConfined(State(), on: loop)
    }

    /// What the disk has; nil if this node never voted. Blocks: for the start of a node.
    /// - Throws: `system` if the record cannot be read, or is damaged: then the node must not vote under its name.
    static func load(from folder: DataFolder) throws(FlockError) -> VoterRecord? {
        guard let bytes = try folder.read(name) else { return nil }
        do throws(WireError) { return try VoterRecord(decoding: bytes) } catch {
            throw FlockError(
                .system,
                "\(folder.path)/\(name), what this node promised as a voter, is damaged (\(error)). It must not vote "
                    + "again under its name: start a node of another name, and have that replace this voter.")
        }
    }

    /// Writes the record, then says its token; on the loop. Of records that wait for the disk the newest is written.
    func persist(_ record: VoterRecord, token: UInt64) {
        let starts = state.with { state in
            guard !state.hasFailed else { return false }
            state.waiting = (record, token)
            return !state.isWriting
        }
        if starts { writeNext() }
    }

    private func writeNext() {
        let next = state.with { state in
            state.isWriting = state.waiting != nil
            return state.waiting.take()
        }
        guard let (record, token) = next else { return }
        folder.replace(Self.name, with: record.encoded()) { [self] result in
            switch result {
            case .success:
                finished(.success(token))
                writeNext()
            case .failure(let error):
                state.with { state in
                    state.hasFailed = true
                    state.waiting = nil
                }
                finished(.failure(error))
            }
        }
    }
}
