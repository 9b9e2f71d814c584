// What Swift cannot say itself: malloc thresholds, timer slack, a thread's own value, and the section of distributed
// methods.
#ifndef FLOCK_RUNTIME_H
#define FLOCK_RUNTIME_H
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

/// The number of distributed methods in this executable's `swift5_accessible_functions` section.
size_t flock_accessible_function_count(void);

/// The mangled name of one of them, or NULL past the end. The bytes live as long as the process.
const char *flock_accessible_function_name(size_t index);
#endif
