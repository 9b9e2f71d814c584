// Starting a child process so that it cannot outlive or outgrow its parent: what posix_spawn cannot say.
#pragma once
#include <stdint.h>
#include <sys/types.h>

/// A child to be. It gets a session and process group of its own and is killed when the *thread* that started it ends.
struct flock_spawn {
    const char *path;
    char *const *arguments;
    char *const *environment;
    const char *folder;
    /// What becomes descriptors 0 to 4; all at least 5. Others are closed.
    int descriptors[5];
    /// Bytes of address space, of a file it writes; descriptors; processes of its user. 0 leaves the limit as it is.
    uint64_t address_space, file_bytes, files, processes;
    /// Added to the kernel's choice of whom to kill when memory ends, 0 to 1000.
    int out_of_memory_score;
};

/// Starts the child. Its id and a descriptor of it (close-on-exec), or a negative errno.
int flock_process_spawn(const struct flock_spawn *request, pid_t *process, int *descriptor);

/// Takes the child's end. 1 with the exit code or (negative) the signal; 0 if it still runs; else a negative errno.
int flock_process_reap(int descriptor, int *status);

/// Sends a signal to the process behind the descriptor, never to another one of its number. 0 or a negative errno.
int flock_process_signal(int descriptor, int signal);
