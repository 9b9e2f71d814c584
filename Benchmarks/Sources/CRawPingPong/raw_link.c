// Flockwork · Apache-2.0 · see LICENSE
#define _GNU_SOURCE
#include "raw_link.h"

#include <errno.h>
#include <fcntl.h>
#include <grpc/byte_buffer.h>
#include <grpc/grpc.h>
#include <grpc/grpc_posix.h>
#include <grpc/grpc_security.h>
#include <grpc/slice.h>
#include <grpc/support/time.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { MESSAGE = 24, PAUSE = 10000000 };

static uint64_t now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

// Calls `round_trip` after a pause, again and again.
static void measure(
    bool (*round_trip)(void *), void *context, double seconds, uint64_t *times, int64_t capacity, int64_t *count) {
    uint64_t end = now() + (uint64_t)(seconds * 1e9);
    struct timespec pause = {0, PAUSE};
    *count = 0;
    while (now() < end && *count < capacity) {
        nanosleep(&pause, NULL);
        uint64_t start = now();
        if (!round_trip(context)) return;
        times[(*count)++] = now() - start;
    }
}

static void stop(pid_t other) {
    kill(other, SIGKILL);
    while (waitpid(other, NULL, 0) < 0 && errno == EINTR) {}
}

// The socket alone.

static bool socket_round_trip(void *context) {
    char bytes[MESSAGE] = {0};
    int own = *(int *)context;
    return write(own, bytes, sizeof bytes) == MESSAGE && read(own, bytes, sizeof bytes) == MESSAGE;
}

int raw_socket_ping(double seconds, uint64_t *times, int64_t capacity, int64_t *count) {
    int ends[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) return errno;
    pid_t other = fork();
    if (other == 0) {
        // Of a process with threads only this one is here: nothing but system calls.
        char bytes[MESSAGE];
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        while (read(ends[1], bytes, sizeof bytes) == MESSAGE && write(ends[1], bytes, sizeof bytes) == MESSAGE) {}
        _exit(0);
    }
    int code = other < 0 ? errno : 0;
    if (other > 0) {
        measure(socket_round_trip, &ends[0], seconds, times, capacity, count);
        stop(other);
    }
    close(ends[0]);
    close(ends[1]);
    return code;
}

// gRPC, with the settings of our workers' links.

static grpc_channel_args settings(void) {
    static grpc_arg list[] = {
        {.type = GRPC_ARG_INTEGER, .key = GRPC_ARG_MAX_RECEIVE_MESSAGE_LENGTH, .value.integer = -1},
        {.type = GRPC_ARG_INTEGER, .key = GRPC_ARG_HTTP2_BDP_PROBE, .value.integer = 0},
        {.type = GRPC_ARG_INTEGER, .key = GRPC_ARG_HTTP2_MAX_FRAME_SIZE, .value.integer = 4 << 20},
        {.type = GRPC_ARG_INTEGER, .key = GRPC_ARG_HTTP2_STREAM_LOOKAHEAD_BYTES, .value.integer = 16 << 20},
        {.type = GRPC_ARG_INTEGER, .key = GRPC_ARG_ENABLE_RETRIES, .value.integer = 0},
    };
    return (grpc_channel_args){.num_args = sizeof list / sizeof *list, .args = list};
}

static grpc_event next(grpc_completion_queue *queue) {
    return grpc_completion_queue_next(queue, gpr_inf_future(GPR_CLOCK_MONOTONIC), NULL);
}

typedef struct {
    grpc_completion_queue *queue;
    grpc_call *call;
    grpc_byte_buffer *received;
} Link;

// Sends `message`, if there is one, and has the next one received: tag 1.
static void exchange(Link *link, grpc_byte_buffer *message) {
    grpc_op ops[2];
    memset(ops, 0, sizeof ops);
    size_t count = 0;
    if (message) {
        ops[count].op = GRPC_OP_SEND_MESSAGE;
        ops[count++].data.send_message.send_message = message;
    }
    ops[count].op = GRPC_OP_RECV_MESSAGE;
    ops[count++].data.recv_message.recv_message = &link->received;
    grpc_call_start_batch(link->call, ops, count, (void *)1, NULL);
}

