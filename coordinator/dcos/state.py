"""What this machine keeps of DC/OS rescues, which have no host to keep it on: journals and a lock.

Under $XDG_STATE_HOME/etcd-rescue/dcos (by default ~/.local/state/…), 0700. Below it lies what would
lie on a host: var/lib/etcd-rescue/journal/PLAN.jsonl, the same records, fsynced around every act.
Another operator's machine knows nothing of it.
"""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from agent.errors import Damaged, Locked, RescueError, UsageError
from agent.host import Host
from agent.records.journal import JOURNAL_DIR, Journal, read_journals

_EFFECTS = ("dcos_scale_up", "dcos_watch")
_SECRETS = ".secrets-"


def state_dir() -> Path:
    """The directory, not yet made. Raises UsageError for an XDG_STATE_HOME that is no full path."""
    home = os.environ.get("XDG_STATE_HOME") or "~/.local/state"
    path = Path(home).expanduser()
    if not path.is_absolute():
        raise UsageError(f"XDG_STATE_HOME {home!r} is not an absolute path")
    return path / "etcd-rescue" / "dcos"


class State:
    """The directory, made and checked to be this user's alone."""

    def __init__(self, path: Path) -> None:
        self.path, self.host = path, Host(str(path))

    @classmethod
    def open(cls) -> State:
        """Make it where it is missing. Raises UsageError, Refused where it is not ours alone."""
        path = state_dir()
        try:
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
            info = path.lstat()
        except OSError as error:
            raise UsageError(f"{path}: {error.strerror}", next="XDG_STATE_HOME=DIR fab …") from None
        if path.is_symlink() or info.st_uid != os.geteuid() or info.st_mode & 0o077:
            raise UsageError(
                f"{path} is not this user's alone", "what was done is written there",
                f"ls -ld {path}; chmod 700 {path}",
            )  # fmt: skip
        return cls(path)

    @contextmanager
    def locked(self, service: str) -> Iterator[None]:
        """Hold this machine's lock of a service. Raises Locked where another run has it."""
        fd = os.open(self.path / f"{service}.lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._discard_secrets()
            yield
        except BlockingIOError:
            raise Locked(
                f"another run on this machine works on {service}",
                "two at once would undo each other's steps",
                "wait for its end",
            ) from None
        finally:
            os.close(fd)

    @contextmanager
    def secret_file(self, lines: tuple[str, ...]) -> Iterator[Path]:
        """A file of ours (0600) with these lines, gone after the block."""
        fd, name = tempfile.mkstemp(prefix=_SECRETS, dir=self.path)
        try:
            with os.fdopen(fd, "w") as file:
                file.write("".join(f"{line}\n" for line in lines))
            yield Path(name)
        finally:
            Path(name).unlink(missing_ok=True)

    def _discard_secrets(self) -> None:
        for path in self.path.glob(f"{_SECRETS}*"):
            path.unlink(missing_ok=True)  # of a run that was killed; only one is at work

    # ---- journals ----------------------------------------------------------------------------

    def journals(self) -> list[Journal]:
        """All that can be read, oldest first. Raises Damaged for one that cannot."""
        found = []
        for name in self.host.listdir(JOURNAL_DIR):
            if name.endswith(".jsonl"):
                found.append(self._journal(name.removesuffix(".jsonl")))
        return sorted(found, key=lambda journal: journal.records[0].time)

    def _journal(self, plan_id: str) -> Journal:
        try:
            return Journal.open(self.host, plan_id)
        except Damaged as error:
            path = self.path / JOURNAL_DIR.lstrip("/") / f"{plan_id}.jsonl"
            way_out = f"look at it, and at the cluster; then: mv {path} {path}.damaged"
            raise Damaged(error.seen, error.why, way_out) from None

    def of(self, plan_id: str) -> list[Journal]:
        """Journals whose plan's ID begins so."""
        return [journal for journal in self.journals() if journal.plan.id.startswith(plan_id)]

    def open_ones(self, service: str = "") -> list[Journal]:
        """Journals of plans that are neither complete nor closed."""
        found = [journal for journal in self.journals() if journal.state == "open"]
        return [j for j in found if not service or service in j.plan.hosts]

    def failures(self, service: str, cluster: str) -> int:
        """How often in a row the scale-up of this service failed, as far as this machine knows."""
        count = 0
        for journal in self.journals():
            plan = journal.plan
            if plan.recipe != "dcos-scale-up" or plan.hosts.get(service) != cluster:
                continue
            scaling = {step.id for step in plan.steps() if step.action in _EFFECTS}
            for record in journal.records:
                if record.kind == "failed" and record.step in scaling:
                    count += 1
                elif record.kind == "complete":
                    count = 0
        return count


def rows() -> list[dict[str, object]]:
    """The journals of this machine as `fab journal` lists those of hosts; none where none is."""
    path = state_dir()
    if not path.is_dir():
        return []
    found = read_journals(Host(str(path)))
    return [{"host": "this machine", **facts.__dict__} for facts in found]


def has_open_plan() -> bool:
    """True where this machine's journals have an open plan; False too where they cannot be read."""
    try:
        return state_dir().is_dir() and bool(State(state_dir()).open_ones())
    except (RescueError, OSError):
        return False


def knows(plan_id: str) -> bool:
    """True where a plan of that ID, or beginning of one, was made on this machine."""
    path = state_dir()
    if not plan_id or not path.is_dir():
        return False
    try:
        return bool(State(path).of(plan_id))
    except Damaged:
        return True  # what is wrong with it is told by who opens it
