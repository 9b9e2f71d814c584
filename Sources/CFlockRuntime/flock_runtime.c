#define _GNU_SOURCE 1
#include "flock_runtime.h"
#include <errno.h>
#include <malloc.h>
#include <pthread.h>
#include <sys/prctl.h>
#include <time.h>

void flock_tune_malloc(void) {
    mallopt(M_MMAP_THRESHOLD, 64 << 20);
    mallopt(M_TRIM_THRESHOLD, 256 << 20);
}

void flock_set_timer_slack(unsigned long nanoseconds) {
    prctl(PR_SET_TIMERSLACK, nanoseconds, 0, 0, 0);
}

void flock_name_thread(const char *name) {
    pthread_setname_np(pthread_self(), name);
}

bool flock_wait_posted(sem_t *semaphore, uint64_t nanoseconds) {
    struct timespec end;
    clock_gettime(CLOCK_MONOTONIC, &end);
    nanoseconds += (uint64_t)end.tv_nsec;
    end.tv_sec += (time_t)(nanoseconds / 1000000000);
    end.tv_nsec = (long)(nanoseconds % 1000000000);
    int code;
    do code = sem_clockwait(semaphore, CLOCK_MONOTONIC, &end);
    while (code != 0 && errno == EINTR);
    return code == 0;
}

// A record of the section, as the compiler lays it out: five 32-bit words, the first three relative addresses.
struct accessible_function {
    int32_t name;
    int32_t generic_environment;
    int32_t function_type;
    int32_t function;
    int32_t flags;
};

extern const struct accessible_function __start_swift5_accessible_functions[] __attribute__((weak));
extern const struct accessible_function __stop_swift5_accessible_functions[] __attribute__((weak));

size_t flock_accessible_function_count(void) {
    if (!__start_swift5_accessible_functions) { return 0; }
    return (size_t)(__stop_swift5_accessible_functions - __start_swift5_accessible_functions);
}

const char *flock_accessible_function_name(size_t index) {
    if (index >= flock_accessible_function_count()) { return NULL; }
    const struct accessible_function *record = &__start_swift5_accessible_functions[index];
    return (const char *)&record->name + record->name;
}

static _Thread_local void *errands;

void *flock_errands(void) { return errands; }

void flock_set_errands(void *value) { errands = value; }
