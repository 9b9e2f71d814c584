// Flockwork · Apache-2.0 · see LICENSE

import FlockTestKit
import FlockWire
import Glibc
import Synchronization
import Testing

@testable import FlockCluster
@testable import FlockTransport
@testable import Flockwork

/// A data folder of a test, with its loop.
final class DurabilityFolder: Sendable {
    let path: String
    let loop: EventLoop
    private let opened = Mutex<DataFolder?>(nil)

    init() throws {
        // In memory where that is possible: what a sync costs is not what these tests are about.
        let base = access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp"
        var template = Array("\(base)/flockwork-durable-XXXXXX".utf8CString)
        path = try #require(mkdtemp(&template).map { String(cString: $0) })
        loop = try EventLoop(name: "disk")
    }

    var folder: DataFolder {
        get throws {
            if let folder = opened.withLock({ $0 }) { return folder }
            let folder = try DataFolder(path: path, on: loop)
            opened.withLock { $0 = folder }
            return folder
        }
    }

    func run<Value: Sendable>(_ body: @escaping @Sendable () -> Value) async -> Value {
        await withCheckedContinuation { continuation in loop.execute { continuation.resume(returning: body()) } }
    }

    func remove() async throws {
        await loop.stop()
        for name in try folder.names() + ["lock"] { unlink("\(path)/\(name)") }
        opened.withLock { $0 = nil }
        rmdir(path)
    }
}

/// What a disk told, in order, with an end to await.
final class Told<Value: Sendable>: Sendable {
    private let values = Mutex<[Value]>([])
    func add(_ value: Value) { values.withLock { $0.append(value) } }
    var all: [Value] { values.withLock { $0 } }

    func until(_ isEnough: @escaping @Sendable ([Value]) -> Bool) async throws {
        try await eventually { isEnough(self.all) }
    }
}

@Suite("A voter's record on its disk", .timeLimit(.minutes(1)))
struct VoterFileTests {
    private static func record(_ round: UInt64) -> VoterRecord {
        VoterRecord(promised: Ballot(round: round, proposer: 7), accepted: Ballot(round: 1, proposer: 2))
    }

    @Test("of records that come faster than the disk syncs the newest is kept, and said")
    func newest() async throws {
        let disk = try DurabilityFolder()
        let folder = try disk.folder
        #expect(try VoterFile.load(from: folder) == nil)
        let told = Told<Result<UInt64, FlockError>>()
        let file = VoterFile(in: folder, on: disk.loop) { told.add($0) }
        await disk.run { for token in 1...50 { file.persist(Self.record(UInt64(token)), token: UInt64(token)) } }
        try await told.until { $0.last == .success(50) }
        // The first was under way when the others came.
        #expect(told.all == [.success(1), .success(50)])
        #expect(try VoterFile.load(from: folder) == Self.record(50))
        try await disk.remove()
    }

    @Test("a record with one wrong bit is never voted with again")
    func damaged() async throws {
        let disk = try DurabilityFolder()
        let folder = try disk.folder
        var raw = Self.record(9).encoded().array
        for place in raw.indices {
            raw[place] ^= 4
            let damaged = Bytes(raw)
            raw[place] ^= 4
            await withCheckedContinuation { continuation in
                disk.loop.execute { folder.replace("voter", with: damaged) { _ in continuation.resume() } }
            }
            let error = #expect(throws: FlockError.self, "byte \(place)") { try VoterFile.load(from: folder) }
            #expect(error?.message.contains("must not vote") == true)
        }
        try await disk.remove()
    }

    @Test("a disk that refuses is told once, and nothing is written afterwards")
    func refused() async throws {
        let disk = try DurabilityFolder()
        let folder = try disk.folder
        let told = Told<Result<UInt64, FlockError>>()
        let file = VoterFile(in: folder, on: disk.loop) { told.add($0) }
        mkdir("\(disk.path)/voter.new", 0o700)
        await disk.run { for token in 1...3 { file.persist(Self.record(UInt64(token)), token: UInt64(token)) } }
        try await told.until { !$0.isEmpty }
        rmdir("\(disk.path)/voter.new")
        await disk.run { file.persist(Self.record(4), token: 4) }
        // Whatever it had begun would have been told by then.
        await withCheckedContinuation { continuation in
            disk.loop.execute { folder.replace("other", with: Bytes("x")) { _ in continuation.resume() } }
        }
        guard case .failure(let error)? = told.all.first else { throw FlockError(.system, "\(told.all)") }
        #expect(told.all.count == 1 && error.code == .system && error.message.contains("voter"))
        #expect(try VoterFile.load(from: folder) == nil)
        try await disk.remove()
    }
}

