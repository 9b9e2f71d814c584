#define _GNU_SOURCE 1
#include "flock_process.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static int limit(int resource, uint64_t value) {
    if (value == 0) return 0;
    struct rlimit both = {.rlim_cur = value, .rlim_max = value};
    return setrlimit(resource, &both);
}

// Between vfork and exec: the parent's memory, so system calls only. The errno of the step that failed.
static int become(const struct flock_spawn *request, pid_t parent) {
    setsid();
    prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
    // The parent may have gone before the line above.
    if (getppid() != parent) _exit(127);
    for (int target = 0; target < 5; target++) {
        if (dup2(request->descriptors[target], target) < 0) return errno;
    }
    if (syscall(SYS_close_range, 5u, ~0u, 0u) != 0) return errno;
    if (request->folder && chdir(request->folder) != 0) return errno;
    struct rlimit none = {0, 0};
    setrlimit(RLIMIT_CORE, &none);
    if (limit(RLIMIT_AS, request->address_space) || limit(RLIMIT_FSIZE, request->file_bytes)
        || limit(RLIMIT_NOFILE, request->files) || limit(RLIMIT_NPROC, request->processes))
        return errno;
    int score = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
    if (score >= 0) {
        char digits[5];
        int count = 0, rest = request->out_of_memory_score;
        for (int unit = 1000; unit > 0; unit /= 10) digits[count++] = (char)('0' + rest / unit % 10);
        // It may be refused, and the child is none the worse for it.
        ssize_t written = write(score, digits, (size_t)count);
        (void)written;
        close(score);
    }
    for (int number = 1; number < NSIG; number++) signal(number, SIG_DFL);
    sigset_t empty;
    sigemptyset(&empty);
    sigprocmask(SIG_SETMASK, &empty, NULL);
    execve(request->path, request->arguments, request->environment);
    return errno;
}

int flock_process_spawn(const struct flock_spawn *request, pid_t *process, int *descriptor) {
    sigset_t all, before;
    sigfillset(&all);
    // No handler of the parent's may run in the child while they share memory.
    pthread_sigmask(SIG_SETMASK, &all, &before);
    volatile int failure = 0;
    pid_t parent = getpid();
    // Not fork: handlers that libraries registered for it must not run, and the parent's pages need no copying.
    pid_t child = vfork();
    if (child == 0) {
        failure = become(request, parent);
        _exit(127);
    }
    int code = errno;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (child < 0) return -code;
    int opened = (int)syscall(SYS_pidfd_open, child, 0);
    if (failure != 0 || opened < 0) {
        code = failure != 0 ? failure : errno;
        kill(child, SIGKILL);
        waitpid(child, NULL, 0);
        if (opened >= 0) close(opened);
        return -code;
    }
    *process = child;
    *descriptor = opened;
    return 0;
}

int flock_process_reap(int descriptor, int *status) {
    siginfo_t info = {0};
    // P_PIDFD is 3, which this libc may not name.
    while (waitid((idtype_t)3, (id_t)descriptor, &info, WEXITED | WNOHANG) != 0) {
        if (errno != EINTR) return -errno;
    }
    if (info.si_pid == 0) return 0;
    *status = info.si_code == CLD_EXITED ? info.si_status : -info.si_status;
    return 1;
}

int flock_process_signal(int descriptor, int number) {
    return syscall(SYS_pidfd_send_signal, descriptor, number, NULL, 0) == 0 ? 0 : -errno;
}
