// What Swift cannot say to gRPC's C core: macros, unions, and arguments whose storage must outlive the call.
#pragma once
#include <grpc/grpc.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// What the operations of one call write into. Lives as long as the call.
typedef struct {
    grpc_metadata_array initial;
    grpc_metadata_array trailing;
    grpc_status_code status;
    grpc_slice details;
    grpc_byte_buffer *received;
    grpc_byte_buffer *sending;
    int cancelled;
} flock_grpc_slots;

// What the next call to a server is written into.
typedef struct {
    grpc_call *call;
    grpc_call_details details;
    grpc_metadata_array metadata;
} flock_grpc_arrival;

flock_grpc_slots *flock_grpc_slots_make(void);
void flock_grpc_slots_free(flock_grpc_slots *slots);

// Channels and servers without transport security: over a socketpair, a Unix socket or loopback.
// `limit` is the size of the largest message that is received, in bytes.
grpc_channel *flock_grpc_connect(const char *target, int limit);
// Takes the descriptor, which must be non-blocking.
grpc_channel *flock_grpc_connect_descriptor(int descriptor, int limit);
grpc_server *flock_grpc_server_make(int limit);
// The port, or 0.
int flock_grpc_server_listen(grpc_server *server, const char *address);
// Takes the descriptor, which must be non-blocking. After the server was started.
void flock_grpc_server_adopt(grpc_server *server, int descriptor);

// `timeout` in nanoseconds; negative for none.
grpc_call *flock_grpc_call_make(grpc_channel *channel, grpc_completion_queue *queue, const char *method, int64_t timeout);
// A call that goes nowhere, so that something can always be posted to the queue.
grpc_call *flock_grpc_call_nowhere(grpc_completion_queue *queue, grpc_channel **channel);

// Each starts a batch and returns whether it was taken; if so `tag` comes out of the call's queue, once.
bool flock_grpc_start_call(grpc_call *call, flock_grpc_slots *slots, void *tag);
bool flock_grpc_start_status(grpc_call *call, flock_grpc_slots *slots, void *tag);
bool flock_grpc_start_send(
    grpc_call *call, flock_grpc_slots *slots, const void *bytes, size_t count, void *owner, void (*release)(void *),
    void *tag);
bool flock_grpc_start_receive(grpc_call *call, flock_grpc_slots *slots, void *tag);
bool flock_grpc_start_half_close(grpc_call *call, void *tag);
bool flock_grpc_start_answer(grpc_call *call, void *tag);
bool flock_grpc_start_close(grpc_call *call, flock_grpc_slots *slots, void *tag);
bool flock_grpc_start_finish(grpc_call *call, grpc_status_code status, const char *details, void *tag);
bool flock_grpc_start_nothing(grpc_call *call, void *tag);

flock_grpc_arrival *flock_grpc_arrival_make(void);
void flock_grpc_arrival_free(flock_grpc_arrival *arrival);
bool flock_grpc_request_call(
    grpc_server *server, flock_grpc_arrival *arrival, grpc_completion_queue *queue, void *tag);

// Bytes of the message received; then moves it to `into`, which has room for it, and forgets it.
size_t flock_grpc_received_bytes(const flock_grpc_slots *slots);
void flock_grpc_take_received(flock_grpc_slots *slots, void *into);
// The message was taken by the transport.
void flock_grpc_sent(flock_grpc_slots *slots);

size_t flock_grpc_slice_count(const grpc_slice *slice);
const void *flock_grpc_slice_start(const grpc_slice *slice);
// The next event; blocks for ever if `wait`.
grpc_event flock_grpc_next(grpc_completion_queue *queue, bool wait);
