"""One control-plane host: power, network, files, processes, and faults of its etcd."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from tests.lab import cgroups, enclosure, names, network
from tests.lab.commands import Argument, run
from tests.lab.disk import DATA_DIR, Disk

_LONG_PAUSE = 0.2
ALL_PORTS: tuple[int, ...] = ()
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def wait_until(
    condition: Callable[[], bool], timeout: float, what: str, pause: float = 0.02
) -> None:
    """Poll until a condition holds; TimeoutError says what was waited for.

    pause: seconds between two looks, the least. A look that costs much (a process in a host) is
    repeated less often, so that it leaves the cores to what is waited for.
    """
    deadline = time.monotonic() + timeout
    while True:
        begun = time.monotonic()
        if condition():
            return
        now = time.monotonic()
        if now > deadline:
            raise TimeoutError(f"after {timeout:g} s still waiting for {what}")
        time.sleep(max(pause, min(now - begun, _LONG_PAUSE)))


class Host:
    """A whole machine under systemd-nspawn, with a network namespace and a disk of its own."""

    def __init__(self, disk: Disk) -> None:
        self.disk = disk
        self.index = disk.index
        self.name = names.host_name(disk.index)
        self.address = names.host_address(disk.index)
        self._nspawn: subprocess.Popen[bytes] | None = None

    def __repr__(self) -> str:
        return f"Host({self.name})"

    # Power

    @property
    def leader(self) -> int | None:
        """The process in the enclosure that is the host's process 1; None while it is off."""
        nspawn = self._nspawn_pid()
        return _find_init(nspawn) if nspawn else None

    @property
    def is_up(self) -> bool:
        """Whether the host has power."""
        return self.leader is not None

    def _pid_file(self) -> Path:
        return self.disk.top / "nspawn.pid"

    def _nspawn_pid(self) -> int | None:
        try:
            pid = int(self._pid_file().read_text())
            arguments = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        except (OSError, ValueError):
            return None
        return pid if f"--machine={self.name}".encode() in arguments else None

    def boot(self, *, wait: bool = True, timeout: float = 30) -> None:
        """Switch the host on, with the disk as it was; returns when SSH answers."""
        if self.is_up:
            raise RuntimeError(f"{self.name} is up already")
        group = f"{enclosure.group_name()}/{self.name}"
        cgroups.remove(group)
        groups = cgroups.create(group)
        with (self.disk.top / "console.log").open("ab") as console:
            self._nspawn = subprocess.Popen(
                self._nspawn_command(),
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=console,
                start_new_session=True,
                preexec_fn=lambda: cgroups.enter(groups),
                env={"PATH": _PATH, "SYSTEMD_NSPAWN_API_VFS_WRITABLE": "1"},
            )
        self._pid_file().write_text(str(self._nspawn.pid))
        if wait:
            self.wait_for_ssh(timeout)

    def _nspawn_command(self) -> list[str]:
        binds = [f"--bind={source}:{point}" for point, source in self.disk.binds().items()]
        return [
            "systemd-nspawn",
            "--quiet",
            "--register=no",
            "--keep-unit",
            f"--directory={self.disk.root}",
            f"--machine={self.name}",
            f"--hostname={self.name}",
            f"--network-namespace-path={network.namespace_path(self.name)}",
            "--resolv-conf=off",
            "--timezone=off",
            *binds,
            "--capability=all",
            "--system-call-filter=@keyring bpf",
            "--boot",
        ]

    def wait_for_ssh(self, timeout: float = 30) -> None:
        """Wait until the host's SSH server answers, seen from the host itself."""
        wait_until(lambda: self.is_listening(22), timeout, f"SSH on {self.name}", pause=0.1)

    def is_listening(self, port: int) -> bool:
        """Whether something in the host listens on a TCP port."""
        leader = self.leader
        if leader is None:
            return False
        listening = f":{port:04X} "
        try:
            tables = [Path(f"/proc/{leader}/net/{name}").read_text() for name in ("tcp", "tcp6")]
        except OSError:
            return False
        rows = [line.split() for table in tables for line in table.splitlines()[1:]]
        return any(row[3] == "0A" and f"{row[1]} ".endswith(listening) for row in rows)

    def power_cut(self) -> None:
        """Take the power away: every process ends at once, and the disk stays as it is."""
        nspawn = self._nspawn_pid()
        if nspawn is None:
            return
        leader = _find_init(nspawn)
        # The init first: killing only nspawn would leave the host running.
        for pid in (leader, nspawn):
            if pid:
                _kill(pid)
        killed = [pid for pid in (leader, nspawn) if pid]
        wait_until(lambda: not any(map(_is_alive, killed)), 20, f"the end of {self.name}")
        self._pid_file().unlink(missing_ok=True)
        if self._nspawn:
            self._nspawn.wait()
            self._nspawn = None

    # Inside

    def enter_command(self, argv: Sequence[Argument]) -> list[str]:
        """The argv that runs a command inside the host as root."""
        leader = self.leader
        if leader is None:
            raise RuntimeError(f"{self.name} is off")
        enter = ["nsenter", "-t", str(leader), "-a"]
        environment = ["env", "-i", f"PATH={_PATH}", "HOME=/root", "LANG=C.UTF-8", "TERM=xterm"]
        return [*enter, *environment, *map(str, argv)]

    def run(
        self,
        argv: Sequence[Argument],
        *,
        check: bool = True,
        stdin: str | None = None,
        timeout: float | None = 60,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command inside the host as root."""
        return run(self.enter_command(argv), check=check, stdin=stdin, timeout=timeout)

    def path(self, inside: str | Path) -> Path:
        """The real path of one of the host's files, as this side sees it (host up or down).

        The host's /run, /tmp, /proc and /dev live only inside: use run() for them.
        """
        return self.disk.path(inside)

    def read(self, inside: str | Path) -> bytes:
        """The content of one of the host's files."""
        return self.path(inside).read_bytes()

    def write(self, inside: str | Path, data: bytes | str, mode: int = 0o600) -> None:
        """Replace one of the host's files in one step (a dot-file beside it, then a rename)."""
        target = self.path(inside)
        target.parent.mkdir(parents=True, exist_ok=True)
        new = target.with_name(f".{target.name}.new")
        new.write_bytes(data.encode() if isinstance(data, str) else data)
        new.chmod(mode)
        new.rename(target)

    # Network

    def cut_network(
        self, ports: Sequence[int] | None = None, peers: Sequence[str | Host] | None = None
    ) -> None:
        """Cut everything; or only some TCP ports, or only some peers (names, addresses, hosts)."""
        if not ports and not peers:
            network.unplug(self.name)
            return
        network.drop(self.name, list(ports or ALL_PORTS), [_address(p) for p in peers or ()])

    def heal_network(self) -> None:
        """Undo every cut on this host's side."""
        network.heal(self.name)

    # etcd and the kubelet

    def etcd_pids(self) -> list[int]:
        """The host's etcd processes, by their number in the enclosure."""
        leader = self.leader
        if leader is None:
            return []
        home = _network_of(leader)
        return [
            int(folder.name)
            for folder in Path("/proc").glob("[0-9]*")
            if _is_member(folder) and _network_of(int(folder.name)) == home
        ]

    def stop_etcd_kill9(self) -> None:
        """SIGKILL every etcd process; the kubelet will start the container again."""
        for pid in self.etcd_pids():
            _kill(pid)

    def crash_etcd(self) -> None:
        """Destroy the write-ahead log, so that etcd crash-loops from now on."""
        segments = sorted(self.path(f"{DATA_DIR}/member/wal").glob("*.wal"))
        for segment in segments:
            with segment.open("r+b") as file:
                file.seek(128)
                file.write(b"\xa5" * 8192)
        self.stop_etcd_kill9()

    def wipe_etcd(self) -> None:
        """Empty the data directory and kill etcd."""
        for entry in self.path(DATA_DIR).iterdir():
            shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
        self.stop_etcd_kill9()

    def kubelet_restart(self) -> None:
        """Restart the kubelet, which clears its back-off."""
        self.run(["systemctl", "restart", "kubelet"])

    def ssh_answers(self, timeout: float = 1.0) -> bool:
        """Whether the operator can open a connection to the host's SSH port."""
        return self.answers(22, timeout)

    def answers(self, port: int, timeout: float = 1.0) -> bool:
        """Whether the operator can open a TCP connection to a port of the host."""
        try:
            with socket.create_connection((self.address, port), timeout):
                return True
        except OSError:
            return False


def _address(peer: str | Host) -> str:
    if isinstance(peer, Host):
        return peer.address
    known = {**names.all_hosts(), "operator": names.OPERATOR_ADDRESS}
    return known.get(peer, peer)


def _kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def _is_alive(pid: int) -> bool:
    """Whether a process still runs; a zombie that somebody else has to reap does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def _find_init(nspawn: int) -> int | None:
    """The descendant of nspawn that is process 1 of a pid namespace below ours."""
    pending = [nspawn]
    while pending:
        pid = pending.pop(0)
        try:
            children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
            status = Path(f"/proc/{pid}/status").read_text()
        except OSError:
            continue
        inside = next(line.split()[1:] for line in status.splitlines() if line[:6] == "NSpid:")
        if len(inside) > 1 and inside[-1] == "1" and pid != nspawn:
            return pid
        pending += [int(child) for child in children]
    return None


def _network_of(pid: int) -> str:
    try:
        return os.readlink(f"/proc/{pid}/ns/net")
    except OSError:
        return ""


def _is_member(folder: Path) -> bool:
    """Whether a process is an etcd that is a member: a proxy for metrics is none."""
    if _command_name(folder) != "etcd":
        return False
    try:
        return b"grpc-proxy" not in (folder / "cmdline").read_bytes().split(b"\0")
    except OSError:
        return False


def _command_name(folder: Path) -> str:
    try:
        return (folder / "comm").read_text().strip()
    except OSError:
        return ""
