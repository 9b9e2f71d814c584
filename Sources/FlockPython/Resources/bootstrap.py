# The first Python that runs in a worker process: it finds the handler and hands batches over to the extension, or to
# the worker in plain Python (grpcio_worker.py) where that is not to be loaded.
import faulthandler
import importlib
import importlib.machinery
import importlib.util
import os
import signal
import sys
import traceback


def load(folder, module, function, form):
    """Imports the handler from its folder; calls its load() first, if it has one."""
    os.chdir(folder)
    sys.path.insert(0, folder)
    handler = importlib.import_module(module)
    found = getattr(handler, function, None)
    if not callable(found):
        names = sorted(n for n in vars(handler) if callable(getattr(handler, n)) and not n.startswith("_"))
        raise AttributeError(f"{module}.py has no function {function!r}; it has {', '.join(names) or 'none'}")
    prepare = getattr(handler, "load", None)
    if callable(prepare) and function != "load":
        prepare()
    version = "%d.%d.%d" % sys.version_info[:3]
    return found, version, packages(), os.getpid()


def packages():
    """Name and version, one a line. By the names of their folders: to import importlib.metadata would take longer than
    many a handler does."""
    found = set()
    for place in sys.path:
        try:
            names = os.listdir(place or ".")
        except OSError:
            continue
        for name in names:
            stem, end, _ = name.rpartition(".dist-info")
            if end and "-" in stem:
                found.add(stem.replace("-", " ", 1))
    return "\n".join(sorted(found))


def unload(module):
    loaded = sys.modules.get(module)
    finish = getattr(loaded, "unload", None)
    if callable(finish):
        finish()


def is_ours(file):
    ours = ("<string>", "<flockwork>", importlib.__file__)
    return file in ours or file.startswith("<frozen importlib")


def describe(error):
    """Type, message and traceback of an exception, without the frames of this file."""
    if error is None:
        return "Exception", "", ""
    frames = error.__traceback__
    while frames is not None and frames.tb_next is not None and is_ours(frames.tb_frame.f_code.co_filename):
        frames = frames.tb_next
    text = "".join(traceback.format_exception(type(error), error, frames))
    return type(error).__name__, str(error), text[-16384:]


def extension(path):
    loader = importlib.machinery.ExtensionFileLoader("flockpython", path)
    spec = importlib.util.spec_from_file_location("flockpython", path, loader=loader)
    worker = importlib.util.module_from_spec(spec)
    loader.exec_module(worker)
    return worker.run


def plain(source, why):
    """The worker on grpcio. A process that cannot be one says what is missing, and ends."""
    found = {"__name__": "flockwork"}
    try:
        exec(compile(source, "<flockwork>", "exec"), found)
    except ImportError as error:
        if getattr(error, "name", None) != "grpc":
            raise
        version = "%s %d.%d.%d" % ((sys.implementation.name,) + sys.version_info[:3])
        sys.exit(
            f"Worker processes of {sys.executable} ({version}) need the package grpcio, since {why}. Install it:"
            f" {sys.executable} -m pip install grpcio, or a line grpcio in the folder's requirements.txt."
        )
    return found["run"]


def worker(path, source):
    if not path:
        return plain(source, "they run without libflockpython.so")
    try:
        return extension(path)
    except ImportError as error:
        if not source:
            raise
        return plain(source, f"libflockpython.so cannot be loaded ({error})")


def main(path, module, source):
    # All threads' stacks on stderr: the node asks for them before it kills a worker that hangs.
    faulthandler.enable()
    faulthandler.register(signal.SIGUSR1, all_threads=True)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    run = worker(path, source)
    try:
        run(3, 4, load, describe)
    except BaseException as error:
        # The end of the interpreter would wait for grpcio's threads.
        if "grpc" not in sys.modules:
            raise
        leave(error)
    unload(module)
    sys.stdout.flush()
    sys.stderr.flush()


def leave(error):
    code = error.code if isinstance(error, SystemExit) else 1
    if not isinstance(error, SystemExit):
        traceback.print_exception(type(error), error, error.__traceback__)
    elif not isinstance(code, (int, type(None))):
        print(code, file=sys.stderr)
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit((code or 0) & 255)


main(sys.argv[1], sys.argv[2], sys.argv[3])
