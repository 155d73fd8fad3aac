"""Puts an unpacked runtime in its place; run on the host, by that runtime.

Two may do it at once, for the same runtime or another: one after the other, behind a lock.
"""

import fcntl
import hashlib
import os
import shutil
import sys
import time

DAY = 24 * 3600


def settle(new: str, home: str) -> None:
    """Rename `new` to `home`, unless a whole one is there; a damaged one makes place."""
    folder = os.path.dirname(home)
    with open(os.path.join(folder, "lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not is_whole(home):
            damaged = os.path.join(os.path.dirname(new), "damaged")
            if os.path.lexists(home):
                os.rename(home, damaged)
            os.utime(new)
            os.rename(new, home)
        remove_unused(folder, home)


def is_whole(home: str) -> bool:
    """Whether it is, to the bit, what its name says, and nothing else."""
    try:
        sums = _read(os.path.join(home, "SHA256SUMS"))
        if os.path.islink(home) or hashlib.sha256(sums).hexdigest() != os.path.basename(home):
            return False
        told = {line[66:]: line[:64] for line in sums.decode().splitlines()}
        found = {
            os.path.relpath(os.path.join(top, name), home)
            for top, _, names in os.walk(home)
            for name in names
        }
        return found == {*told, "SHA256SUMS"} and all(
            hashlib.sha256(_read(os.path.join(home, name))).hexdigest() == told[name]
            for name in told
        )
    except (OSError, ValueError):
        return False


def _read(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()


def remove_unused(folder: str, home: str) -> None:
    """Remove runtimes of other versions that no process runs and nobody started for a day."""
    for name in os.listdir(folder):
        path = os.path.join(folder, name)
        is_other = len(name) == len(os.path.basename(home)) and path != home
        if is_other and os.stat(path).st_mtime < time.time() - DAY and not is_in_use(path):
            shutil.rmtree(path, ignore_errors=True)


def is_in_use(path: str) -> bool:
    """Whether any process has a file of it mapped; one that even root may not see is no agent."""
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            if f" {path}/".encode() in _read(f"/proc/{pid}/maps"):
                return True
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue
    return False


if __name__ == "__main__":
    try:
        settle(sys.argv[1], sys.argv[2])
    except OSError as error:
        sys.exit(f"{error.filename}: {error.strerror}")