void raw_grpc_echo(void) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    setenv("GRPC_POLL_STRATEGY", "poll", 1);
    grpc_init();
    Link link = {.queue = grpc_completion_queue_create_for_next(NULL)};
    grpc_channel_args args = settings();
    grpc_server *server = grpc_server_create(&args, NULL);
    grpc_server_register_completion_queue(server, link.queue, NULL);
    grpc_server_start(server);
    grpc_call_details details;
    grpc_metadata_array metadata;
    grpc_call_details_init(&details);
    grpc_metadata_array_init(&metadata);
    grpc_server_request_call(server, &link.call, &details, &metadata, link.queue, link.queue, (void *)2);
    grpc_server_credentials *plain = grpc_insecure_server_credentials_create();
    grpc_server_add_channel_from_fd(server, 3, plain);
    grpc_server_credentials_release(plain);
    while (next(link.queue).tag != (void *)2) {}
    grpc_op op;
    memset(&op, 0, sizeof op);
    op.op = GRPC_OP_SEND_INITIAL_METADATA;
    grpc_call_start_batch(link.call, &op, 1, (void *)3, NULL);
    exchange(&link, NULL);
    grpc_byte_buffer *message = NULL;
    while (true) {
        while (next(link.queue).tag != (void *)1) {}
        if (message) grpc_byte_buffer_destroy(message);
        message = link.received;
        if (!message) return;
        exchange(&link, message);
    }
}

static bool grpc_round_trip(void *context) {
    Link *link = context;
    char bytes[MESSAGE] = {0};
    grpc_slice slice = grpc_slice_from_copied_buffer(bytes, sizeof bytes);
    grpc_byte_buffer *message = grpc_raw_byte_buffer_create(&slice, 1);
    grpc_slice_unref(slice);
    exchange(link, message);
    grpc_event event;
    do event = next(link->queue);
    while (event.tag != (void *)1);
    grpc_byte_buffer_destroy(message);
    bool good = event.success && link->received;
    if (good) grpc_byte_buffer_destroy(link->received);
    link->received = NULL;
    return good;
}

int raw_grpc_ping(double seconds, uint64_t *times, int64_t capacity, int64_t *count) {
    int ends[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends) != 0) return errno;
    pid_t other = fork();
    if (other == 0) {
        char *const arguments[] = {"flockbench", "grpc-echo", NULL};
        if (dup2(ends[1], 3) == 3) execv("/proc/self/exe", arguments);
        _exit(1);
    }
    int code = other < 0 ? errno : 0;
    close(ends[1]);
    if (other < 0) {
        close(ends[0]);
        return code;
    }
    grpc_init();
    grpc_channel_args args = settings();
    grpc_channel_credentials *plain = grpc_insecure_credentials_create();
    grpc_channel *channel = grpc_channel_create_from_fd("echo", ends[0], plain, &args);
    grpc_channel_credentials_release(plain);
    Link link = {.queue = grpc_completion_queue_create_for_next(NULL)};
    link.call = grpc_channel_create_call(
        channel, NULL, 0, link.queue, grpc_slice_from_static_string("/Echo/Run"), NULL,
        gpr_inf_future(GPR_CLOCK_MONOTONIC), NULL);
    grpc_metadata_array initial;
    grpc_metadata_array_init(&initial);
    grpc_op ops[2];
    memset(ops, 0, sizeof ops);
    ops[0].op = GRPC_OP_SEND_INITIAL_METADATA;
    ops[1].op = GRPC_OP_RECV_INITIAL_METADATA;
    ops[1].data.recv_initial_metadata.recv_initial_metadata = &initial;
    grpc_call_start_batch(link.call, ops, 2, (void *)2, NULL);
    // The first waits for the other process to start.
    if (grpc_round_trip(&link)) measure(grpc_round_trip, &link, seconds, times, capacity, count);
    stop(other);
    grpc_call_cancel(link.call, NULL);
    grpc_call_unref(link.call);
    grpc_channel_destroy(channel);
    grpc_completion_queue_shutdown(link.queue);
    while (next(link.queue).type != GRPC_QUEUE_SHUTDOWN) {}
    grpc_metadata_array_destroy(&initial);
    grpc_completion_queue_destroy(link.queue);
    grpc_shutdown();
    return 0;
}
