// One call of gRPC over an inherited socket, driven by the thread that runs Python: it polls without giving up the
// interpreter's lock while there is something to do, and gives it up to wait.
//
// Each message is answered by one. An answer and the wish for the next message are one batch of gRPC's operations:
// apart the wish would be a frame of its own (the window's update), for which the node would be woken first.
#include "worker.h"

#include <grpc/byte_buffer.h>
#include <grpc/byte_buffer_reader.h>
#include <grpc/grpc.h>
#include <grpc/grpc_posix.h>
#include <grpc/grpc_security.h>
#include <grpc/slice.h>
#include <grpc/support/time.h>
#include <stdlib.h>
#include <string.h>

#include "protobuf.h"

enum { tag_arrival = 1, tag_answer, tag_close, tag_receive, tag_finish };

static grpc_completion_queue *queue;
static grpc_server *server;
static grpc_call *call;
static grpc_byte_buffer *received, *sending;
static grpc_metadata_array metadata;
static grpc_call_details details;
static int was_cancelled;
static bool has_received, is_at_end, is_closed, is_finished;
static grpc_slice prepared;

static bool start_all(const grpc_op *ops, size_t count, intptr_t tag) {
    return grpc_call_start_batch(call, ops, count, (void *)tag, NULL) == GRPC_CALL_OK;
}

static bool start(const grpc_op *op, intptr_t tag) { return start_all(op, 1, tag); }

// Sends `answer`, if there is one, and has the next message received.
static void start_receive(grpc_slice *answer) {
    grpc_op ops[2];
    memset(ops, 0, sizeof ops);
    size_t count = 0;
    if (answer) {
        sending = grpc_raw_byte_buffer_create(answer, 1);
        ops[count].op = GRPC_OP_SEND_MESSAGE;
        ops[count++].data.send_message.send_message = sending;
    }
    ops[count].op = GRPC_OP_RECV_MESSAGE;
    ops[count++].data.recv_message.recv_message = &received;
    if (!start_all(ops, count, tag_receive)) is_at_end = is_closed = true;
}

static void arrived(void) {
    grpc_op op;
    memset(&op, 0, sizeof op);
    op.op = GRPC_OP_RECV_CLOSE_ON_SERVER;
    op.data.recv_close_on_server.cancelled = &was_cancelled;
    start(&op, tag_close);
    memset(&op, 0, sizeof op);
    op.op = GRPC_OP_SEND_INITIAL_METADATA;
    start(&op, tag_answer);
    start_receive(NULL);
}

// Handles one event; false when there was none.
static bool poll_once(bool wait) {
    grpc_event event =
        grpc_completion_queue_next(queue, gpr_inf_past(GPR_CLOCK_MONOTONIC), NULL);
    if (event.type == GRPC_QUEUE_TIMEOUT && wait) {
        Py_BEGIN_ALLOW_THREADS
        event = grpc_completion_queue_next(queue, gpr_inf_future(GPR_CLOCK_MONOTONIC), NULL);
        Py_END_ALLOW_THREADS
    }
    if (event.type != GRPC_OP_COMPLETE) return false;
    switch ((intptr_t)event.tag) {
    case tag_arrival:
        if (event.success) arrived();
        else is_closed = is_at_end = true;
        break;
    case tag_close: is_closed = true; break;
    case tag_receive:
        if (sending) grpc_byte_buffer_destroy(sending);
        sending = NULL;
        if (event.success && received) has_received = true;
        else is_at_end = true;
        break;
    case tag_finish: is_finished = true; break;
    default: break;
    }
    return true;
}

