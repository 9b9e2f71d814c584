// Flockwork · Apache-2.0 · see LICENSE

// What the layers above see of a TCP connection: a peer that proved who it is, frames in, frames out.

public import FlockWire

/// How a connection ended.
public enum ConnectionEnd: Sendable {
    /// On this side: by `close`, a limit, or a peer that broke the protocol.
    case closedHere
    /// The peer closed it, or its process ended.
    case closedByPeer
    /// With an error of the network: its host knows nothing of it any more, or cannot be reached.
    case reset
}

/// An authenticated connection. Everything but `peer` and `loop` is for code on `loop` only.
///
/// Frames are delivered from when `onFrame` is set, none is lost before. Handlers are called on the loop, `onClose`
/// and `onWritable` at the end of a turn, never from inside another call. They are dropped after `onClose`.
// Unchecked: the stream is touched by the loop's thread only (asserted).
public final class Connection: @unchecked Sendable {
    public let loop: EventLoop
    /// Who is at the other end.
    public let peer: PeerIdentity
    let stream: FrameStream

    init(stream: FrameStream, peer: PeerIdentity) {
        self.stream = stream
        self.peer = peer
        loop = stream.loop
        loop.faults?.add(stream, to: peer.node)
    }

    /// Gets each frame; its body is a slice of the read buffer (`Bytes.unpinned` for what is kept for long).
    public var onFrame: ((Frame) -> Void)? {
        get { stream.onFrame }
        set { stream.onFrame = newValue }
    }

    /// Told once why the connection ended, also if it ended before this was set.
    public var onClose: ((FlockError) -> Void)? {
        get { stream.onClose }
        set { stream.onClose = newValue }
    }

    /// Called when `isWritable` becomes true again.
    public var onWritable: (() -> Void)? {
        get { stream.onWritable }
        set { stream.onWritable = newValue }
    }

    /// False from the first `close` or error on, before `onClose` is called.
    public var isOpen: Bool { stream.isOpen }

    /// How it ended; nil while it is open.
    public var end: ConnectionEnd? { stream.end }

    /// Producers may go on: fewer bytes wait than `Limits.writeHighWaterBytes` (after that: `writeLowWaterBytes`).
    public var isWritable: Bool { stream.isOpen && !stream.isCongested }

    /// Frames that came, delivered or not.
    public var receivedFrames: UInt64 { stream.framesRead }

    /// Bytes that the kernel has not taken yet.
    public var pendingWriteBytes: Int { stream.pendingBytes }

    /// Appends a frame whose body `build` writes; it leaves at the end of the turn.
    ///
    /// `build` must not use this connection. A frame over `Limits.frameBytes`, or to a closed connection, is not sent.
    /// - Returns: whether the frame will be sent, if the connection lives.
    @discardableResult
    public func send(_ type: FrameType, flags: UInt16 = 0, _ build: (inout ByteWriter) -> Void) -> Bool {
        stream.send(type, flags: flags, payload: .empty, build)
    }

    /// Appends a frame whose body is what `build` writes (a multiple of 8 bytes), then `payload`.
    ///
    /// A payload of at least 16 KiB is written from its own storage, which stays alive until then.
    @discardableResult
    public func send(
        _ type: FrameType, flags: UInt16 = 0, _ build: (inout ByteWriter) -> Void, payload: Bytes
    ) -> Bool {
        stream.send(type, flags: flags, payload: payload, build)
    }

    /// Writes what waits now and not at the end of the turn, as far as the kernel takes it.
    public func flush() { stream.flush() }

    /// Closes at the end of the turn, after one attempt to write what waits; `onClose` gets `reason`.
    public func close(_ reason: FlockError) { stream.close(reason) }

    /// No frame is delivered until `resumeReading`; the peer is held up by TCP.
    public func pauseReading() { stream.pauseReading() }

    /// Reads on after `pauseReading`.
    public func resumeReading() { stream.resumeReading() }
}
