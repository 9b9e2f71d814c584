// Flockwork · Apache-2.0 · see LICENSE

// Blocking work off the loop's thread, on libuv's own small pool: file operations and nothing else, since all loops of
// the process share its few threads (the look-ups of host names among them).

internal import CLibuv
internal import FlockWire

/// A request of `uv_queue_work`; it frees itself when its answer is there.
// Unchecked: touched by the pool's thread between the two callbacks of libuv, by the loop's thread before and after.
private final class OffloadedWork: @unchecked Sendable {
    private let request = UnsafeMutablePointer<uv_work_t>.allocate(capacity: 1)
    private let work: () -> Void
    private let completion: () -> Void

    init(work: @escaping () -> Void, completion: @escaping () -> Void) {
        self.work = work
        self.completion = completion
    }

    deinit { request.deallocate() }

    func start(on loop: EventLoop) {
        request.pointee.data = Unmanaged.passRetained(self).toOpaque()
        let code = uv_queue_work(
            loop.handles.loop, request,
            { Unmanaged<OffloadedWork>.fromOpaque($0!.pointee.data).takeUnretainedValue().work() },
            { request, _ in
                let finished = Unmanaged<OffloadedWork>.fromOpaque(request!.pointee.data).takeRetainedValue()
                finished.completion()
            })
        precondition(code == 0, "libuv takes no work: \(uvText(code))")
    }
}

extension EventLoop {
    /// Runs `work`, which may block, on another thread, and then `completion` on the loop. On the loop. A stopping loop
    /// waits for what was begun, and still completes it.
    func offload<Value: Sendable>(
        _ work: @escaping @Sendable () -> Value, completion: @escaping (Value) -> Void
    ) {
        assert(isCurrent, "work given away outside of event loop \(name)")
        // Written by the pool's thread before libuv hands the request back, read by the loop's after it.
        nonisolated(unsafe) var result: Value?
        OffloadedWork {
            result = work()
        } completion: {
            guard let value = result else { preconditionFailure("work ended without a result") }
            completion(value)
        }.start(on: self)
    }
}
