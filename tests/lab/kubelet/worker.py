"""One pod's worker: a thread that keeps its containers running, and later ends them."""

from __future__ import annotations

import os
import select
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from . import cri_config, klog, runtime
from .backoff import BackOff
from .manifest import StaticPod
from .slots import Slots
from .timing import KubeletTiming

_RETRY = 1.0
_REPEAT_LOG = 10.0


class PodWorker(threading.Thread):
    """Runs the pod of one UID for as long as it is wanted.

    Only the worker that holds the slot of the pod's full name has containers; it gives the slot up
    when its containers have ended and the teardown time has passed.
    """

    def __init__(
        self,
        pod: StaticPod,
        node: str,
        timing: KubeletTiming,
        slots: Slots,
        predecessor: PodWorker | None = None,
    ) -> None:
        super().__init__(name=pod.full_name, daemon=True)
        self.pod = pod
        self._node = node
        self._timing = timing
        self._slots = slots
        # An earlier worker of this UID that still tidies up.
        self._predecessor = predecessor
        self._changed = threading.Condition()
        self._wake = os.eventfd(0)
        self._wanted = True
        self._finished = False
        self._unwanted_at = time.monotonic()
        self._backoffs: dict[str, BackOff] = {}
        # Containers that were ended with the pod: their end is no crash.
        self._ended: set[str] = set()
        self._inits_done: set[str] = set()

    def want(self, wanted: bool) -> bool:
        """Say whether the pod shall run; False where the worker has already finished."""
        with self._changed:
            if self._finished:
                return False
            if self._wanted and not wanted:
                self._unwanted_at = time.monotonic()
            if self._wanted != wanted:
                self._wanted = wanted
                os.eventfd_write(self._wake, 1)
                self._changed.notify_all()
            return True

    def run(self) -> None:
        """Take the slot, run, terminate; again where the pod was wanted back in the meantime."""
        if self._predecessor:
            self._predecessor.join()
        while not self._finished:
            if self._slots.acquire(self.pod, lambda: self._wanted):
                self._live()
                self._slots.release(self.pod)
            else:
                self._finish_unless_wanted()

    def _finish_unless_wanted(self) -> None:
        with self._changed:
            self._finished = not self._wanted

    def _live(self) -> None:
        while True:
            while self._wanted:
                self._attempt(self._sync)
            self._attempt(self._terminate)
            if not self._wanted_back():
                break
        self._attempt(self._remove_everything)

    def _attempt(self, step: Callable[[], None]) -> None:
        try:
            step()
        except (runtime.RuntimeFailure, OSError, KeyError, ValueError) as error:
            klog.error(
                "Error syncing pod, skipping", err=error, pod=self._reference, podUID=self.pod.uid
            )
            self._pause(_RETRY)

    @property
    def _reference(self) -> str:
        return f"{self.pod.namespace}/{self.pod.name}"

    def _pause(self, seconds: float) -> None:
        """Sleep, but no longer than until somebody changes what is wanted."""
        with self._changed:
            before = self._wanted
            self._changed.wait_for(lambda: self._wanted != before, seconds)

    # Running

    def _sync(self) -> None:
        """Bring the pod up and wait until something about it changes."""
        sandbox, config = self._ensure_sandbox()
        if not self._has_run_inits(sandbox, config):
            return
        watched: dict[int, str] = {}
        waits = []
        known = runtime.list_containers(self.pod.uid)
        try:
            for spec in self.pod.spec["containers"]:
                process, wait = self._ensure_container(spec, sandbox, config, known)
                if process is not None:
                    watched[process] = str(spec["name"])
                # A process that is gone already is looked at again at once.
                waits.append(wait or (0.1 if process is None else None))
            # While every container runs there is nothing to do until one ends.
            self._watch(list(watched), min((w for w in waits if w), default=None))
        finally:
            for descriptor in watched:
                os.close(descriptor)

    def _has_run_inits(self, sandbox: str, config: dict[str, Any]) -> bool:
        """Run the init containers one after another; True once all have ended with success.

        Once one of the others exists in this sandbox they are not looked at any more.
        """
        specs = self.pod.spec.get("initContainers") or []
        if not specs or sandbox in self._inits_done:
            return True
        own = {str(spec["name"]) for spec in self.pod.spec["containers"]}
        known = [c for c in runtime.list_containers(self.pod.uid) if c.sandbox == sandbox]
        if not any(c.name in own for c in known):
            for spec in specs:
                if not self._ended_well(spec, sandbox, config, known):
                    return False
        self._inits_done.add(sandbox)
        return True

    def _ended_well(
        self,
        spec: dict[str, Any],
        sandbox: str,
        config: dict[str, Any],
        known: list[runtime.Container],
    ) -> bool:
        """Whether an init container has done its work; started, waited for, where it has not."""
        name = str(spec["name"])
        for each in known:
            if each.name == name and not each.running and runtime.exit_code(each.id) == 0:
                return True
        listed = runtime.list_containers(self.pod.uid)  # of earlier sandboxes, too
        process, wait = self._ensure_container(spec, sandbox, config, listed)
        if process is not None:
            try:
                self._watch([process], None)
            finally:
                os.close(process)
        elif wait:
            self._watch([], wait)
        newest = next((c for c in runtime.list_containers(self.pod.uid) if c.name == name), None)
        return bool(newest and not newest.running and runtime.exit_code(newest.id) == 0)

    def _watch(self, processes: list[int], timeout: float | None) -> None:
        ready, _, _ = select.select([*processes, self._wake], [], [], timeout)
        if self._wake in ready:
            os.eventfd_read(self._wake)

    def _ensure_sandbox(self) -> tuple[str, dict[str, Any]]:
        known = runtime.list_sandboxes(self.pod.uid)
        newest = max((s.attempt for s in known), default=-1)
        ready = [s for s in known if s.ready and s.attempt == newest]
        if ready:
            return ready[0].id, cri_config.sandbox_config(self.pod, newest, self._node)
        config = cri_config.sandbox_config(self.pod, newest + 1, self._node)
        cri_config.prepare_host_paths(self.pod)
        cri_config.log_directory(self.pod).mkdir(parents=True, exist_ok=True)
        sandbox = runtime.run_sandbox(config)
        klog.info("Created PodSandbox for pod", pod=self._reference, sandboxID=sandbox)
        return sandbox, config

    def _ensure_container(
        self,
        spec: dict[str, Any],
        sandbox: str,
        config: dict[str, Any],
        listed: list[runtime.Container],
    ) -> tuple[int | None, float | None]:
        """Return an open pidfd of the container, or how long it has to wait for its start.

        listed: all containers of the pod, as they were a moment ago.
        """
        name = str(spec["name"])
        known = [c for c in listed if c.name == name]
        running = [c for c in known if c.running and c.sandbox == sandbox]
        if running:
            return self._open_process(running[0].id), None
        crashed = [c.id for c in known[:1] if c.id not in self._ended]
        if crashed and (wait := self._backoff_wait(name, crashed[0])):
            return None, wait
        # Like the kubelet, keep the last ended one for those who look with `ps -a`.
        for old in known[1:]:
            runtime.remove_container(old.id)
        attempt = known[0].attempt + 1 if known else 0
        container = cri_config.container_config(self.pod, spec, attempt)
        container["image"]["image"] = runtime.image_id(str(spec["image"]))
        new = runtime.start_container(sandbox, container, config)
        klog.info("Started container", pod=self._reference, containerName=name, containerID=new)
        return self._open_process(new), None

    @staticmethod
    def _open_process(container: str) -> int | None:
        try:
            process = runtime.process_of(container)
            return os.pidfd_open(process) if process else None
        except ProcessLookupError:
            return None

    def _backoff_wait(self, name: str, ended: str) -> float:
        """How long the dead container has to wait; 0 means: start it now."""
        timing = self._timing
        backoff = self._backoffs.setdefault(name, BackOff(timing.backoff_base, timing.backoff_max))
        remaining = backoff.remaining(runtime.finished_at(ended), time.time())
        if remaining <= 0:
            backoff.advance(time.time())
            return 0.0
        reason = (
            f"back-off {klog.duration(backoff.current)} restarting failed container={name} "
            f"pod={self.pod.full_name}({self.pod.uid})"
        )
        klog.error(
            "Error syncing pod, skipping",
            err=f'failed to "StartContainer" for "{name}" with CrashLoopBackOff: "{reason}"',
            pod=self._reference,
            podUID=self.pod.uid,
        )
        return min(remaining, _REPEAT_LOG)

    # Ending

    def _terminate(self) -> None:
        """End containers and sandboxes gracefully; what they were stays listed as ended.

        All containers at the same time, as the kubelet does (killContainersWithSyncResult).
        """
        known = runtime.list_containers(self.pod.uid)
        self._ended |= {container.id for container in known}
        threads = [
            threading.Thread(target=self._attempt, args=(partial(self._end_container, container),))
            for container in known
            if container.running
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for sandbox in runtime.list_sandboxes(self.pod.uid):
            if sandbox.ready:
                runtime.stop_sandbox(sandbox.id)

    def _end_container(self, container: runtime.Container) -> None:
        klog.info(
            "Killing container with a grace period",
            pod=self._reference,
            containerName=container.name,
            gracePeriod=self.pod.grace,
        )
        runtime.stop_container(container.id, self.pod.grace)

    def _wanted_back(self) -> bool:
        """Wait out the teardown; True where the same pod was wanted again before its end."""
        with self._changed:
            back = self._changed.wait_for(lambda: self._wanted, self._timing.teardown)
            if not back:
                self._finished = True
                return False
        time.sleep(max(0.0, self._unwanted_at + self._timing.readmit - time.monotonic()))
        return True

    def _remove_everything(self) -> None:
        for sandbox in runtime.list_sandboxes(self.pod.uid):
            runtime.remove_sandbox(sandbox.id)
