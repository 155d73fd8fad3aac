"""The only door to files and processes of a host, under a root prefix such as /host."""

from __future__ import annotations

import errno
import os
import shutil
import stat
import time
from contextlib import suppress
from pathlib import PurePosixPath
from typing import BinaryIO, Optional

from agent.errors import Damaged, Refused
from agent.processes import Completed, Processes, clean_env
from agent.syscalls import copy_xattrs, mount_points, rename_noreplace

__all__ = ["STATE_DIR", "Completed", "Host", "clean_env"]

STATE_DIR = "/var/lib/etcd-rescue"
"""Root-owned, 0700: agent, journal, quarantine, backup, work, lock (see ARCHITECTURE.md)."""

_MAX_SYMLINKS = 40


class Host(Processes):
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
        """Make `path` and missing parents with `mode`, whatever the umask.

        Raises Refused where something that is no directory is in the way.
        """
        if self.is_dir(path):
            return
        parent = os.path.dirname(path)
        if parent != path:
            self.makedirs(parent, mode)
        try:
            os.mkdir(self.real(path), mode)
        except FileExistsError:
            if self.is_dir(path):
                return
            raise Refused(f"{path} is in the way: it is no directory") from None
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
        gives owner and mode; else root's and `mode`. An existing target's xattrs are kept; where
        it is a link, the link stays and what it leads to is replaced.
        """
        directory, name = os.path.split(self.realpath(path))
        target = os.path.join(self.real(directory), name)
        temp = os.path.join(self.real(directory), f".{name}.rescue")
        with suppress(FileNotFoundError):
            os.unlink(temp)  # of an agent that was killed; only one is at work at a time
        fd = os.open(temp, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        try:
            with os.fdopen(fd, "wb") as file:
                file.write(data)
                if like is not None:
                    os.fchown(file.fileno(), like.st_uid, like.st_gid)
                os.fchmod(file.fileno(), stat.S_IMODE(like.st_mode) if like else mode)
                if os.path.exists(target):
                    copy_xattrs(target, file.fileno())
                file.flush()
                os.fsync(file.fileno())
            os.rename(temp, target)
        except BaseException:
            with suppress(FileNotFoundError):
                os.unlink(temp)
            raise
        self.sync_dir(directory)

    def rename_new(self, source: str, target: str) -> None:
        """rename(2) that never overwrites, durable: both directories are fsynced.

        Raises Refused where the target exists or lies on another file system.
        """
        src, dst = self._real_last_unresolved(source), self._real_last_unresolved(target)
        try:
            rename_noreplace(src, dst)
        except OSError as error:
            if error.errno in (errno.EEXIST, errno.EXDEV, errno.EBUSY):
                raise Refused(
                    f"cannot move {source} to {target}: {error.strerror}",
                    "nothing is ever overwritten",
                ) from None
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

    def append_synced(self, path: str, data: bytes, keep: int) -> None:
        """Write `data` after the first `keep` bytes of a file of ours (0600) and fsync it.

        Bytes beyond `keep` are what a crash left of a write; they go. A new file's directory is
        fsynced too.
        """
        is_new = not self.exists(path)
        fd = os.open(self.real(path), os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        try:
            os.fchmod(fd, 0o600)
            os.ftruncate(fd, keep)
            view = memoryview(data)
            while view:
                view = view[os.write(fd, view) :]
            os.fsync(fd)
        finally:
            os.close(fd)
        if is_new:
            self.sync_dir(os.path.dirname(path))

    def mount_point(self, path: str) -> str:
        """The real mount point that holds `path` (or its nearest existing parent).

        A bind mount has its parent's st_dev and yet rename(2) does not cross it, so mountinfo
        (proc_pid_mountinfo(5)) is asked, not st_dev.
        """
        here = path
        while not self.exists(here):
            here = os.path.dirname(here)
        real = os.path.realpath(self.real(here))
        points = mount_points()
        inside = [p for p in points if p == "/" or real == p or real.startswith(p + "/")]
        return max(inside, key=len, default="/")

    def move_new(self, source: str, target: str) -> None:
        """Move one regular file, never overwriting, also across file systems, with all attributes.

        Across file systems: copy to a dot-file, fsync, compare, rename, and only then is the
        source's name removed. A run that was cut before that last act is finished by the next.
        """
        directory, name = os.path.split(target)
        if self.mount_point(os.path.dirname(source)) == self.mount_point(directory):
            self.rename_new(source, target)
            return
        if not (self.exists(target) and self.read_bytes(source) == self.read_bytes(target)):
            self._copy_over(source, f"{directory}/.{name}.moving", target)
        os.unlink(self._real_last_unresolved(source))
        self.sync_dir(os.path.dirname(source))

    def _copy_over(self, source: str, temp: str, target: str) -> None:
        with suppress(FileNotFoundError):
            os.unlink(self._real_last_unresolved(temp))  # half a copy, of a run that was killed
        self.copy_file(source, temp)
        if self.read_bytes(source) != self.read_bytes(temp):
            raise Damaged(f"{temp} differs from {source} after the copy")
        try:
            self.rename_new(temp, target)
        except Refused:
            os.unlink(self._real_last_unresolved(temp))
            raise Refused(f"cannot move {source} to {target}: File exists") from None

    def copy_file(self, source: str, target: str) -> None:
        """Copy one regular file to a new name: content, owner, mode, xattrs, times; fsynced."""
        info = self.stat(source)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
        fd = os.open(self._real_last_unresolved(target), flags, 0o600)
        with os.fdopen(fd, "wb") as out, self.open(source) as file:
            shutil.copyfileobj(file, out, 1 << 20)
            out.flush()
            os.fchown(out.fileno(), info.st_uid, info.st_gid)
            os.fchmod(out.fileno(), stat.S_IMODE(info.st_mode))
            copy_xattrs(self.real(source), out.fileno())
            os.utime(out.fileno(), ns=(info.st_atime_ns, info.st_mtime_ns))
            os.fsync(out.fileno())
        self.sync_dir(os.path.dirname(target))

    def discard(self, path: str) -> None:
        """Delete a scratch file or tree of ours.

        Raises Refused for anything that does not lie, all links resolved, below a work directory
        (STATE_DIR/work, or .etcd-rescue/work beside the data), and for a tree with a mount in it.
        """
        parent, name = os.path.split(os.path.normpath(path))
        resolved = os.path.join(self.realpath(parent), name)
        ours = f"{self.realpath(STATE_DIR)}/work/"
        if not (resolved.startswith(ours) or "/.etcd-rescue/work/" in resolved):
            raise Refused(f"{path}: not below a work directory of ours", "nothing else is deleted")
        real = self._join(resolved)
        if os.path.isdir(real) and not os.path.islink(real):
            top = os.path.realpath(real)
            mounted = [p for p in mount_points() if f"{p}/".startswith(f"{top}/")]
            if mounted:
                raise Refused(f"{mounted[0]} is mounted below {path}", next=f"umount {mounted[0]}")
            shutil.rmtree(real)
        elif os.path.lexists(real):
            os.unlink(real)

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
