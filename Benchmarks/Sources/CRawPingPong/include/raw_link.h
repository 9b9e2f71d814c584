// Flockwork · Apache-2.0 · see LICENSE
// What a small message to another process and back costs after a pause, over a socketpair: by itself, and in a stream of
// gRPC's C core. Nothing else is done on either side.
#pragma once
#include <stdint.h>

// One message of 24 bytes at a time, each after a pause of 10 ms, for `seconds`. Writes times in nanoseconds, at most
// `capacity` of them, and their number. Returns 0, or an errno when there is no other process.
int raw_socket_ping(double seconds, uint64_t *times, int64_t capacity, int64_t *count);
int raw_grpc_ping(double seconds, uint64_t *times, int64_t capacity, int64_t *count);

// The other side of `raw_grpc_ping`: this program with the argument `grpc-echo`, and the socket as descriptor 3.
void raw_grpc_echo(void);