bool link_start(int descriptor) {
    // By epoll, gRPC waits for room as well, and is woken for nothing whenever the node has read an answer. Handlers that
    // start processes of their own, with gRPC or without, do not inherit the choice.
    static const char strategy[] = "GRPC_POLL_STRATEGY";
    bool is_ours = getenv(strategy) == NULL;
    if (is_ours) setenv(strategy, "poll", 1);
    grpc_init();
    if (is_ours) unsetenv(strategy);
    grpc_arg list[] = {
        {.type = GRPC_ARG_INTEGER, .key = GRPC_ARG_MAX_RECEIVE_MESSAGE_LENGTH, .value.integer = -1},
        {.type = GRPC_ARG_INTEGER, .key = GRPC_ARG_MAX_SEND_MESSAGE_LENGTH, .value.integer = -1},
        {.type = GRPC_ARG_INTEGER, .key = GRPC_ARG_MINIMAL_STACK, .value.integer = 1},
        {.type = GRPC_ARG_INTEGER, .key = GRPC_ARG_HTTP2_BDP_PROBE, .value.integer = 0},
        {.type = GRPC_ARG_INTEGER, .key = GRPC_ARG_HTTP2_MAX_FRAME_SIZE, .value.integer = 4 << 20},
        {.type = GRPC_ARG_INTEGER, .key = GRPC_ARG_HTTP2_STREAM_LOOKAHEAD_BYTES, .value.integer = 16 << 20},
        {.type = GRPC_ARG_INTEGER, .key = GRPC_ARG_TCP_READ_CHUNK_SIZE, .value.integer = 1 << 20},
    };
    grpc_channel_args args = {.num_args = sizeof list / sizeof *list, .args = list};
    queue = grpc_completion_queue_create_for_next(NULL);
    server = grpc_server_create(&args, NULL);
    grpc_server_register_completion_queue(server, queue, NULL);
    grpc_server_start(server);
    grpc_metadata_array_init(&metadata);
    grpc_call_details_init(&details);
    grpc_call_error code =
        grpc_server_request_call(server, &call, &details, &metadata, queue, queue, (void *)(intptr_t)tag_arrival);
    grpc_server_credentials *plain = grpc_insecure_server_credentials_create();
    grpc_server_add_channel_from_fd(server, descriptor, plain);
    grpc_server_credentials_release(plain);
    return code == GRPC_CALL_OK;
}

// Where the elements of an array begin in a batch whose first bytes these are; 0 if it has none or that is not to be seen.
// They are the message's last field, within the last field of the batch, so that what is left is theirs.
static size_t elements_offset(const uint8_t *bytes, size_t count) {
    reader all = {bytes, bytes + count, true};
    unsigned wire;
    if (read_tag(&all, &wire) != 2 || wire != wire_bytes) return 0;
    read_varint(&all);
    while (all.ok) {
        unsigned field = read_tag(&all, &wire);
        if (field == 5 && wire == wire_bytes) break;
        if (field == 0 || wire != wire_varint) return 0;
        read_varint(&all);
    }
    read_varint(&all);
    while (all.ok) {
        unsigned field = read_tag(&all, &wire);
        if (field == 0) return 0;
        if (field == 3) {
            read_varint(&all);
            return all.ok ? (size_t)(all.at - bytes) : 0;
        }
        skip(&all, wire);
    }
    return 0;
}

// Copies the message once, to where the elements of its array are aligned to 64 bytes.
static void take_received(message *into) {
    size_t count = grpc_byte_buffer_length(received), at = 0;
    into->storage = NULL;
    into->count = count;
    uint8_t *bytes = NULL;
    grpc_byte_buffer_reader parts;
    if (grpc_byte_buffer_reader_init(&parts, received)) {
        grpc_slice slice;
        while (grpc_byte_buffer_reader_next(&parts, &slice)) {
            size_t length = GRPC_SLICE_LENGTH(slice);
            if (bytes == NULL) {
                size_t offset = elements_offset(GRPC_SLICE_START_PTR(slice), length);
                size_t shift = offset ? (64 - offset % 64) % 64 : 0;
                void *storage = NULL;
                if (posix_memalign(&storage, 64, count + 64) != 0) abort();
                into->storage = storage;
                bytes = into->storage + shift;
            }
            memcpy(bytes + at, GRPC_SLICE_START_PTR(slice), length);
            at += length;
            grpc_slice_unref(slice);
        }
        grpc_byte_buffer_reader_destroy(&parts);
    }
    grpc_byte_buffer_destroy(received);
    received = NULL;
    into->bytes = bytes;
}

bool link_receive(message *into) {
    while (!has_received && !is_at_end && !is_closed) poll_once(true);
    if (!has_received || is_closed) return false;
    has_received = false;
    take_received(into);
    return true;
}

void message_free(message *m) {
    free(m->storage);
    m->storage = NULL;
}

uint8_t *link_prepare(size_t count) {
    prepared = grpc_slice_malloc(count);
    return GRPC_SLICE_START_PTR(prepared);
}

void link_send(void) {
    // A small slice lies in the variable itself, so that it is copied only now that it is filled.
    if (!is_closed) start_receive(&prepared);
    grpc_slice_unref(prepared);
}

void link_finish(void) {
    if (call && !is_closed) {
        grpc_slice text = grpc_empty_slice();
        grpc_op op;
        memset(&op, 0, sizeof op);
        op.op = GRPC_OP_SEND_STATUS_FROM_SERVER;
        op.data.send_status_from_server.status = GRPC_STATUS_OK;
        op.data.send_status_from_server.status_details = &text;
        if (start(&op, tag_finish)) {
            while (!is_finished && !is_closed) poll_once(true);
        }
        // Its completion says that gRPC has the status, not that the socket has it.
        while (!is_closed) poll_once(true);
    }
}
