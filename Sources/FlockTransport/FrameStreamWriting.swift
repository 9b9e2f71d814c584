// Flockwork · Apache-2.0 · see LICENSE

// Frames to send are encoded one behind the other into `out`. It is written at the end of the turn with one system
// call; only what the socket does not take at once becomes a uv request. Large payloads are written from where they
// lie, between the sealed pieces of `out`.

internal import CLibuv
internal import FlockWire

extension FrameStream {
    /// Payloads from this size on are not copied.
    static let referenceBytes = 16 << 10
    /// `out` is sealed at this size, so that it neither grows by copying nor keeps much memory.
    private static let sealBytes = 256 << 10
    /// Bytes given to one uv request: its end is when producers may go on.
    private static let requestBytes = 1 << 20
    private static let buffersPerWrite = 64
    private static let padding = Bytes([UInt8](repeating: 0, count: 8))

    /// Bytes that the kernel has not taken yet.
    var pendingBytes: Int {
        out.pointee.count + chunkBytes + (isWriting ? Int(uv_stream_get_write_queue_size(uvStream(handle))) : 0)
    }

    /// False if the stream is closed or the frame too large; then nothing is sent of it.
    func send(
        _ type: FrameType, flags: UInt16, payload: Bytes, _ build: (inout ByteWriter) -> Void
    ) -> Bool {
        assert(loop.isCurrent, "frame sent outside of event loop \(loop.name)")
        guard isOpen else { return false }
        let start = out.pointee.count
        out.pointee.reserve(FrameHeader.size) { _ in FrameHeader.size }
        build(&out.pointee)
        let built = out.pointee.count - start - FrameHeader.size
        assert(built >= 0, "a frame's builder took away what was there before")
        let length = built + payload.count
        guard length <= limits.frameBytes else {
            out.pointee.truncate(to: start)
            loop.limitsReached.reached(.frameBytes)
            return false
        }
        withOut { written in
            FrameHeader(type: type, flags: flags, length: length).write(
                to: UnsafeMutableRawBufferPointer(rebasing: written[start..<start + FrameHeader.size]))
        }
        if let faults, faults.losesOutgoing() {
            out.pointee.truncate(to: start)
            return true
        }
        if payload.isEmpty {
            if built % 8 != 0 { out.pointee.align(to: 8) }
        } else {
            precondition(built % 8 == 0, "a payload after \(built) bytes would not be aligned")
            append(payload)
        }
        if out.pointee.count >= Self.sealBytes { seal() }
        if pendingBytes >= limits.writeHighWaterBytes { checkPending() }
        markDirty()
        return true
    }

    private func append(_ payload: Bytes) {
        guard payload.count >= Self.referenceBytes else {
            out.pointee.write(payload)
            out.pointee.align(to: 8)
            return
        }
        seal()
        chunks.append(payload)
        chunkBytes += payload.count
        let missing = FrameHeader.padding(after: payload.count)
        if missing > 0 {
            // In a piece of its own: frames in `out` start at multiples of 8.
            chunks.append(Self.padding.slice(from: 0, count: missing))
            chunkBytes += missing
        }
    }

    private func seal() {
        guard out.pointee.count > 0 else { return }
        chunkBytes += out.pointee.count
        chunks.append(out.pointee.take(next: Self.outCapacity))
    }

    private func checkPending() {
        if !isCongested { loop.limitsReached.reached(.writeHighWaterBytes) }
        isCongested = true
        let pending = pendingBytes
        guard pending > limits.writeMaximumBytes else { return }
        loop.limitsReached.reached(.writeMaximumBytes)
        close(
            FlockError(
                .overloaded, "the peer does not read: \(pending) bytes wait to be written", limit: .writeMaximumBytes))
    }

    func reportWritable() {
        guard isCongested, pendingBytes <= limits.writeLowWaterBytes else { return }
        isCongested = false
        onWritable?()
    }

    // MARK: Flushing

    func flush() {
        guard !isWriting, faults?.stopsWriting != true else { return }
        if chunks.isEmpty {
            guard out.pointee.count > 0 else { return }
            let written = writeOut()
            if written < 0 { return }
            if written == out.pointee.count {
                // An unusually large buffer is not kept.
                if written > 2 * Self.sealBytes {
                    _ = out.pointee.take(next: Self.outCapacity)
                } else {
                    out.pointee.truncate(to: 0)
                }
                return
            }
            let rest = out.pointee.take(next: Self.outCapacity)
            chunks.append(rest.slice(from: written, count: rest.count - written))
            chunkBytes += rest.count - written
        } else {
            seal()
            if !writeChunks() { return }
        }
        if !chunks.isEmpty { startWrite() }
    }

