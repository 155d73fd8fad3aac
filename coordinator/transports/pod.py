"""Debug pods: a privileged pod on a node, made by oc or kubectl, and processes run in it.

The pod's own command is `rescue-agent hold`: it says that it is ready, keeps the pod for as long
as somebody works in it, and ends by itself. What works there is started by `exec`, and not attached
to the pod's command: whatever that says is in the node's log of the pod, and readable for all who
may read logs; what an agent says may be a key.
"""

from __future__ import annotations

import logging
import os
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence

from agent.errors import Refused, Unreachable
from coordinator.hosts import HostSpec
from coordinator.streams import BulkStream, ProcessStream
from coordinator.transports.line import PROGRAM, PYTHON_ARGS, CommandLine
from coordinator.transports.pod_tools import TOOLS, PodName, PodWish, Tool, failed

READY = b"etcd-rescue: ready"
"""What `rescue-agent hold` says first (agent/entry/hold.py)."""

_START_SECONDS = 60
_ASK_SECONDS = 15.0
_CANNOT_START = "is unable to start due to an error"
_END_SECONDS = 15.0
_STEP = 0.1
_MAX_SAID = 1 << 16
_PYTHON = ("python3", *PYTHON_ARGS.split(), PROGRAM)
_HOLD = ("rescue-agent", "hold")
logger = logging.getLogger(__name__)


class Pod:
    """A debug pod that is ready. Not made anew: one that is gone stays `lost`."""

    def __init__(self, tool: Tool, host: str) -> None:
        """Make it and wait until it is ready. Raises Unreachable, Refused."""
        self._tool, self.host = tool, host
        self.lost = False
        self._require_ready()
        self._debug = _Client(tool.debug(host, _HOLD))
        try:
            self.name = self._made()
            if not tool.is_oc:
                self._wait()
        except BaseException:
            self._give_up()
            raise

    def _require_ready(self) -> None:
        """A pod for a host that is off would be waited for in vain."""
        code, said = _run(self._tool.ready(self.host), _ASK_SECONDS)
        if code != 0 or said.strip() != "True":
            said = f"Ready={said.strip() or 'unknown'}" if code == 0 else said
            raise failed(self.host, self._tool, said)

    def _give_up(self) -> None:
        """Interrupt oc, which then removes the pod, and not the namespace it may have made."""
        self._debug.interrupt()
        self._debug.wait(_END_SECONDS)
        made = self._tool.made(self._debug.said()[1]) if self._tool.is_oc else None
        if made and made.namespace != self._tool.wish.namespace:
            _run(self._tool.delete_namespace(made), _END_SECONDS)
        self._debug.close()

    def _made(self) -> PodName:
        """The pod's name, once it is made; with oc, once it is ready.

        kubectl tells the name before it asks the API to make the pod, and ends when that is done.
        """
        deadline = time.monotonic() + _START_SECONDS
        while time.monotonic() < deadline:
            code = self._debug.wait(_STEP)
            out, err = self._debug.said()
            name = self._tool.made(err if self._tool.is_oc else out)
            is_there = READY.decode() in out if self._tool.is_oc else code == 0
            if name and is_there:
                return name
            if code is not None or _CANNOT_START in err:
                raise failed(self.host, self._tool, err or out)
        raise failed(self.host, self._tool, self._debug.said()[1] or "it is not ready")

    def _wait(self) -> None:
        argv = self._tool.wait(self.name, _START_SECONDS)
        code, said = _run(argv, _START_SECONDS + _ASK_SECONDS)
        if code != 0:
            _run(self._tool.delete(self.name), _END_SECONDS)
            raise failed(self.host, self._tool, f"{self._debug.said()[1]}\n{said}")

    def exec(self) -> ProcessStream:
        """Start the Python that waits for the bootstrap in the pod."""
        return _Inside(self)

    def argv(self) -> list[str]:
        """What starts that Python."""
        return self._tool.exec(self.name, _PYTHON)

    def close(self) -> None:
        """See it removed: it ends by itself now that nobody works in it.

        oc removes what it made. One in which an agent still finishes a step ends after that, and
        oc, which is left to it, removes it then; kubectl leaves it, ended, for the operator.
        """
        if self._tool.is_oc:
            self._debug.wait(_END_SECONDS)
        else:
            argv = self._tool.wait_end(self.name, int(_END_SECONDS))
            code, said = _run(argv, _END_SECONDS + _ASK_SECONDS)
            if code == 0:
                _run(self._tool.delete(self.name), _END_SECONDS)
            else:
                logger.warning("%s: pod %s is left there: %s", self.host, self.name.name, said)
        self._debug.close()


