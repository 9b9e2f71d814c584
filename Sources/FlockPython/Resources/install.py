# Flockwork · Apache-2.0 · see LICENSE
"""Installs packages from a folder of wheels into the environment whose interpreter runs this, with a pip from outside.

pip unpacks one wheel after another on one core. Here it only says what it would install; then several of it, forked
from one that has loaded its code, install a share each, by hash, so that they take those very wheels. Whatever is not
only wheels of a folder, or shares a file with another package, pip installs itself.

Arguments: the folder that has the package pip, and those of `pip install` that say what from where.
"""
import importlib.machinery
import json
import os
import re
import runpy
import sys
import tempfile
import traceback
import urllib.parse
import zipfile

PLACE, *ARGUMENTS = sys.argv[1:]


class OnlyPip:
    """Finds pip, and none of what else lies in its folder: that is not installed here."""

    @staticmethod
    def find_spec(name, path=None, target=None):
        if name == "pip":
            return importlib.machinery.PathFinder.find_spec(name, [PLACE], target)


def pip(*arguments):
    """Runs pip in a process of its own, whose id it returns."""
    child = os.fork()
    if child:
        return child
    status = 1
    try:
        sys.argv = ["pip", *arguments]
        runpy.run_module("pip", run_name="__main__", alter_sys=True)
    except SystemExit as ended:
        status = ended.code or 0
    except Exception:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        # Without what the parent has to do at its end.
        os._exit(status)


def succeed(*children):
    statuses = [os.waitpid(child, 0)[1] for child in children]
    if any(statuses):
        sys.exit(1)


class Wheel:
    """A line of pip's report."""

    def __init__(self, item):
        source = item["download_info"]
        url = urllib.parse.urlsplit(source["url"])
        self.path = urllib.parse.unquote(url.path)
        if url.scheme != "file" or not self.path.endswith(".whl"):
            raise ValueError(source["url"])
        # What pip before 23.1 says is "sha256=…".
        hashes = source["archive_info"].get("hashes") or dict([source["archive_info"]["hash"].split("=", 1)])
        self.line = "{name}=={version} --hash=sha256:{hash}\n".format(hash=hashes["sha256"], **item["metadata"])
        self.size = os.stat(self.path).st_size

    def files(self):
        """What it puts where; scripts that pip makes are not among it."""
        with zipfile.ZipFile(self.path) as archive:
            names = {name for name in archive.namelist() if not name.endswith("/")}
        return {re.sub(r"^[^/]+\.data/((pure|plat)lib/)?", "", name) for name in names}


def resolved(place):
    """The wheels that pip would install; None if there is something else, or a file is in two of them."""
    report = os.path.join(place, "report")
    dry = ["--quiet", "--dry-run", "--ignore-installed", "--report", report]
    succeed(pip("install", *dry, *ARGUMENTS))
    try:
        with open(report, encoding="utf-8") as file:
            wheels = [Wheel(item) for item in json.load(file)["install"]]
        files = [wheel.files() for wheel in wheels]
    except (OSError, ValueError, LookupError, zipfile.BadZipFile):
        return None
    return wheels if sum(map(len, files)) == len(set().union(*files)) else None


def shares(wheels):
    """As many as there are cores, of about the same size each."""
    found = [[] for _ in range(min(len(wheels), len(os.sched_getaffinity(0)), 8))]
    for wheel in sorted(wheels, key=lambda wheel: -wheel.size):
        min(found, key=lambda share: sum(wheel.size for wheel in share)).append(wheel)
    return found


def install(share, requirements):
    with open(requirements, "w", encoding="utf-8") as file:
        file.writelines(wheel.line for wheel in share)
    folders = {os.path.dirname(wheel.path) for wheel in share}
    source = ["--no-index", *(f"--find-links={folder}" for folder in sorted(folders))]
    return pip("install", "--quiet", "--no-deps", "--no-compile", *source, "-r", requirements)


sys.meta_path.insert(0, OnlyPip)
try:
    # Only so that those who are forked need not: what it is called inside may change.
    from pip._internal.commands import create_command

    create_command("install")
except Exception:
    pass
with tempfile.TemporaryDirectory() as place:
    wheels = resolved(place)
    if wheels is None:
        succeed(pip("install", "--no-compile", *ARGUMENTS))
    else:
        succeed(*(install(share, os.path.join(place, str(n))) for n, share in enumerate(shares(wheels))))