    /// What was written to `out`. The writer gives its memory only as room for more: what was written lies before it.
    @inline(__always)
    private func withOut(_ body: (UnsafeMutableRawBufferPointer) -> Void) {
        let count = out.pointee.count
        out.pointee.reserve(0) { room in
            body(UnsafeMutableRawBufferPointer(start: room.baseAddress! - count, count: count))
            return 0
        }
    }

    /// What the socket takes of `out` at once; negative if the stream failed.
    private func writeOut() -> Int {
        var taken: Int32 = 0
        withOut { written in
            let start = written.baseAddress!.assumingMemoryBound(to: CChar.self)
            var buffer = uv_buf_t(base: start, len: written.count)
            taken = uv_try_write(uvStream(handle), &buffer, 1)
        }
        return accepted(taken)
    }

    private func accepted(_ code: Int32) -> Int {
        if code >= 0 { return Int(code) }
        if code == UV_EAGAIN.rawValue { return 0 }
        fail(code, "writing")
        return -1
    }

    /// Writes chunks until the socket takes no more; false if the stream failed.
    private func writeChunks() -> Bool {
        var first = 0
        defer { chunks.removeFirst(first) }
        while first < chunks.count {
            let end = min(first + Self.buffersPerWrite, chunks.count)
            let offered = chunks[first..<end].reduce(0) { $0 + $1.count }
            let stream = uvStream(handle)
            let taken = Self.withBuffers(chunks[first..<end]) { accepted(uv_try_write(stream, $0, UInt32($1))) }
            if taken < 0 { return false }
            chunkBytes -= taken
            var rest = taken
            while first < end, rest >= chunks[first].count {
                rest -= chunks[first].count
                first += 1
            }
            if rest > 0 { chunks[first] = chunks[first].slice(from: rest, count: chunks[first].count - rest) }
            if taken < offered { return true }
        }
        return true
    }

    private func startWrite() {
        var bytes = 0
        var count = 0
        while count < chunks.count, count < Self.buffersPerWrite, bytes < Self.requestBytes {
            bytes += chunks[count].count
            count += 1
        }
        inFlight.append(contentsOf: chunks[..<count])
        chunks.removeFirst(count)
        chunkBytes -= bytes
        isWriting = true
        let code = Self.withBuffers(inFlight[...]) { buffers, count in
            uv_write(writeRequest, uvStream(handle), buffers, UInt32(count)) { request, status in
                FrameStream.from(request!.pointee.data).didWrite(status)
            }
        }
        if code != 0 {
            isWriting = false
            fail(code, "writing")
        }
    }

    private func didWrite(_ status: Int32) {
        isWriting = false
        inFlight.removeAll(keepingCapacity: true)
        if status < 0 && isOpen { fail(status, "writing") }
        markDirty()
    }

    /// One attempt before the handle is closed: a refusal or a goodbye mostly fits.
    func lastWrite() {
        guard !isWriting else { return }
        if chunks.isEmpty {
            if out.pointee.count > 0 { _ = writeOut() }
        } else {
            seal()
            _ = writeChunks()
        }
    }

    func dropOutput() {
        chunks = []
        inFlight = []
        chunkBytes = 0
        _ = out.pointee.take(next: 16)
    }

    /// The memory of chunks as uv buffers; the chunks stay alive as long as the caller holds them.
    private static func withBuffers<Result>(
        _ chunks: ArraySlice<Bytes>, _ body: (UnsafeMutablePointer<uv_buf_t>, Int) -> Result
    ) -> Result {
        withUnsafeTemporaryAllocation(of: uv_buf_t.self, capacity: chunks.count) { buffers in
            for (index, chunk) in chunks.enumerated() {
                let memory = chunk.withUnsafeBytes { $0 }
                let base = UnsafeMutableRawPointer(mutating: memory.baseAddress!).assumingMemoryBound(to: CChar.self)
                buffers.initializeElement(at: index, to: uv_buf_t(base: base, len: memory.count))
            }
            return body(buffers.baseAddress!, chunks.count)
        }
    }
}
