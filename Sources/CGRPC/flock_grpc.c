#include "flock_grpc.h"

#include <grpc/byte_buffer.h>
#include <grpc/byte_buffer_reader.h>
#include <grpc/grpc_posix.h>
#include <grpc/grpc_security.h>
#include <grpc/slice.h>
#include <grpc/support/time.h>
#include <stdlib.h>
#include <string.h>

enum { most_arguments = 12 };

typedef struct {
    grpc_arg list[most_arguments];
    size_t count;
} arguments;

static void set(arguments *all, const char *key, int value) {
    grpc_arg argument = {.type = GRPC_ARG_INTEGER, .key = (char *)key, .value.integer = value};
    all->list[all->count++] = argument;
}

// Not the minimal stack: it has no filter that enforces the limit of a message's size. Measured: small messages do not care; 64 messages of 64 KiB in flight have a fifth of the latency.
static arguments both_sides(int limit) {
    arguments all = {.count = 0};
    set(&all, GRPC_ARG_MAX_RECEIVE_MESSAGE_LENGTH, limit);
    set(&all, GRPC_ARG_MAX_SEND_MESSAGE_LENGTH, -1);
    set(&all, GRPC_ARG_HTTP2_BDP_PROBE, 0);
    set(&all, GRPC_ARG_HTTP2_MAX_FRAME_SIZE, 4 << 20);
    set(&all, GRPC_ARG_HTTP2_STREAM_LOOKAHEAD_BYTES, 16 << 20);
    set(&all, GRPC_ARG_TCP_READ_CHUNK_SIZE, 1 << 20);
    return all;
}

