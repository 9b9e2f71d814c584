// The control thread: no interpreter lock, no allocation. It tells a slow handler from a dead process, and ends this one
// when the node has gone, whatever Python is doing.
#include "worker.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static int control_descriptor;
static _Atomic uint64_t busy_sequence;  // plus one; 0 when idle
static _Atomic uint64_t busy_since;

uint64_t nanoseconds_now(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

void control_busy(uint64_t sequence) {
    atomic_store(&busy_since, nanoseconds_now());
    atomic_store(&busy_sequence, sequence + 1);
}

void control_idle(void) { atomic_store(&busy_sequence, 0); }

static bool transfer(bool out, void *bytes, size_t count) {
    uint8_t *at = bytes;
    while (count > 0) {
        ssize_t moved = out ? write(control_descriptor, at, count) : read(control_descriptor, at, count);
        if (moved < 0 && errno == EINTR) continue;
        if (moved <= 0) return false;
        at += moved;
        count -= (size_t)moved;
    }
    return true;
}

static void *control_run(void *unused) {
    (void)unused;
    uint64_t number;
    while (transfer(false, &number, sizeof number)) {
        uint64_t sequence = atomic_load(&busy_sequence);
        uint64_t answer[3] = {number, sequence, sequence ? nanoseconds_now() - atomic_load(&busy_since) : 0};
        if (!transfer(true, answer, sizeof answer)) break;
    }
    // The node is gone. Nobody reads what Python could still say.
    _exit(0);
}

bool control_start(int descriptor) {
    control_descriptor = descriptor;
    pthread_attr_t attributes;
    pthread_t thread;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, 64 << 10);
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    int code = pthread_create(&thread, &attributes, control_run, NULL);
    pthread_attr_destroy(&attributes);
    return code == 0;
}
