// Flockwork · Apache-2.0 · see LICENSE

// A TCP stream of frames, before and after authentication. Frames are read straight into the reader's storage and
// handed on as slices of it; frames to send are encoded into one buffer that is written once at the end of the turn.
// Errors and closing are settled at the end of the turn too, so that no handler is called from inside a send.

internal import CLibuv
internal import FlockWire
internal import Glibc

// Unchecked: of the loop's thread only (asserted where others could call).
final class FrameStream: LoopResident, @unchecked Sendable {
    let loop: EventLoop
    let limits: Limits
    let handle: UnsafeMutablePointer<uv_tcp_t>
    let writeRequest: UnsafeMutablePointer<uv_write_t>

    // By pointer: a class's properties cost a run-time check of exclusive access in every send and for every frame.
    let reader: UnsafeMutablePointer<FrameReader>
    let out: UnsafeMutablePointer<ByteWriter>

    /// What bounds the body of a frame now.
    var bodyLimitName = Limit.handshakeFrameBytes

    private var isReading = false
    private var isPaused = false
    private var wantsFrames = false
    private var isDelivering = false
    private var isCatchingUp = false
    private(set) var framesRead: UInt64 = 0
    private var frameWatch = FrameWatch()

    var chunks: [Bytes] = []
    var chunkBytes = 0
    var inFlight: [Bytes] = []
    var isWriting = false
    var isCongested = false
    private var isDirty = false

    private(set) var isOpen = true
    /// Why the stream is closed or about to be, and by whom.
    private(set) var reason: FlockError?
    private(set) var end: ConnectionEnd?
    /// What a test lets go wrong; nil in all other processes.
    var faults: StreamFaults?
    private var isToBeReset = false
    private var isClosed = false
    private var isCloseReported = false

    /// Reading starts when this is set, and stops when it is nil.
    var onFrame: ((Frame) -> Void)? {
        didSet { updateReading() }
    }
    /// Called once, at the end of a turn.
    var onClose: ((FlockError) -> Void)? {
        didSet { if isClosed && onClose != nil { markDirty() } }
    }
    var onWritable: (() -> Void)?
    /// For the stream's owner (listener, link): called once when the handle is closed, after `onClose` if that is set.
    var afterClose: (() -> Void)?

    static let outCapacity = 16 << 10

    /// Takes over an initialised handle.
    init(loop: EventLoop, limits: Limits, handle: UnsafeMutablePointer<uv_tcp_t>) {
        assert(loop.isCurrent, "stream made outside of event loop \(loop.name)")
        self.loop = loop
        self.limits = limits
        self.handle = handle
        writeRequest = .allocate(capacity: 1)
        reader = .allocate(capacity: 1)
        reader.initialize(
            to: FrameReader(bufferBytes: limits.readBufferBytes, bodyLimit: limits.handshakeFrameBytes))
        out = .allocate(capacity: 1)
        out.initialize(to: ByteWriter(capacity: FrameStream.outCapacity))
        uv_tcp_nodelay(handle, 1)
        // A peer that vanished without a word is found by the kernel after a while, also on an idle connection.
        uv_tcp_keepalive(handle, 1, 60)
        limitAcknowledgement()
        // The open handle owns its stream: it is let go in the close callback.
        let data = Unmanaged.passRetained(self).toOpaque()
        handle.pointee.data = data
        writeRequest.pointee.data = data
        loop.residents[ObjectIdentifier(self)] = self
    }

    deinit {
        reader.deinitialize(count: 1)
        reader.deallocate()
        out.deinitialize(count: 1)
        out.deallocate()
        handle.deallocate()
        writeRequest.deallocate()
    }

    /// The kernel ends the connection to a host that is cut off; else what was sent would come through up to a minute
    /// after the cut has healed, for that is how rarely it is sent again by then.
    private func limitAcknowledgement() {
        var descriptor: uv_os_fd_t = -1
        guard uv_fileno(uvHandle(handle), &descriptor) == 0 else { return }
        var milliseconds = UInt32(clamping: limits.acknowledgeTime.clampedNanoseconds / 1_000_000)
        setsockopt(
            descriptor, Int32(IPPROTO_TCP), TCP_USER_TIMEOUT, &milliseconds,
            socklen_t(MemoryLayout.size(ofValue: milliseconds)))
    }

    static func from(_ data: UnsafeMutableRawPointer?) -> FrameStream {
        Unmanaged<FrameStream>.fromOpaque(data!).takeUnretainedValue()
    }

    // MARK: Closing

    /// The stream is closed at the end of the turn, after one attempt to write what waits. The first reason counts.
    func close(_ reason: FlockError, _ end: ConnectionEnd = .closedHere) {
        assert(loop.isCurrent, "stream closed outside of event loop \(loop.name)")
        guard isOpen else { return }
        isOpen = false
        self.end = end
        self.reason = reason
        updateReading()
        markDirty()
    }

    /// Closes so that the peer is told of an error and not of an end.
    func reset() {
        guard isOpen else { return }
        isToBeReset = true
        close(FlockError(.unavailable, "the connection was reset by a test"))
    }

    func faultsChanged() {
        updateReading()
        markDirty()
    }

    func loopStops() {
        close(FlockError(.shuttingDown, "event loop \(loop.name) was stopped"))
    }

    func markDirty() {
        guard !isDirty else { return }
        isDirty = true
        loop.dirty.append(self)
    }

    /// The end of the turn.
    func settle() {
        isDirty = false
        if isOpen { flush() }
        if let reason {
            closeHandle()
            reportClose(reason)
        } else {
            reportWritable()
        }
    }

