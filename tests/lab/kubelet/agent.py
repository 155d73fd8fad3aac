"""The stand-in's main loop: the manifest directory against the workers."""

from __future__ import annotations

import socket
import time
from pathlib import Path

from . import klog, runtime
from .manifest import StaticPod, directory_state, read_directory
from .slots import Slots
from .timing import KubeletTiming
from .worker import PodWorker

MANIFESTS = Path("/etc/kubernetes/manifests")


class Agent:
    """Keeps one worker per wanted pod."""

    def __init__(self, timing: KubeletTiming, directory: Path = MANIFESTS) -> None:
        self._timing = timing
        self._directory = directory
        self._node = socket.gethostname()
        self._slots = Slots()
        self._workers: dict[str, PodWorker] = {}
        self._orphans: set[str] = set()

    def run(self) -> None:
        """Adopt what already runs, then follow the directory for ever."""
        runtime.wait_until_ready()
        state = directory_state(self._directory)
        self._adopt(self._read())
        while True:
            time.sleep(self._timing.poll)
            seen = directory_state(self._directory)
            if seen != state:
                state = seen
                self._update(self._read())

    def _read(self) -> list[StaticPod]:
        return read_directory(self._directory, self._node, self._report)

    @staticmethod
    def _report(path: Path, error: Exception) -> None:
        klog.error("Could not process manifest file", path=path, err=error)

    def _adopt(self, pods: list[StaticPod]) -> None:
        """Go on with running pods; end those whose manifest went away meanwhile."""
        wanted = {pod.uid for pod in pods}
        # Of an API's pods it knows nothing after its start: it leaves them alone until it does.
        found = [s for s in runtime.list_sandboxes() if s.ready and s.uid and s.source != "api"]
        running = {s.uid: s for s in found}
        for uid, sandbox in running.items():
            if uid not in wanted:
                orphan = StaticPod(
                    uid, sandbox.name, sandbox.namespace, "", {"containers": []}, {}, {}
                )
                klog.info(
                    "Killing orphaned pod", pod=f"{orphan.namespace}/{orphan.name}", podUID=uid
                )
                self._start(orphan).want(False)
                self._orphans.add(uid)
        self._update(sorted(pods, key=lambda pod: pod.uid not in running))

    def _update(self, pods: list[StaticPod]) -> None:
        wanted = {pod.uid for pod in pods}
        for uid, worker in self._workers.items():
            if uid not in wanted and worker.is_alive():
                worker.want(False)
        for pod in pods:
            worker_ = self._workers.get(pod.uid)
            # What ends an orphan knows nothing of how to run it; the pod's own worker waits for it.
            is_orphan = pod.uid in self._orphans
            self._orphans.discard(pod.uid)
            if worker_ is None or is_orphan or not worker_.want(True):
                klog.info("SyncLoop ADD", source="file", pods=[f"{pod.namespace}/{pod.name}"])
                self._start(pod)

    def _start(self, pod: StaticPod) -> PodWorker:
        predecessor = self._workers.get(pod.uid)
        worker = PodWorker(pod, self._node, self._timing, self._slots, predecessor)
        if predecessor is None:
            self._slots.join(pod)
        self._workers[pod.uid] = worker
        worker.start()
        return worker
