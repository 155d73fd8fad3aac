"""The only door to files and processes of a host, under a root prefix such as /host."""

from __future__ import annotations

import errno
import os
import shutil
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import BinaryIO, Optional

from agent.errors import Damaged, Refused
from agent.host.guarded import DIRECTORY, open_inside, open_ours, split_at_ours
from agent.host.paths import Paths
from agent.host.processes import Completed, Processes, clean_env
from agent.host.reserve import JOURNAL_ROOM, hold_room, reserve_dir, write_all, write_new
from agent.host.syscalls import copy_xattrs, mount_points, rename_noreplace

__all__ = ["STATE_DIR", "Completed", "Host", "clean_env"]

STATE_DIR = "/var/lib/etcd-rescue"
"""Root-owned, 0700: agent, journal, quarantine, backup, work, lock (see ARCHITECTURE.md)."""

_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
_PIECE = 256 * 1024


def _read(file: BinaryIO, most: int) -> bytes:
    """What is there, up to so many bytes. One read(most) would take that much memory at once."""
    pieces: list[bytes] = []
    while most > 0 and (piece := file.read(min(most, _PIECE))):
        pieces.append(piece)
        most -= len(piece)
    return b"".join(pieces)


def _unfinished(name: str) -> str:
    """What a file is called until all of it is there; the kubelet ignores such names."""
    return f".{name}.rescue"


