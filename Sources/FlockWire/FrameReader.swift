// Flockwork · Apache-2.0 · see LICENSE

// Turns what the socket gives into frames. Bytes are read straight into a storage; a frame's body is a slice of it, so
// nothing is copied but the beginning of a frame that straddles two storages.

/// An incremental reader of frames.
public struct FrameReader {
    private let bufferBytes: Int
    /// The longest body that is accepted from now on.
    public var bodyLimit: Int
    private var storage: ByteStorage
    private var readEnd = 0
    private var parsed = 0
    private var header: FrameHeader?

    public init(bufferBytes: Int, bodyLimit: Int) {
        precondition(bufferBytes >= 4 * FrameHeader.size, "read buffer of \(bufferBytes) bytes")
        self.bufferBytes = bufferBytes
        self.bodyLimit = bodyLimit
        storage = ByteStorage(capacity: bufferBytes)
    }

    /// A frame has begun and is not complete.
    public var isMidFrame: Bool { readEnd > parsed }

    /// Memory for the next read; never empty. Call `commit` with what was read before anything else.
    ///
    /// The buffer is used again from its start when all of it was parsed and no frame of it is kept any more.
    public mutating func prepare() -> UnsafeMutableRawBufferPointer {
        if parsed > 0, parsed == readEnd, storage.capacity == bufferBytes, isKnownUniquelyReferenced(&storage) {
            parsed = 0
            readEnd = 0
        }
        let needed = (header?.frameSize ?? FrameHeader.size) - (readEnd - parsed)
        if storage.capacity - readEnd < max(needed, 1) || storage.capacity - readEnd < bufferBytes / 8 {
            replaceStorage(holding: header?.frameSize ?? FrameHeader.size)
        }
        return storage.withMutableBytes { UnsafeMutableRawBufferPointer(rebasing: $0[readEnd...]) }
    }

    private mutating func replaceStorage(holding frameSize: Int) {
        let pending = readEnd - parsed
        // A frame that needs more than the usual buffer gets one of its own size: no larger than announced and allowed.
        // Frames that the caller has not taken yet need room as well.
        let held = max(frameSize, pending)
        let wanted = held > bufferBytes / 2 ? held + bufferBytes / 2 : bufferBytes
        if parsed > 0, storage.capacity >= wanted, storage.capacity <= 2 * wanted,
            isKnownUniquelyReferenced(&storage)
        {
            // Only this reader sees the bytes: the frame that has begun moves to the front (`copyMemory` may overlap).
            storage.base.copyMemory(from: storage.base + parsed, byteCount: pending)
            parsed = 0
            readEnd = pending
            return
        }
        let fresh = ByteStorage(capacity: wanted)
        fresh.base.copyMemory(from: storage.base + parsed, byteCount: pending)
        storage = fresh
        parsed = 0
        readEnd = pending
    }

    /// `count` bytes were written at the start of what `prepare` returned.
    public mutating func commit(_ count: Int) {
        precondition(count >= 0 && readEnd + count <= storage.capacity, "read \(count) bytes past the buffer")
        readEnd += count
    }

    /// The next complete frame, or nil until more is read.
    public mutating func next() throws(FrameError) -> Frame? {
        if header == nil {
            guard readEnd - parsed >= FrameHeader.size else { return nil }
            header = try FrameHeader(
                from: UnsafeRawBufferPointer(start: storage.base + parsed, count: FrameHeader.size), limit: bodyLimit)
        }
        guard let header, readEnd - parsed >= header.frameSize else { return nil }
        let body = Bytes(storage: storage, start: parsed + FrameHeader.size, count: header.length)
        parsed += header.frameSize
        self.header = nil
        return Frame(type: header.type, flags: header.flags, body: body)
    }
}
