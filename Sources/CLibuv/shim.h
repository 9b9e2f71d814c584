// libuv and timerfd. No feature macros here: with _GNU_SOURCE `fd_set` would differ from the Glibc module's, and Swift
// files that use both would not compile.
#include <sys/timerfd.h>
#include <uv.h>
