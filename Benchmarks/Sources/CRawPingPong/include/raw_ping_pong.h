// Flockwork · Apache-2.0 · see LICENSE
// The bare protocol: messages of a fixed size over TCP on loopback, libuv and nothing else.
#pragma once
#include <stdint.h>

#include "raw_link.h"

// Binds a free port of 127.0.0.1, gives it to `ready`, and echoes what comes until the process ends.
// Returns a libuv error (negative) or, never in practice, 0.
int raw_echo_serve(void (*ready)(int port));

// Keeps `in_flight` messages of `message_bytes` on their way for `seconds`. Writes round trip times in nanoseconds,
// at most `capacity` of them, and the number of all round trips. Returns 0 or a libuv error (negative).
int raw_ping(int port, int message_bytes, int in_flight, double seconds, uint64_t *times, int64_t capacity,
             int64_t *round_trips);

// The calling thread's sleeps end at most this much late (Linux: 50 us unless told).
void raw_set_timer_slack(long nanoseconds);
