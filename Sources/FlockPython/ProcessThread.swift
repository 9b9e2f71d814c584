// Flockwork · Apache-2.0 · see LICENSE

// One thread for the life of the process that starts children, reads what they print and waits for their end. It
// must never end: the kernel kills a child (PR_SET_PDEATHSIG) when the thread ends that started it, though the process
// lives.

internal import CFlockProcess
internal import CFlockRuntime
internal import FlockWire
internal import Glibc
internal import Synchronization

/// Starts and watches child processes.
final class ProcessThread: Sendable {
    /// The one of this process.
    static let shared = ProcessThread()

    private let work = Mutex<[@Sendable (inout ChildTable) -> Void]>([])
    /// A byte written here wakes the thread.
    private let waker: Int32
    private let woken: Int32

    private init() {
        var ends: [Int32] = [-1, -1]
        precondition(pipe(&ends) == 0, "no descriptors for the process thread")
        for end in ends {
            _ = fcntl(end, F_SETFD, FD_CLOEXEC)
            _ = fcntl(end, F_SETFL, O_NONBLOCK)
        }
        (woken, waker) = (ends[0], ends[1])
        var thread = pthread_t()
        let code = pthread_create(
            &thread, nil,
            { _ in
                ProcessThread.shared.run()
                return nil
            }, nil)
        precondition(code == 0, "no thread for child processes: \(String(cString: strerror(code)))")
        pthread_detach(thread)
    }

    /// Starts a child.
    /// - Throws: `system`, with what the operating system said.
    func launch(
        _ launch: Launch, onEvent: @escaping @Sendable (ProcessEvent) -> Void
    ) async throws(FlockError) -> ChildProcess {
        let made: Result<ChildProcess, FlockError> = await withCheckedContinuation { continuation in
            work.withLock {
                $0.append { table in
                    let made = Result { () throws(FlockError) in try launch.start(onEvent: onEvent) }
                    if case .success(let child) = made { table.add(child) }
                    continuation.resume(returning: made)
                }
            }
            var byte: UInt8 = 0
            // A full pipe will wake it as well.
            _ = write(waker, &byte, 1)
        }
        return try made.get()
    }

    private func run() {
        flock_name_thread("children")
        var table = ChildTable(wakeUp: woken)
        while true {
            table.wait()
            var bytes = [UInt8](repeating: 0, count: 64)
            while read(woken, &bytes, bytes.count) > 0 {}
            let begun = work.withLock { work in
                defer { work = [] }
                return work
            }
            for body in begun { body(&table) }
        }
    }
}

extension Launch {
    /// Makes the sockets and pipes and starts the program. On the process thread only.
    fileprivate func start(onEvent: @escaping @Sendable (ProcessEvent) -> Void) throws(FlockError) -> ChildProcess {
        var opened: [Int32] = []
        func close() { for descriptor in opened { Glibc.close(descriptor) } }
        func pair(_ make: (UnsafeMutablePointer<Int32>) -> Int32) -> (ours: Int32, theirs: Int32)? {
            var both: [Int32] = [-1, -1]
            guard make(&both) == 0 else { return nil }
            // Out of the way of 0 to 4, which the child's own become.
            let high = both.map { fcntl($0, F_DUPFD_CLOEXEC, 10) }
            for descriptor in both { Glibc.close(descriptor) }
            opened += high.filter { $0 >= 0 }
            return high.contains { $0 < 0 } ? nil : (high[0], high[1])
        }
        func sockets() -> (ours: Int32, theirs: Int32)? {
            pair { socketpair(AF_UNIX, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0, $0) }
        }
        let low = open("/dev/null", O_RDONLY | O_CLOEXEC)
        let null = fcntl(low, F_DUPFD_CLOEXEC, 10)
        if low >= 0 { Glibc.close(low) }
        if null >= 0 { opened.append(null) }
        guard null >= 0, let output = pair({ pipe($0) }), let errors = pair({ pipe($0) }),
            let link = sockets(), let control = sockets()
        else {
            let text = String(cString: strerror(errno))
            close()
            throw FlockError(.system, "no descriptors for a child process: \(text)")
        }
        for descriptor in [output.ours, errors.ours, link.ours, link.theirs] {
            _ = fcntl(descriptor, F_SETFL, fcntl(descriptor, F_GETFL) | O_NONBLOCK)
        }
        var id: pid_t = 0
        var descriptor: Int32 = -1
        let code = spawn(
            [null, output.theirs, errors.theirs, link.theirs, control.theirs], id: &id, descriptor: &descriptor)
        guard code == 0 else {
            close()
            throw FlockError(.system, "\(executable) cannot be started: \(String(cString: strerror(-code)))")
        }
        for theirs in [null, output.theirs, errors.theirs, link.theirs, control.theirs] { Glibc.close(theirs) }
        return ChildProcess(
            id: id, descriptor: descriptor, output: output.ours, errors: errors.ours, link: link.ours,
            control: control.ours, onEvent: onEvent)
    }

    private func spawn(_ descriptors: [Int32], id: inout pid_t, descriptor: inout Int32) -> Int32 {
        let arguments = ([executable] + arguments).map { strdup($0) }
        let environment = environment.map { strdup("\($0.name)=\($0.value)") }
        defer { for text in arguments + environment { free(text) } }
        return executable.withCString { path in
            folder.withCString { folder in
                (arguments + [nil]).withUnsafeBufferPointer { arguments in
                    (environment + [nil]).withUnsafeBufferPointer { environment in
                        var request = flock_spawn()
                        request.path = path
                        request.arguments = UnsafePointer(arguments.baseAddress)
                        request.environment = UnsafePointer(environment.baseAddress)
                        request.folder = folder
                        request.descriptors = (
                            descriptors[0], descriptors[1], descriptors[2], descriptors[3], descriptors[4]
                        )
                        request.address_space = UInt64(limits.addressSpaceBytes ?? 0)
                        request.file_bytes = UInt64(limits.fileBytes)
                        request.files = UInt64(limits.descriptors)
                        request.processes = UInt64(limits.processes)
                        request.out_of_memory_score = 500
                        return flock_process_spawn(&request, &id, &descriptor)
                    }
                }
            }
        }
    }
}
