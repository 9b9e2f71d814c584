// What Swift cannot say itself: malloc thresholds, timer slack, a thread's own value, waiting for a semaphore by the
// monotonic clock, and the section of distributed methods.
#ifndef FLOCK_RUNTIME_H
#define FLOCK_RUNTIME_H
#include <semaphore.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/// Keeps frames of up to 64 MiB off mmap/munmap, and freed memory in the process. Call first thing in main.
void flock_tune_malloc(void);

/// Lets the calling thread's timers fire within `nanoseconds` of their time (the kernel's default is 50 us).
void flock_set_timer_slack(unsigned long nanoseconds);

/// Names the calling thread for debuggers and `top -H`; at most 15 bytes, else it is not named.
void flock_name_thread(const char *name);

/// The calling thread's value: see Errands.swift.
void *flock_errands(void);
void flock_set_errands(void *value);

/// Waits for a post; false if there is none for so long.
bool flock_wait_posted(sem_t *semaphore, uint64_t nanoseconds);

/// The number of distributed methods in this executable's `swift5_accessible_functions` section.
size_t flock_accessible_function_count(void);

/// The mangled name of one of them, or NULL past the end. The bytes live as long as the process.
const char *flock_accessible_function_name(size_t index);
#endif