@Suite("The write-ahead log on its disk", .timeLimit(.minutes(1)))
struct DurableLogTests {
    enum Event: Sendable, Equatable {
        case persisted(PartitionID, UInt64, epoch: UInt64)
        case wantSnapshot(PartitionID)
        case failed(String)
    }

    private static let (one, two) = (PartitionID(1), PartitionID(2))

    private static func entries(_ indexes: ClosedRange<UInt64>, epoch: UInt64, bytes: Int = 8) -> [LogEntry] {
        indexes.map { index in
            let items = ItemBuffer(
                fixed: Bytes([UInt8](repeating: UInt8(index & 0xFF), count: bytes)), stride: bytes, count: 1)
            let run = AcceptRun(sequences: SequenceRun(first: index, count: 1), items: items)
            return LogEntry(
                epoch: epoch, index: index, time: Tick(nanoseconds: index),
                operation: .accept(SessionID(rawValue: 1), run, timeToLive: 1))
        }
    }

    private static func log(
        _ folder: DataFolder, on disk: DurabilityFolder, _ told: Told<Event>,
        configuration: WriteAheadLog.Configuration = .init()
    ) throws -> DurableLog {
        let found = try DurableLog.recover(from: folder, fresh: 99, limits: Limits())
        let listener = DurableLog.Listener(
            kept: { for one in $0 { told.add(.persisted(one.partition, one.through, epoch: one.epoch)) } },
            wantSnapshot: { told.add(.wantSnapshot($0)) },
            failed: { told.add(.failed($0.message)) })
        return DurableLog(
            in: folder, after: found.recovery, on: disk.loop, limits: Limits(), configuration: configuration,
            listener: listener)
    }

    private static func summary(_ recovery: WALRecovery) -> [String] {
        recovery.partitions.map { partition in
            let entries = partition.entries.map { "\($0.index)e\($0.epoch)" }.joined(separator: " ")
            return "\(partition.partition): \(partition.snapshot.map { "s\($0.through) " } ?? "")\(entries)"
        }
    }

    @Test("what was called persisted is there after each start, and the log goes on")
    func goesOn() async throws {
        let disk = try DurabilityFolder()
        let folder = try disk.folder
        for start in 0..<3 as Range<UInt64> {
            let told = Told<Event>()
            let log = try Self.log(folder, on: disk, told)
            let (first, last) = (start * 4 + 1, start * 4 + 4)
            await disk.run {
                log.persist(Self.one, first: first, Self.entries(first...first + 1, epoch: start + 1))
                log.persist(Self.two, first: start + 1, Self.entries(start + 1...start + 1, epoch: 7))
                log.persist(Self.one, first: first + 2, Self.entries(first + 2...last, epoch: start + 1))
            }
            try await told.until { $0.contains(.persisted(Self.one, last, epoch: start + 1)) }
            #expect(told.all.contains(.persisted(Self.two, start + 1, epoch: 7)))
            let recovery = try DurableLog.read(folder, fresh: 1, limits: Limits())
            #expect(recovery.log == 99 && !recovery.verdict.isDamaged)
            let expected = (1...last).map { "\($0)e\(($0 - 1) / 4 + 1)" }.joined(separator: " ")
            #expect(Self.summary(recovery).first == "p1: \(expected)")
        }
        try await disk.remove()
    }

    @Test("entries that are written over others take their place, and are called by their own epoch")
    func overwrites() async throws {
        let disk = try DurabilityFolder()
        let folder = try disk.folder
        let told = Told<Event>()
        let log = try Self.log(folder, on: disk, told)
        await disk.run { log.persist(Self.one, first: 1, Self.entries(1...5, epoch: 1)) }
        try await told.until { $0.contains(.persisted(Self.one, 5, epoch: 1)) }
        await disk.run { log.persist(Self.one, first: 3, Self.entries(3...4, epoch: 2)) }
        try await told.until { $0.contains(.persisted(Self.one, 4, epoch: 2)) }
        let recovery = try DurableLog.read(folder, fresh: 1, limits: Limits())
        #expect(Self.summary(recovery) == ["p1: 1e1 2e1 3e2 4e2"])
        try await disk.remove()
    }

