// Flockwork · Apache-2.0 · see LICENSE

// What a loop itself consists of: uv's loop, the descriptor that wakes it, and its timer (a timerfd, because libuv's
// own timers count milliseconds). They live on the heap, because libuv keeps their addresses.
//
// The loop's thread waits on uv's descriptor and on the wake-up itself, and runs uv only to find out what happened:
// while it waits, nothing of uv is in use, so that another thread may run a turn. (`uv_async_t` would not do: whoever
// it wakes has to spin until the system call of the sender has returned.)

internal import CLibuv
internal import FlockWire
internal import Glibc

struct LoopHandles {
    let loop: UnsafeMutablePointer<uv_loop_t>
    /// An eventfd.
    let wakeUp: Int32
    /// Where the loop's own thread waits until a borrowed loop is given back.
    let givenBack: UnsafeMutablePointer<sem_t>
    let timer: UnsafeMutablePointer<uv_poll_t>
    let timerDescriptor: Int32

    static func make(loopName: String) throws(FlockError) -> LoopHandles {
        let loop = UnsafeMutablePointer<uv_loop_t>.allocate(capacity: 1)
        let timerDescriptor = timerfd_create(CLOCK_MONOTONIC, Int32(TFD_NONBLOCK) | Int32(TFD_CLOEXEC))
        let wakeUp = timerDescriptor < 0 ? -1 : eventfd(0, Int32(EFD_NONBLOCK) | Int32(EFD_CLOEXEC))
        let made = wakeUp < 0 ? -errno : uv_loop_init(loop)
        guard made == 0 else {
            loop.deallocate()
            if timerDescriptor >= 0 { Glibc.close(timerDescriptor) }
            if wakeUp >= 0 { Glibc.close(wakeUp) }
            throw FlockError(.system, "event loop \(loopName) cannot start: \(uvText(made))")
        }
        let handles = LoopHandles(
            loop: loop, wakeUp: wakeUp, givenBack: .allocate(capacity: 1), timer: .allocate(capacity: 1),
            timerDescriptor: timerDescriptor)
        sem_init(handles.givenBack, 0, 0)
        let polled = uv_poll_init(loop, handles.timer, timerDescriptor)
        precondition(polled == 0, "timer of event loop \(loopName): \(uvText(polled))")
        return handles
    }

    func attach(to owner: EventLoop) {
        // Unretained: the thread holds the loop object for as long as the handles are open.
        let data = Unmanaged.passUnretained(owner).toOpaque()
        loop.pointee.data = data
        timer.pointee.data = data
        uv_poll_start(timer, Int32(UV_READABLE.rawValue)) { handle, _, _ in
            EventLoop.from(handle!.pointee.data).timerFired()
        }
    }

    /// Closes the handles, runs the loop until all close callbacks ran, and closes the loop.
    func closeAll() {
        uv_close(uvHandle(timer), nil)
        uv_run(loop, UV_RUN_DEFAULT)
        let code = uv_loop_close(loop)
        precondition(code == 0, "an event loop ended with open handles: \(uvText(code))")
        Glibc.close(timerDescriptor)
        Glibc.close(wakeUp)
    }

    func free() {
        loop.deallocate()
        sem_destroy(givenBack)
        givenBack.deallocate()
        timer.deallocate()
    }
}

extension EventLoop {
    static func from(_ data: UnsafeMutableRawPointer?) -> EventLoop {
        Unmanaged<EventLoop>.fromOpaque(data!).takeUnretainedValue()
    }
}

/// uv's text for an error code.
func uvText(_ code: Int32) -> String { String(cString: uv_strerror(code)) }

func uvHandle<Handle>(_ handle: UnsafeMutablePointer<Handle>) -> UnsafeMutablePointer<uv_handle_t> {
    UnsafeMutableRawPointer(handle).assumingMemoryBound(to: uv_handle_t.self)
}

func uvStream<Handle>(_ handle: UnsafeMutablePointer<Handle>) -> UnsafeMutablePointer<uv_stream_t> {
    UnsafeMutableRawPointer(handle).assumingMemoryBound(to: uv_stream_t.self)
}
