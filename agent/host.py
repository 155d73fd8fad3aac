"""The only door to files and processes of a host, under a root prefix such as /host."""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
import signal
import stat
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import BinaryIO, Optional

import psutil

from agent.errors import CommandFailed, Damaged, Refused

STATE_DIR = "/var/lib/etcd-rescue"
"""Root-owned, 0700: agent, journal, quarantine, backup, work, lock (see ARCHITECTURE.md)."""

_RENAME_NOREPLACE = 1
_AT_FDCWD = -100
_MAX_SYMLINKS = 40
_PR_SET_PDEATHSIG = 1
_MAX_OUTPUT = 8 * 1024 * 1024


@dataclass(frozen=True)
class Completed:
    """A process that ended: its argv, exit code and output (decoded, bounded)."""

    argv: tuple[str, ...]
    code: int
    stdout: str
    stderr: str


class Host:
    """Files and processes of one host. Every path taken or given is the host's own view of it."""

    def __init__(self, root: str = "/") -> None:
        self.root = os.path.normpath(root)

    # ---- paths -------------------------------------------------------------------------------

    def real(self, path: str) -> str:
        """The path to open for the host's `path`: prefixed, and links resolved *inside* the root.

        A link in /host/var/lib that points to /data must lead to /host/data, never to our /data.
        """
        if self.root == "/":
            return path
        return self._join(self._resolve(path, follow_last=True))

    def _real_last_unresolved(self, path: str) -> str:
        return path if self.root == "/" else self._join(self._resolve(path, follow_last=False))

    def _join(self, resolved: str) -> str:
        return os.path.join(self.root, resolved.lstrip("/"))

    def _resolve(self, path: str, follow_last: bool) -> str:
        todo = [p for p in PurePosixPath("/", path).parts if p != "/"]
        done: list[str] = []
        links = 0
        while todo:
            part = todo.pop(0)
            if part == "..":
                done = done[:-1]
                continue
            here = self._join("/".join([*done, part]))
            if (todo or follow_last) and os.path.islink(here):
                links += 1
                if links > _MAX_SYMLINKS:
                    raise Refused(f"{path}: too many levels of symbolic links")
                target = PurePosixPath(os.readlink(here))
                if target.is_absolute():
                    done = []
                todo = [p for p in target.parts if p != "/"] + todo
                continue
            done.append(part)
        return "/" + "/".join(done)

    def realpath(self, path: str) -> str:
        """The host's own canonical name of `path`, all links resolved."""
        if self.root == "/":
            return os.path.realpath(path)
        return self._resolve(path, follow_last=True)

    # ---- reading -----------------------------------------------------------------------------

    def exists(self, path: str) -> bool:
        """True if `path` exists, links followed."""
        return os.path.exists(self.real(path))

    def is_dir(self, path: str) -> bool:
        """True if `path` is a directory, links followed."""
        return os.path.isdir(self.real(path))

    def is_link(self, path: str) -> bool:
        """True if `path` itself is a symbolic link."""
        return os.path.islink(self._real_last_unresolved(path))

    def is_mount(self, path: str) -> bool:
        """True if `path` is a mount point."""
        return os.path.ismount(self.real(path))

    def stat(self, path: str) -> os.stat_result:
        """stat(2), links followed."""
        return os.stat(self.real(path))

    def listdir(self, path: str) -> list[str]:
        """Sorted names in a directory; empty where there is none."""
        try:
            return sorted(os.listdir(self.real(path)))
        except (FileNotFoundError, NotADirectoryError):
            return []

    def open(self, path: str) -> BinaryIO:
        """The file opened for reading bytes."""
        return open(self.real(path), "rb")

    def read_bytes(self, path: str, limit: int = 4 * 1024 * 1024) -> bytes:
        """The whole file, which must be regular. Raises Damaged above `limit` bytes."""
        with self.open(path) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise Damaged(f"{path}: not a regular file")
            data = file.read(limit + 1)
        if len(data) > limit:
            raise Damaged(f"{path}: larger than {limit} bytes", "no such file is that large")
        return data

    def read_text(self, path: str, limit: int = 4 * 1024 * 1024) -> str:
        """The whole file as UTF-8. Raises Damaged with the offset where it is not."""
        try:
            return self.read_bytes(path, limit).decode()
        except UnicodeDecodeError as error:
            raise Damaged(f"{path}: not UTF-8 at offset {error.start}") from None

    def free(self, path: str) -> tuple[int, int]:
        """(bytes, inodes) free to root on the file system of `path` or its nearest parent.

        File systems without an inode table (btrfs, overlay on it) count as 2**31 free.
        """
        here = path
        while not self.exists(here):
            here = os.path.dirname(here)
        info = os.statvfs(self.real(here))
        return info.f_bfree * info.f_frsize, info.f_ffree if info.f_files else 2**31

    def device(self, path: str) -> int:
        """st_dev of `path` or of its nearest existing parent."""
        here = path
        while not self.exists(here):
            here = os.path.dirname(here)
        return self.stat(here).st_dev

    # ---- writing -----------------------------------------------------------------------------

    def makedirs(self, path: str, mode: int = 0o700) -> None:
        """Make `path` and missing parents with `mode`, whatever the umask."""
        if self.is_dir(path):
            return
        parent = os.path.dirname(path)
        if parent != path:
            self.makedirs(parent, mode)
        try:
            os.mkdir(self.real(path), mode)
        except FileExistsError:
            return
        os.chmod(self.real(path), mode)
        self.sync_dir(parent)

    def write_atomic(
        self,
        path: str,
        data: bytes,
        mode: int = 0o600,
        like: Optional[os.stat_result] = None,
    ) -> None:
        """Replace `path` by `data`: dot-file beside it, fsync, rename, fsync of the directory.

        The kubelet ignores dot-files, so a watched directory never shows half a manifest. `like`
        gives owner and mode; else root's and `mode`. An existing target's xattrs are kept.
        """
        directory, name = os.path.split(path)
        temp = os.path.join(self.real(directory), f".{name}.{os.getpid()}.rescue")
        fd = os.open(temp, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        try:
            with os.fdopen(fd, "wb") as file:
                file.write(data)
                if like is not None:
                    os.fchown(file.fileno(), like.st_uid, like.st_gid)
                os.fchmod(file.fileno(), stat.S_IMODE(like.st_mode) if like else mode)
                if self.exists(path):
                    _copy_xattrs(self.real(path), file.fileno())
                file.flush()
                os.fsync(file.fileno())
            os.rename(temp, self.real(path))
        except BaseException:
            os.unlink(temp)
            raise
        self.sync_dir(directory)

    def rename_new(self, source: str, target: str) -> None:
        """rename(2) that never overwrites, durable: both directories are fsynced.

        Raises Refused where the target exists or lies on another file system.
        """
        src, dst = self._real_last_unresolved(source), self._real_last_unresolved(target)
        try:
            _renameat2(src, dst)
        except OSError as error:
            if error.errno in (errno.EEXIST, errno.EXDEV, errno.EBUSY):
                raise Refused(f"cannot move {source} to {target}: {error.strerror}") from None
            raise
        self.sync_dir(os.path.dirname(target))
        self.sync_dir(os.path.dirname(source))

    def sync_dir(self, path: str) -> None:
        """fsync(2) of a directory."""
        fd = os.open(self.real(path), os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    def append_synced(self, path: str, data: bytes) -> None:
        """Append to a file of ours (0600) and fsync it; a new file's directory too."""
        is_new = not self.exists(path)
        fd = os.open(self.real(path), os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        try:
            view = memoryview(data)
            while view:
                view = view[os.write(fd, view) :]
            os.fsync(fd)
        finally:
            os.close(fd)
        if is_new:
            self.sync_dir(os.path.dirname(path))

    def discard(self, path: str) -> None:
        """Delete a scratch file or tree of ours; refuses anything not below a work directory."""
        parts = PurePosixPath(path).parts
        if "work" not in parts or not any("etcd-rescue" in part for part in parts):
            raise Refused(f"{path}: not a work directory of ours", "nothing else is ever deleted")
        real = self._real_last_unresolved(path)
        if os.path.isdir(real) and not os.path.islink(real):
            shutil.rmtree(real)
        elif os.path.lexists(real):
            os.unlink(real)

    # ---- processes ---------------------------------------------------------------------------

    def argv(self, argv: Sequence[str]) -> list[str]:
        """The command as run from here: in a chroot where the host lies under a prefix."""
        return list(argv) if self.root == "/" else ["chroot", self.root, *argv]

    def run(
        self,
        argv: Sequence[str],
        timeout: float = 10.0,
        ok: Sequence[int] = (0,),
        env: Optional[Mapping[str, str]] = None,
    ) -> Completed:
        """Run a command of the host without a shell and without input.

        Raises CommandFailed where it is missing, outlives `timeout` seconds, or ends with an exit
        code that is not in `ok`.
        """
        command = self.argv(argv)
        shown = " ".join(argv)
        try:
            done = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=timeout,
                env=clean_env(env),
                check=False,
            )
        except FileNotFoundError:
            raise CommandFailed(f"{argv[0]}: no such command on this host") from None
        except subprocess.TimeoutExpired:
            raise CommandFailed(f"`{shown}` did not end within {timeout:g} s") from None
        result = Completed(tuple(argv), done.returncode, _text(done.stdout), _text(done.stderr))
        if result.code not in ok:
            said = (result.stderr.strip() or result.stdout.strip())[-2000:]
            raise CommandFailed(f"`{shown}` ended with exit code {result.code}: {said}")
        return result

    def spawn(self, argv: Sequence[str], log: str) -> subprocess.Popen[bytes]:
        """Start a command that dies with us (PDEATHSIG), its output appended to `log` (0600).

        A killed agent must not leave a scratch etcd behind that holds a lock on the copy.
        """
        fd = os.open(self.real(log), os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        try:
            return subprocess.Popen(
                self.argv(argv),
                stdin=subprocess.DEVNULL,
                stdout=fd,
                stderr=fd,
                env=clean_env(),
                start_new_session=True,
                preexec_fn=_die_with_parent,
            )
        finally:
            os.close(fd)

    def which(self, name: str) -> str:
        """The host's path of a command, or an empty string."""
        for directory in (
            "/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin",
            "/opt/bin", "/usr/libexec",
        ):  # fmt: skip
            path = f"{directory}/{name}"
            if self.exists(path) and os.access(self.real(path), os.X_OK):
                return path
        return ""

    def processes(self, name: str) -> Iterator[psutil.Process]:
        """Processes of the host whose executable's name (argv[0] or comm) is `name`."""
        for process in psutil.process_iter(["name", "cmdline", "status"]):
            info = process.info
            if info["status"] == psutil.STATUS_ZOMBIE:
                continue
            argv0 = os.path.basename(info["cmdline"][0]) if info["cmdline"] else ""
            if name in (argv0, info["name"]):
                yield process

    def listening_ports(self) -> set[int]:
        """TCP ports on which something of the host listens, any address."""
        found = set()
        for name in ("tcp", "tcp6"):
            try:
                with open(f"/proc/net/{name}") as file:
                    rows = file.read().splitlines()[1:]
            except OSError:
                continue
            for row in rows:
                fields = row.split()
                if fields[3] == "0A":  # TCP_LISTEN, include/net/tcp_states.h
                    found.add(int(fields[1].rsplit(":", 1)[1], 16))
        return found

    def now(self) -> float:
        """The host's clock, seconds since the epoch."""
        return time.time()

    def boot_id(self) -> str:
        """The kernel's ID of this boot."""
        return self._line("/proc/sys/kernel/random/boot_id")

    def machine_id(self) -> str:
        """/etc/machine-id, or an empty string."""
        return self._line("/etc/machine-id")

    def hostname(self) -> str:
        """The host's name: /etc/hostname, else the kernel's."""
        return self._line("/etc/hostname") or os.uname().nodename

    def _line(self, path: str) -> str:
        try:
            return self.read_text(path, 4096).strip()
        except (OSError, Damaged):
            return ""


def clean_env(extra: Optional[Mapping[str, str]] = None) -> dict[str, str]:
    """The environment every child gets: nothing of ours that could change what it does or says."""
    path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/opt/bin"
    return {"PATH": path, "LC_ALL": "C", "HOME": "/root", **(extra or {})}


def _text(data: bytes) -> str:
    return data[:_MAX_OUTPUT].decode(errors="replace")


def _die_with_parent() -> None:
    _libc().prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _renameat2(source: str, target: str) -> None:
    """renameat2(2) with RENAME_NOREPLACE; where the file system lacks it, check and rename."""
    libc = _libc()
    if hasattr(libc, "renameat2"):
        code = libc.renameat2(
            _AT_FDCWD, os.fsencode(source), _AT_FDCWD, os.fsencode(target), _RENAME_NOREPLACE
        )
        if code == 0:
            return
        number = ctypes.get_errno()
        if number not in (errno.EINVAL, errno.ENOSYS):
            raise OSError(number, os.strerror(number), source, None, target)
    if os.path.lexists(target):
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), source, None, target)
    os.rename(source, target)


def _copy_xattrs(source: str, target: int) -> None:
    for name in os.listxattr(source):
        try:
            os.setxattr(target, name, os.getxattr(source, name))
        except OSError as error:
            if error.errno not in (errno.ENOTSUP, errno.EPERM):
                raise
