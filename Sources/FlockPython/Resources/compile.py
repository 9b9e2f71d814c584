# Flockwork · Apache-2.0 · see LICENSE
"""Makes the byte code of an environment on all cores, while packages are installed into it and the first workers start.

As a part of pip it takes longer than all the rest. What nobody imports may stay as it is, and what is for another
version of Python cannot be compiled.

Arguments: a file that is there once all is installed, and until all byte code is, and one that is there from then on.
Until then this compiles what has its list of files, which pip writes last; after that it goes through all.
"""
import compileall
import contextlib
import fcntl
import glob
import os
import sys
import sysconfig
import time
import traceback

PENDING, READY = sys.argv[1:]
PLACES = sorted({sysconfig.get_path(name) for name in ("purelib", "platlib")})


def modules(folder):
    for place, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if name not in ("test", "tests", "__pycache__"))
        yield from (os.path.join(place, name) for name in sorted(files) if name.endswith(".py"))


def packages(record):
    """The folders with modules that a package put beside its list."""
    with open(record, encoding="utf-8", errors="replace") as file:
        names = {line.split("/")[0] for line in file if ".py," in line}
    place = os.path.dirname(os.path.dirname(record))
    return (os.path.join(place, name) for name in sorted(names - {"..", ""}))


def compile_share(folder, number, count):
    """Every so-manieth file; what was compiled before is skipped."""
    for index, file in enumerate(modules(folder)):
        if index % count == number:
            compileall.compile_file(file, quiet=2)


def work(number, count, parent):
    """What one of `count` processes does. A pool of them would outlive a parent that is killed."""
    # Unpacking goes first, and so do the requests and the workers of others.
    os.nice(5)
    seen = set()
    while not os.path.exists(PENDING) and not os.path.exists(READY):
        for record in sorted({r for place in PLACES for r in glob.glob(place + "/*.dist-info/RECORD")} - seen):
            seen.add(record)
            for folder in packages(record):
                compile_share(folder, number, count)
        if os.getppid() != parent:
            return
        time.sleep(0.02)
    for place in PLACES:
        compile_share(place, number, count)


lock = open(PENDING + ".lock", "w")
try:
    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
except BlockingIOError:
    # Another model with the same environment has begun.
    sys.exit(0)
count = len(os.sched_getaffinity(0))
parent = os.getpid()
children = []
for number in range(count):
    child = os.fork()
    if child == 0:
        status = 1
        try:
            work(number, count, parent)
            status = 0
        except Exception:
            traceback.print_exc()
        finally:
            os._exit(status)
    children.append(child)
statuses = [os.waitpid(child, 0)[1] for child in children]
if any(statuses):
    sys.exit(1)
# Who was at it before may have been done since this was started.
with contextlib.suppress(FileNotFoundError):
    os.remove(PENDING)
