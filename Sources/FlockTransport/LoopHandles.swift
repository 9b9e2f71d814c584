// Flockwork · Apache-2.0 · see LICENSE

// The uv handles of a loop itself: the wake-up, the two ends of a turn, and the timer (a timerfd, because libuv's own
// timers count milliseconds). They live on the heap, because libuv keeps their addresses.

internal import CLibuv
internal import FlockWire
internal import Glibc

struct LoopHandles {
    let loop: UnsafeMutablePointer<uv_loop_t>
    let wakeUp: UnsafeMutablePointer<uv_async_t>
    let prepare: UnsafeMutablePointer<uv_prepare_t>
    let check: UnsafeMutablePointer<uv_check_t>
    let timer: UnsafeMutablePointer<uv_poll_t>
    let timerDescriptor: Int32

    static func make(loopName: String) throws(FlockError) -> LoopHandles {
        let loop = UnsafeMutablePointer<uv_loop_t>.allocate(capacity: 1)
        let descriptor = timerfd_create(CLOCK_MONOTONIC, Int32(TFD_NONBLOCK) | Int32(TFD_CLOEXEC))
        let made = descriptor < 0 ? -errno : uv_loop_init(loop)
        guard made == 0 else {
            loop.deallocate()
            if descriptor >= 0 { Glibc.close(descriptor) }
            throw FlockError(.system, "event loop \(loopName) cannot start: \(uvText(made))")
        }
        let handles = LoopHandles(
            loop: loop, wakeUp: .allocate(capacity: 1), prepare: .allocate(capacity: 1), check: .allocate(capacity: 1),
            timer: .allocate(capacity: 1), timerDescriptor: descriptor)
        // Of these only the first can fail (no descriptor left), before the others exist.
        let code = uv_async_init(loop, handles.wakeUp) { handle in EventLoop.from(handle!.pointee.data).wokeUp() }
        guard code == 0 else {
            uv_loop_close(loop)
            Glibc.close(descriptor)
            handles.free()
            throw FlockError(.system, "event loop \(loopName) cannot start: \(uvText(code))")
        }
        uv_prepare_init(loop, handles.prepare)
        uv_check_init(loop, handles.check)
        let polled = uv_poll_init(loop, handles.timer, descriptor)
        precondition(polled == 0, "timer of event loop \(loopName): \(uvText(polled))")
        return handles
    }

    func attach(to owner: EventLoop) {
        // Unretained: the thread holds the loop object for as long as the handles are open.
        let data = Unmanaged.passUnretained(owner).toOpaque()
        loop.pointee.data = data
        wakeUp.pointee.data = data
        prepare.pointee.data = data
        check.pointee.data = data
        timer.pointee.data = data
        uv_prepare_start(prepare) { EventLoop.from($0!.pointee.data).prepareToPoll() }
        uv_check_start(check) { EventLoop.from($0!.pointee.data).endTurn() }
        uv_poll_start(timer, Int32(UV_READABLE.rawValue)) { handle, _, _ in
            EventLoop.from(handle!.pointee.data).timerFired()
        }
    }

    /// Closes the handles, runs the loop until all close callbacks ran, and closes the loop.
    func closeAll() {
        uv_close(uvHandle(wakeUp), nil)
        uv_close(uvHandle(prepare), nil)
        uv_close(uvHandle(check), nil)
        uv_close(uvHandle(timer), nil)
        uv_run(loop, UV_RUN_DEFAULT)
        let code = uv_loop_close(loop)
        precondition(code == 0, "an event loop ended with open handles: \(uvText(code))")
        Glibc.close(timerDescriptor)
    }

    func free() {
        loop.deallocate()
        wakeUp.deallocate()
        prepare.deallocate()
        check.deallocate()
        timer.deallocate()
    }
}

extension EventLoop {
    static func from(_ data: UnsafeMutableRawPointer?) -> EventLoop {
        Unmanaged<EventLoop>.fromOpaque(data!).takeUnretainedValue()
    }

    /// The work itself is done at the end of the turn.
    func wokeUp() { activity &+= 1 }
}

/// uv's text for an error code.
func uvText(_ code: Int32) -> String { String(cString: uv_strerror(code)) }

func uvHandle<Handle>(_ handle: UnsafeMutablePointer<Handle>) -> UnsafeMutablePointer<uv_handle_t> {
    UnsafeMutableRawPointer(handle).assumingMemoryBound(to: uv_handle_t.self)
}

func uvStream(_ handle: UnsafeMutablePointer<uv_tcp_t>) -> UnsafeMutablePointer<uv_stream_t> {
    UnsafeMutableRawPointer(handle).assumingMemoryBound(to: uv_stream_t.self)
}
