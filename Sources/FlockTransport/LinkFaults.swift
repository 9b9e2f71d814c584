// Flockwork · Apache-2.0 · see LICENSE

// Faults of the network, for tests only: `package`, so that no user of the library can turn them on, and nothing at all
// in a process that does not. They work on whole frames of authenticated connections, by the peer's node, at one end;
// a fault in both directions of a connection is set at both ends, or as two directions at one.

package import FlockWire
internal import Synchronization

/// What goes wrong with one peer.
package struct LinkFault: Sendable, Equatable {
    /// What comes from it waits in the kernel until this ends: nothing is read, not even the end of a connection.
    package var stopsReading = false
    /// What goes to it waits here until this ends.
    package var stopsWriting = false
    /// The share of frames from it, and to it, that are lost: 0...1.
    package var dropsIncoming = 0.0
    package var dropsOutgoing = 0.0
    /// The share of frames from it that are handed on twice.
    package var duplicates = 0.0
    /// Frames from it are handed on so much later, in order.
    package var delay = Duration.zero

    var isHalfOpen: Bool { stopsReading || stopsWriting }

    /// None, to be changed.
    package init() {}

    /// Both directions stand still: a pulled cable, which no reset tells of.
    package static var halfOpen: LinkFault {
        var fault = LinkFault()
        fault.stopsReading = true
        fault.stopsWriting = true
        return fault
    }

    /// All frames from it are lost, and what goes to it arrives.
    package static var deaf: LinkFault {
        var fault = LinkFault()
        fault.dropsIncoming = 1
        return fault
    }
}

/// The faults of an event loop's connections, by peer. Set it as `EventLoop.faults` before there are connections.
// Unchecked: `streams` is of the loop's thread only; the rest is under the lock.
package final class LinkFaults: @unchecked Sendable {
    private struct State {
        var faults: [NodeID: LinkFault] = [:]
        var ofOthers: LinkFault?
        var random: UInt64
    }

    private let loop: EventLoop
    private let state: Mutex<State>
    private var streams: [(node: NodeID, stream: () -> FrameStream?)] = []

    /// None yet. `seed` decides which frames are lost and doubled.
    package init(on loop: EventLoop, seed: UInt64) {
        self.loop = loop
        state = Mutex(State(random: seed))
    }

    /// What goes wrong with a peer from now on, also with connections that are made later; nil for nothing. From any
    /// thread; what waits for the loop then comes after it.
    package func set(_ fault: LinkFault?, for node: NodeID) {
        state.withLock { $0.faults[node] = fault }
        loop.execute { [self] in
            for stream in streams(to: node) { stream.faultsChanged() }
        }
    }

    /// What goes wrong with all peers that have no fault of their own, clients among them; nil for nothing.
    package func setForOthers(_ fault: LinkFault?) {
        state.withLock { $0.ofOthers = fault }
        loop.execute { [self] in
            streams.removeAll { $0.stream() == nil }
            for stream in streams { stream.stream()?.faultsChanged() }
        }
    }

    /// Resets the connections to a peer, as a host does that knows nothing of them: the peer sees no end but an error.
    package func reset(_ node: NodeID) {
        loop.execute { [self] in
            for stream in streams(to: node) { stream.reset() }
        }
    }

    /// The fault of a peer now.
    package subscript(node: NodeID) -> LinkFault? { state.withLock { $0.faults[node] ?? $0.ofOthers } }

    private func streams(to node: NodeID) -> [FrameStream] {
        streams.removeAll { $0.stream().map { !$0.isOpen } ?? true }
        return streams.filter { $0.node == node }.compactMap { $0.stream() }
    }

    func add(_ stream: FrameStream, to node: NodeID) {
        streams.append((node, { [weak stream] in stream }))
        stream.faults = StreamFaults(self, node)
        stream.faultsChanged()
    }

    /// True with the given chance.
    func happens(_ share: Double) -> Bool {
        guard share > 0 else { return false }
        let number = state.withLock { state in
            // SplitMix64.
            state.random &+= 0x9E37_79B9_7F4A_7C15
            var mixed = (state.random ^ (state.random >> 30)) &* 0xBF58_476D_1CE4_E5B9
            mixed = (mixed ^ (mixed >> 27)) &* 0x94D0_49BB_1331_11EB
            return mixed ^ (mixed >> 31)
        }
        return Double(number >> 11) / Double(UInt64(1) << 53) < share
    }
}

/// The faults of one connection. Of the loop's thread.
final class StreamFaults {
    private let all: LinkFaults
    private let node: NodeID
    private var delayed: [(due: Tick, frame: Frame)] = []
    private var timer: LoopTimer?

    init(_ all: LinkFaults, _ node: NodeID) {
        self.all = all
        self.node = node
    }

    private var fault: LinkFault { all[node] ?? LinkFault() }
    var stopsReading: Bool { fault.stopsReading }
    var stopsWriting: Bool { fault.stopsWriting }
    func losesOutgoing() -> Bool { all.happens(fault.dropsOutgoing) }

    /// Hands a frame on, as often and as late as the faults say.
    func received(_ frame: Frame, on stream: FrameStream) {
        let fault = fault
        guard !all.happens(fault.dropsIncoming) else { return }
        let copies = all.happens(fault.duplicates) ? 2 : 1
        for _ in 0..<copies {
            guard fault.delay > .zero || !delayed.isEmpty else {
                stream.onFrame?(frame)
                continue
            }
            // Not before those that came before it.
            let due = max(EventLoop.now + fault.delay, delayed.last?.due ?? .zero)
            delayed.append((due, frame))
        }
        arm(stream)
    }

    private func arm(_ stream: FrameStream) {
        guard timer == nil, let first = delayed.first else { return }
        // The timer's work runs on the same loop.
        nonisolated(unsafe) let faults = self
        timer = stream.loop.schedule(after: first.due - EventLoop.now) { [weak stream] in
            guard let stream else { return }
            faults.timer = nil
            faults.deliver(to: stream)
        }
    }

    private func deliver(to stream: FrameStream) {
        while let first = delayed.first, first.due <= EventLoop.now, stream.isOpen {
            delayed.removeFirst()
            stream.onFrame?(first.frame)
        }
        if stream.isOpen { arm(stream) } else { delayed = [] }
    }
}