static arguments client_side(int limit) {
    arguments all = both_sides(limit);
    set(&all, GRPC_ARG_ENABLE_RETRIES, 0);
    set(&all, GRPC_ARG_ENABLE_HTTP_PROXY, 0);
    set(&all, GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
    return all;
}

flock_grpc_slots *flock_grpc_slots_make(void) {
    flock_grpc_slots *slots = calloc(1, sizeof *slots);
    grpc_metadata_array_init(&slots->initial);
    grpc_metadata_array_init(&slots->trailing);
    slots->details = grpc_empty_slice();
    return slots;
}

void flock_grpc_slots_free(flock_grpc_slots *slots) {
    grpc_metadata_array_destroy(&slots->initial);
    grpc_metadata_array_destroy(&slots->trailing);
    grpc_slice_unref(slots->details);
    if (slots->received) grpc_byte_buffer_destroy(slots->received);
    if (slots->sending) grpc_byte_buffer_destroy(slots->sending);
    free(slots);
}

grpc_channel *flock_grpc_connect(const char *target, int limit) {
    arguments all = client_side(limit);
    grpc_channel_args args = {.num_args = all.count, .args = all.list};
    grpc_channel_credentials *plain = grpc_insecure_credentials_create();
    grpc_channel *channel = grpc_channel_create(target, plain, &args);
    grpc_channel_credentials_release(plain);
    return channel;
}

grpc_channel *flock_grpc_connect_descriptor(int descriptor, int limit) {
    arguments all = client_side(limit);
    grpc_channel_args args = {.num_args = all.count, .args = all.list};
    grpc_channel_credentials *plain = grpc_insecure_credentials_create();
    grpc_channel *channel = grpc_channel_create_from_fd("child", descriptor, plain, &args);
    grpc_channel_credentials_release(plain);
    return channel;
}

grpc_server *flock_grpc_server_make(int limit) {
    arguments all = both_sides(limit);
    set(&all, GRPC_ARG_ALLOW_REUSEPORT, 0);
    grpc_channel_args args = {.num_args = all.count, .args = all.list};
    return grpc_server_create(&args, NULL);
}

int flock_grpc_server_listen(grpc_server *server, const char *address) {
    grpc_server_credentials *plain = grpc_insecure_server_credentials_create();
    int port = grpc_server_add_http2_port(server, address, plain);
    grpc_server_credentials_release(plain);
    return port;
}

void flock_grpc_server_adopt(grpc_server *server, int descriptor) {
    grpc_server_credentials *plain = grpc_insecure_server_credentials_create();
    grpc_server_add_channel_from_fd(server, descriptor, plain);
    grpc_server_credentials_release(plain);
}

grpc_call *flock_grpc_call_make(
    grpc_channel *channel, grpc_completion_queue *queue, const char *method, int64_t timeout) {
    gpr_timespec deadline =
        timeout < 0
            ? gpr_inf_future(GPR_CLOCK_MONOTONIC)
            : gpr_time_add(gpr_now(GPR_CLOCK_MONOTONIC), gpr_time_from_nanos(timeout, GPR_TIMESPAN));
    grpc_slice path = grpc_slice_from_copied_string(method);
    grpc_call *call =
        grpc_channel_create_call(channel, NULL, GRPC_PROPAGATE_DEFAULTS, queue, path, NULL, deadline, NULL);
    grpc_slice_unref(path);
    return call;
}

grpc_call *flock_grpc_call_nowhere(grpc_completion_queue *queue, grpc_channel **channel) {
    *channel = grpc_lame_client_channel_create("nowhere", GRPC_STATUS_UNAVAILABLE, "nowhere");
    return flock_grpc_call_make(*channel, queue, "/nowhere", -1);
}

static bool start(grpc_call *call, const grpc_op *ops, size_t count, void *tag) {
    return grpc_call_start_batch(call, ops, count, tag, NULL) == GRPC_CALL_OK;
}

bool flock_grpc_start_call(grpc_call *call, flock_grpc_slots *slots, void *tag) {
    grpc_op ops[2];
    memset(ops, 0, sizeof ops);
    ops[0].op = GRPC_OP_SEND_INITIAL_METADATA;
    ops[1].op = GRPC_OP_RECV_INITIAL_METADATA;
    ops[1].data.recv_initial_metadata.recv_initial_metadata = &slots->initial;
    return start(call, ops, 2, tag);
}

bool flock_grpc_start_status(grpc_call *call, flock_grpc_slots *slots, void *tag) {
    grpc_op op;
    memset(&op, 0, sizeof op);
    op.op = GRPC_OP_RECV_STATUS_ON_CLIENT;
    op.data.recv_status_on_client.trailing_metadata = &slots->trailing;
    op.data.recv_status_on_client.status = &slots->status;
    op.data.recv_status_on_client.status_details = &slots->details;
    return start(call, &op, 1, tag);
}

bool flock_grpc_start_send(
    grpc_call *call, flock_grpc_slots *slots, const void *bytes, size_t count, void *owner, void (*release)(void *),
    void *tag) {
    grpc_slice slice = grpc_slice_new_with_user_data((void *)bytes, count, release, owner);
    slots->sending = grpc_raw_byte_buffer_create(&slice, 1);
    grpc_slice_unref(slice);
    grpc_op op;
    memset(&op, 0, sizeof op);
    op.op = GRPC_OP_SEND_MESSAGE;
    op.data.send_message.send_message = slots->sending;
    if (start(call, &op, 1, tag)) return true;
    flock_grpc_sent(slots);
    return false;
}

void flock_grpc_sent(flock_grpc_slots *slots) {
    if (slots->sending) grpc_byte_buffer_destroy(slots->sending);
    slots->sending = NULL;
}

bool flock_grpc_start_receive(grpc_call *call, flock_grpc_slots *slots, void *tag) {
    grpc_op op;
    memset(&op, 0, sizeof op);
    op.op = GRPC_OP_RECV_MESSAGE;
    op.data.recv_message.recv_message = &slots->received;
    return start(call, &op, 1, tag);
}

bool flock_grpc_start_half_close(grpc_call *call, void *tag) {
    grpc_op op;
    memset(&op, 0, sizeof op);
    op.op = GRPC_OP_SEND_CLOSE_FROM_CLIENT;
    return start(call, &op, 1, tag);
}

bool flock_grpc_start_answer(grpc_call *call, void *tag) {
    grpc_op op;
    memset(&op, 0, sizeof op);
    op.op = GRPC_OP_SEND_INITIAL_METADATA;
    return start(call, &op, 1, tag);
}

// In a batch of its own: with others the whole batch would end only with the call.
bool flock_grpc_start_close(grpc_call *call, flock_grpc_slots *slots, void *tag) {
    grpc_op op;
    memset(&op, 0, sizeof op);
    op.op = GRPC_OP_RECV_CLOSE_ON_SERVER;
    op.data.recv_close_on_server.cancelled = &slots->cancelled;
    return start(call, &op, 1, tag);
}

bool flock_grpc_start_finish(grpc_call *call, grpc_status_code status, const char *details, void *tag) {
    grpc_slice text = grpc_slice_from_copied_string(details);
    grpc_op op;
    memset(&op, 0, sizeof op);
    op.op = GRPC_OP_SEND_STATUS_FROM_SERVER;
    op.data.send_status_from_server.status = status;
    op.data.send_status_from_server.status_details = &text;
    bool taken = start(call, &op, 1, tag);
    grpc_slice_unref(text);
    return taken;
}

bool flock_grpc_start_nothing(grpc_call *call, void *tag) { return start(call, NULL, 0, tag); }

flock_grpc_arrival *flock_grpc_arrival_make(void) {
    flock_grpc_arrival *arrival = calloc(1, sizeof *arrival);
    grpc_call_details_init(&arrival->details);
    grpc_metadata_array_init(&arrival->metadata);
    return arrival;
}

void flock_grpc_arrival_free(flock_grpc_arrival *arrival) {
    grpc_call_details_destroy(&arrival->details);
    grpc_metadata_array_destroy(&arrival->metadata);
    free(arrival);
}

bool flock_grpc_request_call(
    grpc_server *server, flock_grpc_arrival *arrival, grpc_completion_queue *queue, void *tag) {
    return grpc_server_request_call(
               server, &arrival->call, &arrival->details, &arrival->metadata, queue, queue, tag)
        == GRPC_CALL_OK;
}

size_t flock_grpc_received_bytes(const flock_grpc_slots *slots) {
    return grpc_byte_buffer_length(slots->received);
}

void flock_grpc_take_received(flock_grpc_slots *slots, void *into) {
    grpc_byte_buffer_reader reader;
    uint8_t *at = into;
    if (grpc_byte_buffer_reader_init(&reader, slots->received)) {
        grpc_slice slice;
        while (grpc_byte_buffer_reader_next(&reader, &slice)) {
            memcpy(at, GRPC_SLICE_START_PTR(slice), GRPC_SLICE_LENGTH(slice));
            at += GRPC_SLICE_LENGTH(slice);
            grpc_slice_unref(slice);
        }
        grpc_byte_buffer_reader_destroy(&reader);
    }
    grpc_byte_buffer_destroy(slots->received);
    slots->received = NULL;
}

size_t flock_grpc_slice_count(const grpc_slice *slice) { return GRPC_SLICE_LENGTH(*slice); }

const void *flock_grpc_slice_start(const grpc_slice *slice) { return GRPC_SLICE_START_PTR(*slice); }

grpc_event flock_grpc_next(grpc_completion_queue *queue, bool wait) {
    gpr_timespec when = wait ? gpr_inf_future(GPR_CLOCK_MONOTONIC) : gpr_inf_past(GPR_CLOCK_MONOTONIC);
    return grpc_completion_queue_next(queue, when, NULL);
}
