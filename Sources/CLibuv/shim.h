// One shim a C library. _GNU_SOURCE comes first in each of them: shims that disagree on feature macros clash.
#ifndef _GNU_SOURCE
#define _GNU_SOURCE 1
#endif
#include <uv.h>