class Host(Paths, Processes):
    """Files and processes of one host. Every path taken or given is the host's own view of it."""

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
        """The file opened for reading bytes. Raises Damaged where it is no regular file."""
        fd = self._open_fd(path, os.O_RDONLY | os.O_NONBLOCK)  # a pipe must not make us wait
        mode = os.fstat(fd).st_mode
        if stat.S_ISREG(mode):
            return os.fdopen(fd, "rb")
        os.close(fd)
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
        raise Damaged(f"{path}: not a regular file")

    def read_bytes(self, path: str, limit: int = 4 * 1024 * 1024) -> bytes:
        """The whole file, which must be regular. Raises Damaged above `limit` bytes."""
        with self.open(path) as file:
            is_large = os.fstat(file.fileno()).st_size > limit  # then not a byte of it is read
            data = b"" if is_large else _read(file, limit + 1)
        if is_large or len(data) > limit:
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
        here = self._nearest(path)
        info = os.statvfs(self.real(here))
        return info.f_bfree * info.f_frsize, info.f_ffree if info.f_files else 2**31

    def device(self, path: str) -> int:
        """st_dev of `path` or of its nearest existing parent."""
        return self.stat(self._nearest(path)).st_dev

    def _nearest(self, path: str) -> str:
        while not self.exists(path):
            path = os.path.dirname(path)
        return path

    # ---- writing -----------------------------------------------------------------------------

    def open_directory(self, path: str, make: bool = False) -> int:
        """A descriptor of a directory, for what is opened, made or moved relative to it.

        In a directory of ours (STATE_DIR, or .etcd-rescue beside the data) no link is followed, and
        it must be ours alone. make: those of it that are missing are made, 0700. Raises Refused.
        """
        ours = split_at_ours(path, STATE_DIR)
        if ours is None:
            return self._open_fd(path, DIRECTORY)
        parent, parts = ours
        return open_ours(self._open_fd(parent, DIRECTORY), parts, parent, make)

    def _open_fd(self, path: str, flags: int) -> int:
        """open(2), links followed; under a prefix so that none leads out, however it is changed."""
        if self.root == "/" or path.startswith("/proc/"):  # whose links openat2 does not follow
            return os.open(self.real(path), flags | os.O_CLOEXEC)
        return open_inside(self.root, path, flags, self.real)

    @contextmanager
    def folder(self, path: str) -> Iterator[tuple[int, str]]:
        """(descriptor of the directory that `path` lies in, its name there); see open_directory."""
        directory, name = os.path.split(os.path.normpath(path))
        fd = self.open_directory(directory)
        try:
            yield fd, name
        finally:
            os.close(fd)

    def makedirs(self, path: str, mode: int = 0o700) -> None:
        """Make `path` and missing parents with `mode`, whatever the umask.

        Raises Refused where something that is no directory is in the way, and for a directory of
        ours (see open_directory) that is a link or not ours alone; those are always 0700.
        """
        ours = split_at_ours(path, STATE_DIR)
        if ours is not None:
            self.makedirs(ours[0], 0o755 if path.startswith(STATE_DIR) else mode)
            os.close(self.open_directory(path, make=True))
            return
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

    def own(self, path: str, uid: int, gid: int) -> None:
        """Give a directory to a user and a group; a link is not followed."""
        fd = os.open(self.real(path), os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        try:
            os.fchown(fd, uid, gid)
            os.fsync(fd)
        finally:
            os.close(fd)

    def write_atomic(
        self,
        path: str,
        data: bytes,
        mode: int = 0o600,
        like: Optional[os.stat_result] = None,
        owner: Optional[tuple[int, int]] = None,
        times: Optional[tuple[int, int]] = None,
    ) -> None:
        """Replace `path` by `data`: dot-file beside it, fsync, rename, fsync of the directory.

        The kubelet ignores dot-files, so a watched directory never shows half a manifest. `like`
        gives owner and mode; else they are `owner` (root) and `mode`. `times`: atime and mtime in
        ns that it has from its first instant. An existing target's xattrs are kept; where it is a
        link, the link stays and what it leads to is replaced.
        """
        with self.folder(self._replaced(path)) as (fd, name):
            whose = (like.st_uid, like.st_gid) if like is not None else owner
            mode = stat.S_IMODE(like.st_mode) if like else mode
            self._replace(fd, name, data, mode, whose, times)
            os.fsync(fd)

    def clear_cut_write(self, path: str) -> None:
        """Remove the dot-file of a `write_atomic` whose agent was killed before the rename.

        For what is taken back without another write of the same path.
        """
        place = self._replaced(path)
        if not self.is_dir(os.path.dirname(place)):
            return
        with self.folder(place) as (fd, name), suppress(FileNotFoundError):
            os.unlink(_unfinished(name), dir_fd=fd)
            os.fsync(fd)

    def _replaced(self, path: str) -> str:
        """What `write_atomic` replaces: where a link leads to, and of ours the path itself."""
        return path if split_at_ours(path, STATE_DIR) is not None else self.realpath(path)

    def _replace(
        self, folder: int, name: str, data: bytes, mode: int,
        owner: Optional[tuple[int, int]], times: Optional[tuple[int, int]],
    ) -> None:  # fmt: skip
        temp = _unfinished(name)
        with suppress(FileNotFoundError):
            os.unlink(temp, dir_fd=folder)  # of an agent that was killed; only one is at work
        fd = write_new(folder, temp, data, self.real(reserve_dir(STATE_DIR)))
        try:
            with os.fdopen(fd, "wb") as file:
                if owner is not None:
                    os.fchown(file.fileno(), *owner)
                os.fchmod(file.fileno(), mode)
                with suppress(FileNotFoundError):
                    copy_xattrs(f"/proc/self/fd/{folder}/{name}", file.fileno())
                if times is not None:
                    os.utime(file.fileno(), ns=times)
                os.fsync(file.fileno())
            os.rename(temp, name, src_dir_fd=folder, dst_dir_fd=folder)
        except BaseException:
            with suppress(FileNotFoundError):
                os.unlink(temp, dir_fd=folder)
            raise

    def rename_new(self, source: str, target: str) -> None:
        """rename(2) that never overwrites, durable: both directories are fsynced.

        Raises Refused where the target exists or lies on another file system.
        """
        with self.folder(source) as (src, old), self.folder(target) as (dst, new):
            try:
                rename_noreplace(old, new, src, dst)
            except OSError as error:
                if error.errno in (errno.EEXIST, errno.EXDEV, errno.EBUSY):
                    raise Refused(
                        f"cannot move {source} to {target}: {error.strerror}",
                        "nothing is ever overwritten",
                    ) from None
                raise OSError(error.errno, error.strerror, source, None, target) from None
            os.fsync(dst)
            os.fsync(src)

    def sync_dir(self, path: str) -> None:
        """fsync(2) of a directory."""
        fd = self.open_directory(path)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    def append_synced(self, path: str, data: bytes, keep: int) -> None:
        """Write `data` after the first `keep` bytes of a file of ours (0600) and fsync it.

        Bytes beyond `keep` are what a crash left of a write; they go. A new file's directory is
        fsynced too. What comes next has its room already, on a disk that is full by then.
        """
        is_new = not self.exists(path)
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK
        with self.folder(path) as (folder, name):
            fd = os.open(name, flags, 0o600, dir_fd=folder)
            try:
                os.fchmod(fd, 0o600)
                if os.fstat(fd).st_size != keep:
                    os.ftruncate(fd, keep)
                hold_room(fd, keep + len(data) + JOURNAL_ROOM)
                write_all(fd, data)
                os.fsync(fd)
            finally:
                os.close(fd)
            if is_new:
                os.fsync(folder)

    def mount_point(self, path: str) -> str:
        """The real mount point that holds `path` (or its nearest existing parent).

        A bind mount has its parent's st_dev and yet rename(2) does not cross it, so mountinfo
        (proc_pid_mountinfo(5)) is asked, not st_dev.
        """
        here = self._nearest(path)
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
        with self.folder(source) as (fd, name):
            os.unlink(name, dir_fd=fd)
            os.fsync(fd)

    def _copy_over(self, source: str, temp: str, target: str) -> None:
        with suppress(FileNotFoundError):
            self._unlink(temp)  # half a copy, of a run that was killed
        self.copy_file(source, temp)
        if self.read_bytes(source) != self.read_bytes(temp):
            raise Damaged(f"{temp} differs from {source} after the copy")
        try:
            self.rename_new(temp, target)
        except Refused:
            self._unlink(temp)
            raise Refused(f"cannot move {source} to {target}: File exists") from None

    def _unlink(self, path: str) -> None:
        with self.folder(path) as (fd, name):
            os.unlink(name, dir_fd=fd)

    def copy_file(self, source: str, target: str) -> None:
        """Copy one regular file to a new name: content, owner, mode, xattrs, times; fsynced."""
        with self.open(source) as file, self.folder(target) as (folder, name):
            info = os.fstat(file.fileno())
            fd = os.open(name, _NEW_FILE, 0o600, dir_fd=folder)
            with os.fdopen(fd, "wb") as out:
                shutil.copyfileobj(file, out, 1 << 20)
                out.flush()
                os.fchown(out.fileno(), info.st_uid, info.st_gid)
                os.fchmod(out.fileno(), stat.S_IMODE(info.st_mode))
                copy_xattrs(file.fileno(), out.fileno())
                os.utime(out.fileno(), ns=(info.st_atime_ns, info.st_mtime_ns))
                os.fsync(out.fileno())
            os.fsync(folder)

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
            with self.folder(resolved) as (fd, name):
                shutil.rmtree(f"/proc/self/fd/{fd}/{name}")
        elif os.path.lexists(real):
            self._unlink(resolved)

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
