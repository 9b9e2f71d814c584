// Flockwork · Apache-2.0 · see LICENSE
#include "raw_ping_pong.h"

#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <uv.h>

enum { READ_BYTES = 1 << 18 };

typedef struct {
    uv_write_t request;
    char bytes[];
} Pending;

typedef struct {
    char *buffer;
    // Client only.
    uv_timer_t timer;
    uv_connect_t connect;
    int message_bytes, in_flight, status;
    double seconds;
    size_t partial;
    uint64_t *sent;
    int64_t head;
    uint64_t *times;
    int64_t capacity, count;
} Peer;

static void give_buffer(uv_handle_t *handle, size_t suggested, uv_buf_t *out) {
    (void)suggested;
    *out = uv_buf_init(((Peer *)handle->data)->buffer, READ_BYTES);
}

static void free_request(uv_write_t *request, int status) {
    (void)status;
    free(request);
}

static void write_all(uv_stream_t *stream, const char *bytes, size_t count) {
    uv_buf_t buffer = uv_buf_init((char *)bytes, (unsigned)count);
    int written = uv_try_write(stream, &buffer, 1);
    size_t done = written > 0 ? (size_t)written : 0;
    if (done == count) return;
    Pending *pending = malloc(sizeof(Pending) + count - done);
    memcpy(pending->bytes, bytes + done, count - done);
    buffer = uv_buf_init(pending->bytes, (unsigned)(count - done));
    uv_write(&pending->request, stream, &buffer, 1, free_request);
}

// The echo.

static void free_peer(uv_handle_t *handle) {
    Peer *peer = handle->data;
    free(peer->buffer);
    free(peer);
    free(handle);
}

static void echo(uv_stream_t *stream, ssize_t count, const uv_buf_t *buffer) {
    if (count > 0) write_all(stream, buffer->base, (size_t)count);
    if (count < 0) uv_close((uv_handle_t *)stream, free_peer);
}

static void accept_one(uv_stream_t *server, int status) {
    if (status < 0) return;
    uv_tcp_t *stream = malloc(sizeof(uv_tcp_t));
    Peer *peer = calloc(1, sizeof(Peer));
    peer->buffer = malloc(READ_BYTES);
    uv_tcp_init(server->loop, stream);
    stream->data = peer;
    uv_accept(server, (uv_stream_t *)stream);
    uv_tcp_nodelay(stream, 1);
    uv_read_start((uv_stream_t *)stream, give_buffer, echo);
}

int raw_echo_serve(void (*ready)(int port)) {
    uv_loop_t loop;
    uv_tcp_t server;
    struct sockaddr_in address;
    int length = sizeof(address);
    int status = uv_loop_init(&loop);
    if (status < 0) return status;
    uv_tcp_init(&loop, &server);
    uv_ip4_addr("127.0.0.1", 0, &address);
    if ((status = uv_tcp_bind(&server, (struct sockaddr *)&address, 0)) < 0) return status;
    if ((status = uv_listen((uv_stream_t *)&server, 16, accept_one)) < 0) return status;
    if ((status = uv_tcp_getsockname(&server, (struct sockaddr *)&address, &length)) < 0) return status;
    ready(ntohs(address.sin_port));
    return uv_run(&loop, UV_RUN_DEFAULT);
}

// The client.

static void send_messages(Peer *peer, uv_stream_t *stream, int64_t messages) {
    static char zeros[READ_BYTES];
    uint64_t now = uv_hrtime();
    for (int64_t index = 0; index < messages; index++) {
        peer->sent[(peer->head + index) % peer->in_flight] = now;
    }
    size_t left = (size_t)messages * (size_t)peer->message_bytes;
    while (left > 0) {
        size_t part = left < sizeof(zeros) ? left : sizeof(zeros);
        write_all(stream, zeros, part);
        left -= part;
    }
}

static void pong(uv_stream_t *stream, ssize_t count, const uv_buf_t *buffer) {
    (void)buffer;
    Peer *peer = stream->data;
    if (count < 0) {
        peer->status = (int)count;
        uv_stop(stream->loop);
        return;
    }
    uint64_t now = uv_hrtime();
    size_t bytes = peer->partial + (size_t)count;
    int64_t messages = (int64_t)(bytes / (size_t)peer->message_bytes);
    peer->partial = bytes % (size_t)peer->message_bytes;
    for (int64_t index = 0; index < messages; index++) {
        if (peer->count < peer->capacity) {
            peer->times[peer->count] = now - peer->sent[(peer->head + index) % peer->in_flight];
        }
        peer->count += 1;
    }
    if (messages > 0) send_messages(peer, stream, messages);
    peer->head = (peer->head + messages) % peer->in_flight;
}

static void time_is_up(uv_timer_t *timer) { uv_stop(timer->loop); }

static void connected(uv_connect_t *connect, int status) {
    Peer *peer = connect->data;
    if (status < 0) {
        peer->status = status;
        uv_stop(connect->handle->loop);
        return;
    }
    uv_tcp_nodelay((uv_tcp_t *)connect->handle, 1);
    uv_read_start(connect->handle, give_buffer, pong);
    uv_timer_start(&peer->timer, time_is_up, (uint64_t)(peer->seconds * 1000), 0);
    send_messages(peer, connect->handle, peer->in_flight);
}

int raw_ping(int port, int message_bytes, int in_flight, double seconds, uint64_t *times, int64_t capacity,
             int64_t *round_trips) {
    uv_loop_t loop;
    uv_tcp_t stream;
    struct sockaddr_in address;
    Peer peer = {.message_bytes = message_bytes, .in_flight = in_flight, .seconds = seconds, .times = times,
                 .capacity = capacity};
    int status = uv_loop_init(&loop);
    if (status < 0) return status;
    peer.buffer = malloc(READ_BYTES);
    peer.sent = calloc((size_t)in_flight, sizeof(uint64_t));
    uv_timer_init(&loop, &peer.timer);
    uv_tcp_init(&loop, &stream);
    stream.data = peer.connect.data = &peer;
    uv_ip4_addr("127.0.0.1", port, &address);
    peer.status = uv_tcp_connect(&peer.connect, &stream, (struct sockaddr *)&address, connected);
    if (peer.status == 0) uv_run(&loop, UV_RUN_DEFAULT);
    uv_close((uv_handle_t *)&stream, NULL);
    uv_close((uv_handle_t *)&peer.timer, NULL);
    uv_run(&loop, UV_RUN_DEFAULT);
    uv_loop_close(&loop);
    free(peer.buffer);
    free(peer.sent);
    *round_trips = peer.count;
    return peer.status;
}

void raw_set_timer_slack(long nanoseconds) { prctl(PR_SET_TIMERSLACK, (unsigned long)nanoseconds, 0L, 0L, 0L); }
