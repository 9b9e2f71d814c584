// Flockwork · Apache-2.0 · see LICENSE

// A disk as the simulator needs it: what was synced stays, what was not is a matter of luck after a crash, sector by
// sector. It can fill up, flip bits, and (only where a test of that very rule asks for it) lie about syncing.

public import FlockWire

/// Files by name, in memory.
public struct SimulatedDisk: Sendable {
    /// The disk has no room, or was told to fail.
    public struct Failure: Error, Equatable {}

    private struct File: Sendable {
        var synced: [UInt8] = []
        var unsynced: [(offset: Int, bytes: [UInt8])] = []
        var isNameSynced = false

        var content: [UInt8] {
            var content = synced
            for write in unsynced { content.write(write.bytes, at: write.offset) }
            return content
        }
    }

    // By name, ascending: a run is repeatable.
    private var files: [(name: UInt64, file: File)] = []
    /// Bytes that fit; writes beyond fail and write nothing.
    public var capacity = Int.max
    /// Writes and syncs fail.
    public var isFailing = false
    /// Says that it synced and did not.
    public var liesAboutSync = false
    /// Bytes that a power loss leaves or takes as a whole.
    public let sectorBytes: Int

    /// An empty disk.
    public init(sectorBytes: Int = 512) { self.sectorBytes = sectorBytes }

    /// Names, ascending.
    public var names: [UInt64] { files.map(\.name) }
    /// Bytes of all files.
    public var byteCount: Int { files.reduce(0) { $0 + $1.file.content.count } }

    /// The file as a running process reads it; nil if there is none.
    public func read(_ name: UInt64) -> Bytes? {
        files.first { $0.name == name }.map { Bytes($0.file.content) }
    }

    /// Writes at an offset; makes the file if it is not there.
    public mutating func write(_ name: UInt64, at offset: Int, _ bytes: Bytes) throws(Failure) {
        guard !isFailing, byteCount + bytes.count <= capacity else { throw Failure() }
        let place = files.firstIndex { $0.name >= name } ?? files.count
        if place == files.count || files[place].name != name { files.insert((name, File()), at: place) }
        files[place].file.unsynced.append((offset, bytes.array))
    }

    /// What was written to the file is on the disk, and so is its name.
    public mutating func sync(_ name: UInt64) throws(Failure) {
        guard !isFailing, let place = files.firstIndex(where: { $0.name == name }) else { throw Failure() }
        guard !liesAboutSync else { return }
        files[place].file.synced = files[place].file.content
        files[place].file.unsynced = []
        files[place].file.isNameSynced = true
    }

    /// Deletes the file.
    public mutating func remove(_ name: UInt64) { files.removeAll { $0.name == name } }

    /// The power goes: of each write that was not synced any set of sectors stays.
    public mutating func losePower(_ random: inout SeededRandom) {
        for place in files.indices {
            let unsynced = files[place].file.unsynced
            files[place].file.unsynced = []
            for write in unsynced {
                var at = 0
                while at < write.bytes.count {
                    let end = min(
                        write.bytes.count, (write.offset + at) / sectorBytes * sectorBytes + sectorBytes - write.offset)
                    if Bool.random(using: &random) {
                        files[place].file.synced.write(Array(write.bytes[at..<end]), at: write.offset + at)
                    }
                    at = end
                }
            }
        }
        files.removeAll { !$0.file.isNameSynced && Bool.random(using: &random) }
        for place in files.indices { files[place].file.isNameSynced = true }
    }

    /// One bit of the file, at a random place of `range`, turns over.
    public mutating func flipBit(_ name: UInt64, in range: Range<Int>, _ random: inout SeededRandom) {
        guard let place = files.firstIndex(where: { $0.name == name }) else { return }
        let inside = range.clamped(to: 0..<files[place].file.synced.count)
        guard !inside.isEmpty else { return }
        files[place].file.synced[Int.random(in: inside, using: &random)] ^= 1 << UInt8.random(in: 0..<8, using: &random)
    }
}

extension [UInt8] {
    /// Overwrites from `offset` on and grows, with zeros before, where needed.
    fileprivate mutating func write(_ bytes: [UInt8], at offset: Int) {
        if count < offset + bytes.count { append(contentsOf: repeatElement(0, count: offset + bytes.count - count)) }
        replaceSubrange(offset..<offset + bytes.count, with: bytes)
    }
}