    private func closeHandle() {
        guard !isClosed else { return }
        isClosed = true
        frameWatch.timer?.cancel()
        frameWatch.timer = nil
        let closed: uv_close_cb = { handle in
            let stream = Unmanaged<FrameStream>.fromOpaque(handle!.pointee.data).takeRetainedValue()
            stream.loop.residents[ObjectIdentifier(stream)] = nil
            stream.dropOutput()
        }
        if isToBeReset && uv_tcp_close_reset(handle, closed) == 0 { return }
        if faults?.stopsWriting != true { lastWrite() }
        uv_close(uvHandle(handle), closed)
    }

    private func reportClose(_ reason: FlockError) {
        // Handlers hold the stream's users, which hold the stream.
        onFrame = nil
        onWritable = nil
        if !isCloseReported, let report = onClose {
            isCloseReported = true
            report(reason)
        }
        onClose = nil
        let after = afterClose
        afterClose = nil
        after?()
    }

    // MARK: Reading

    func pauseReading() {
        isPaused = true
        updateReading()
    }

    func resumeReading() {
        isPaused = false
        updateReading()
    }

    private func updateReading() {
        wantsFrames = !isPaused && isOpen && onFrame != nil && faults?.stopsReading != true
        guard !isClosed, wantsFrames != isReading else { return }
        if !wantsFrames {
            isReading = false
            uv_read_stop(uvStream(handle))
        } else if !reader.pointee.isMidFrame || isDelivering {
            startReading()
        } else if !isCatchingUp {
            // What was read before the pause comes first: not from inside the call that ends the pause, and before
            // the next read, for which the reader may have no room.
            isCatchingUp = true
            loop.ownWork.append(.call { [self] in catchUp() })
        }
    }

    private func catchUp() {
        isCatchingUp = false
        deliver()
        if wantsFrames && !isReading && !isClosed { startReading() }
    }

    private func startReading() {
        isReading = true
        let code = uv_read_start(
            uvStream(handle),
            { handle, _, buffer in FrameStream.from(handle!.pointee.data).allocate(buffer!) },
            { handle, count, _ in FrameStream.from(handle!.pointee.data).didRead(count) })
        if code != 0 { close(uvError(code, "reading"), .reset) }
    }

    private func allocate(_ buffer: UnsafeMutablePointer<uv_buf_t>) {
        let memory = reader.pointee.prepare()
        buffer.pointee.base = memory.baseAddress!.assumingMemoryBound(to: CChar.self)
        buffer.pointee.len = memory.count
    }

    private func didRead(_ count: Int) {
        if count > 0 {
            reader.pointee.commit(count)
            deliver()
        } else if count < 0 {
            let code = Int32(count)
            if code == UV_EOF.rawValue {
                close(FlockError(.unavailable, "the peer closed the connection"), .closedByPeer)
            } else {
                fail(code, "reading")
            }
        }
    }

    /// The network says that the connection is over.
    func fail(_ code: Int32, _ action: String) {
        let limit: Limit? = code == UV_ETIMEDOUT.rawValue ? .acknowledgeTime : nil
        loop.limitsReached.reached(limit)
        close(FlockError(.unavailable, "\(action) failed: \(uvText(code))", limit: limit), .reset)
    }

    private func deliver() {
        guard !isDelivering else { return }
        isDelivering = true
        defer { isDelivering = false }
        do {
            while wantsFrames, let frame = try reader.pointee.next() {
                framesRead &+= 1
                if let faults { faults.received(frame, on: self) } else { onFrame?(frame) }
            }
        } catch {
            var limit: Limit?
            if case .tooLong = error { limit = bodyLimitName }
            loop.limitsReached.reached(limit)
            close(FlockError(.protocolViolation, "not a frame that this node understands: \(error)", limit: limit))
        }
        if reader.pointee.isMidFrame { watchFrame() }
    }

    // MARK: Slow frames

    /// One lazy timer, however many frames straddle reads: when it fires it looks whether the frame it was set for
    /// still is not complete.
    private struct FrameWatch {
        var frame: UInt64 = .max
        var since = Tick.zero
        var timer: LoopTimer?
    }

    private func watchFrame() {
        guard wantsFrames, frameWatch.frame != framesRead else { return }
        frameWatch.frame = framesRead
        frameWatch.since = EventLoop.now
        if frameWatch.timer == nil { setFrameTimer(limits.frameTime) }
    }

    private func setFrameTimer(_ delay: Duration) {
        frameWatch.timer = loop.schedule(after: delay) { [weak self] in self?.frameTimerFired() }
    }

    private func frameTimerFired() {
        frameWatch.timer = nil
        guard isOpen, reader.pointee.isMidFrame, frameWatch.frame == framesRead else { return }
        guard wantsFrames else {
            // Paused: what waits may be a complete frame. The watch begins anew with the next read.
            frameWatch.frame = .max
            return
        }
        let age = EventLoop.now - frameWatch.since
        if age >= limits.frameTime {
            loop.limitsReached.reached(.frameTime)
            close(
                FlockError(.protocolViolation, "a frame was not complete after \(limits.frameTime)", limit: .frameTime))
        } else {
            setFrameTimer(limits.frameTime - age)
        }
    }
}

/// What uv reports about a connection: the peer or the network is gone.
func uvError(_ code: Int32, _ action: String) -> FlockError {
    FlockError(.unavailable, "\(action) failed: \(uvText(code))")
}
