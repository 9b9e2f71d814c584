// libuv, timerfd and eventfd. No feature macros here: with _GNU_SOURCE `fd_set` would differ from the Glibc module's, and Swift
// files that use both would not compile.
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>
#include <uv.h>

/// Nothing is due before one of the loop's descriptors is ready. (No timers of uv are in use.)
static inline int flock_uv_may_block(const uv_loop_t *loop) {
#if UV_VERSION_HEX < 0x012d00
    // Watchers that the kernel has not been told of; from 1.45 on `uv_backend_timeout` counts them itself.
    if (loop->watcher_queue[0] != (const void *)&loop->watcher_queue) { return 0; }
#endif
    return uv_backend_timeout(loop) != 0;
}

/// Waits until one of the two descriptors can be read: bit 0 for the first, bit 1 for the second.
static inline int flock_wait_readable(int first, int second) {
    struct pollfd waiting[2] = {{.fd = first, .events = POLLIN}, {.fd = second, .events = POLLIN}};
    if (poll(waiting, 2, -1) <= 0) { return 0; }
    return (waiting[0].revents != 0) | (waiting[1].revents != 0) << 1;
}

/// Whether the descriptor can be read now.
static inline int flock_is_readable(int descriptor) {
    struct pollfd looked = {.fd = descriptor, .events = POLLIN};
    return poll(&looked, 1, 0) > 0;
}