    @Test("a snapshot takes the place of what was before it, and old segments go")
    func snapshots() async throws {
        let disk = try DurabilityFolder()
        let folder = try disk.folder
        let told = Told<Event>()
        var configuration = WriteAheadLog.Configuration()
        configuration.segmentBytes = 8 << 10
        configuration.segments = 2
        let log = try Self.log(folder, on: disk, told, configuration: configuration)
        for round in 0..<6 as Range<UInt64> {
            let (first, last) = (round * 4 + 1, round * 4 + 4)
            await disk.run { log.persist(Self.one, first: first, Self.entries(first...last, epoch: 1, bytes: 4000)) }
            try await told.until { $0.contains(.persisted(Self.one, last, epoch: 1)) }
        }
        #expect(told.all.contains(.wantSnapshot(Self.one)))
        let parts = (0..<2).map { number in
            SnapshotPart(
                epoch: 3, index: 24, entryEpoch: 1, time: Tick(nanoseconds: 5), hash: 6, nextSession: 7,
                number: number, count: 2, sessions: [])
        }
        await disk.run {
            let state = SnapshotPart.encoded(parts, limits: Limits())
            log.add(.snapshot(Self.one, WALSnapshot(through: 24, epoch: 1, generation: 0, state: state)))
            log.persist(Self.one, first: 25, Self.entries(25...25, epoch: 3))
        }
        try await told.until { $0.contains(.persisted(Self.one, 25, epoch: 3)) }
        let recovery = try DurableLog.read(folder, fresh: 1, limits: Limits())
        #expect(Self.summary(recovery) == ["p1: s24 25e3"])
        let bytes = try #require(recovery.partitions.first?.snapshot?.bytes)
        let read = try SnapshotPart.decoded(bytes, limits: Limits())
        #expect(read.map(\.number) == [0, 1] && read.allSatisfy { $0.index == 24 && $0.nextSession == 7 })
        // With further segments those before the snapshot are deleted.
        for index in 26...40 as ClosedRange<UInt64> {
            await disk.run { log.persist(Self.one, first: index, Self.entries(index...index, epoch: 3, bytes: 4000)) }
            try await told.until { $0.contains(.persisted(Self.one, index, epoch: 3)) }
        }
        try await eventually { try !folder.names().contains(DurableLog.name(of: 0)) }
        try await disk.remove()
    }

    @Test("a damaged log is deleted, and a new one of another number begins in its place")
    func damaged() async throws {
        let disk = try DurabilityFolder()
        let folder = try disk.folder
        let told = Told<Event>()
        let log = try Self.log(folder, on: disk, told)
        for index in 1...5 as ClosedRange<UInt64> {
            await disk.run { log.persist(Self.one, first: index, Self.entries(index...index, epoch: 1)) }
            try await told.until { $0.contains(.persisted(Self.one, index, epoch: 1)) }
        }
        let name = DurableLog.name(of: 0)
        var raw = try #require(try folder.read(name)).array
        raw[WALSegment.headerBytes + 60] ^= 1
        let bytes = Bytes(raw)
        await withCheckedContinuation { continuation in
            disk.loop.execute { folder.replace(name, with: bytes) { _ in continuation.resume() } }
        }
        let found = try DurableLog.recover(from: folder, fresh: 7, limits: Limits())
        #expect(found.verdict.isDamaged && found.recovery.verdict == .empty && found.recovery.log == 7)
        #expect(try folder.names().isEmpty)
        let next = Told<Event>()
        let second = try Self.log(folder, on: disk, next)
        await disk.run { second.persist(Self.one, first: 1, Self.entries(1...2, epoch: 4)) }
        try await next.until { $0.contains(.persisted(Self.one, 2, epoch: 4)) }
        #expect(try Self.summary(DurableLog.read(folder, fresh: 1, limits: Limits())) == ["p1: 1e4 2e4"])
        try await disk.remove()
    }

    @Test("a full disk is told once, and nothing is called persisted any more", .enabled(if: geteuid() == 0))
    func full() async throws {
        let disk = try DurabilityFolder()
        try #require(mount("tmpfs", disk.path, "tmpfs", 0, "size=64k,mode=700") == 0)
        let folder = try disk.folder
        let told = Told<Event>()
        let log = try Self.log(folder, on: disk, told)
        await disk.run { log.persist(Self.one, first: 1, Self.entries(1...1, epoch: 1)) }
        try await told.until { $0.contains(.persisted(Self.one, 1, epoch: 1)) }
        await disk.run { log.persist(Self.one, first: 2, Self.entries(2...2, epoch: 1, bytes: 256 << 10)) }
        try await told.until { $0.count == 2 }
        await disk.run { log.persist(Self.one, first: 3, Self.entries(3...3, epoch: 1)) }
        await withCheckedContinuation { continuation in
            disk.loop.execute { folder.replace("other", with: Bytes("x")) { _ in continuation.resume() } }
        }
        guard case .failed(let message) = told.all[1] else { throw FlockError(.system, "\(told.all)") }
        #expect(told.all.count == 2 && message.contains("No space left"))
        await disk.loop.stop()
        umount2(disk.path, Int32(MNT_DETACH))
        rmdir(disk.path)
    }
}