class _Client:
    """The client that makes a pod. It outlives us, and then removes the pod that has ended.

    What it says goes into files: a pipe that nobody reads would end it before it has removed it.
    """

    def __init__(self, argv: Sequence[str]) -> None:
        self._files = [tempfile.TemporaryFile() for _ in range(2)]  # noqa: SIM115 (see close)
        try:
            self._process = subprocess.Popen(
                argv, stdin=subprocess.DEVNULL, stdout=self._files[0], stderr=self._files[1],
                start_new_session=True,  # Ctrl-C is for the coordinator
            )  # fmt: skip
        except OSError as error:
            self.close()
            raise Unreachable(f"cannot start {argv[0]}: {error.strerror}") from None

    def said(self) -> tuple[str, str]:
        """What stdout and stderr have, from their beginning."""
        out, err = (os.pread(file.fileno(), _MAX_SAID, 0) for file in self._files)
        return out.decode(errors="replace"), err.decode(errors="replace")

    def wait(self, timeout: float) -> int | None:
        """The exit code; None where it has not ended within `timeout` seconds."""
        try:
            return self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            return None

    def interrupt(self) -> None:
        """Do to it what Ctrl-C would."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)

    def close(self) -> None:
        """Let go of what it says; it is not ended."""
        for file in self._files:
            file.close()


class _Inside(ProcessStream):
    """A process in a pod; where it fails, the pod is not used for another one."""

    def __init__(self, pod: Pod) -> None:
        super().__init__(pod.argv())
        self._pod = pod

    def close(self) -> None:
        """See ByteStream."""
        super().close()
        self._pod.lost = self._pod.lost or self.wait(0) not in (0, None)


def _run(argv: list[str], timeout: float) -> tuple[int, str]:
    """(exit code, what it said) of a command; on stderr where it failed."""
    try:
        done = subprocess.run(
            argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout,
            check=False,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        return 1, str(error)
    return done.returncode, done.stdout if done.returncode == 0 else done.stderr or done.stdout


class Pods:
    """The debug pods of a run, one a node, shared by all that works there at the same time."""

    def __init__(self, wish: PodWish | None = None) -> None:
        self.wish = wish or PodWish()
        self._guard = threading.Lock()
        self._locks: dict[str, threading.Lock] = {}
        self._used: dict[str, tuple[Pod, int]] = {}

    def take(self, node: str) -> Pod:
        """The pod of a node, made if there is none. Raises Unreachable, Refused."""
        with self._lock(node):
            pod, users = self._used.get(node, (None, 0))
            if pod is None or pod.lost:
                pod, users = Pod(self._tool(), node), 0
            self._used[node] = (pod, users + 1)
            return pod

    def give_back(self, pod: Pod) -> None:
        """Let go of a pod; the last one to do so sees it removed."""
        with self._lock(pod.host):
            current, users = self._used.get(pod.host, (None, 0))
            if current is pod and users > 1:
                self._used[pod.host] = (pod, users - 1)
                return
            if current is pod:
                del self._used[pod.host]
        pod.close()

    def _lock(self, node: str) -> threading.Lock:
        with self._guard:
            return self._locks.setdefault(node, threading.Lock())

    def _tool(self) -> Tool:
        wanted = (self.wish.tool,) if self.wish.tool else TOOLS
        for name in wanted:
            program = shutil.which(name)
            if program:
                return Tool(program, self.wish)
        raise Refused(
            f"there is no {' and no '.join(wanted)} on this machine",
            "debug pods are made by one of them",
            "install it, or use SSH: the same command without --via",
        )


class PodLine:
    """Starts processes in a node's debug pod; see Line."""

    words: tuple[str, ...] = ("--held",)
    has_shell = False

    def __init__(self, pods: Pods, spec: HostSpec) -> None:
        """Raises Unreachable, Refused."""
        self._pods = pods
        self._pod = pods.take(spec.name)

    def start(self, command: CommandLine) -> ProcessStream:
        """See Line. The image has no login shell, and needs none."""
        return self._pod.exec()

    def start_bulk(self, command: CommandLine) -> Iterator[BulkStream]:
        """See Line."""
        yield self.start(command)

    def close(self) -> None:
        """See Line."""
        self._pods.give_back(self._pod)
