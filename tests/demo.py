"""The demo: a real cluster loses its quorum, one command brings it back, and nothing is lost."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from pathlib import Path

from tests.lab import setup
from tests.lab.kubelet.timing import MEASURED
from tests.lab.lab import Lab

LAYOUTS = {
    "kubeadm": "kubeadm's layout, containerd, etcd as a static pod",
    "systemd": "etcd.service with kubespray's /etc/etcd.env",
}
ROOT = Path(__file__).resolve().parent.parent
KEYS = 500


class Writer:
    """Writes a key every 100 ms through whichever member takes it; remembers what was accepted."""

    def __init__(self, lab: Lab) -> None:
        self._lab, self._stop = lab, threading.Event()
        self.accepted: dict[str, tuple[float, bytes]] = {}
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        """Begin to write."""
        self._thread.start()

    def stop(self) -> None:
        """End, and wait for the last write."""
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        number = 0
        while not self._stop.wait(0.1):
            number += 1
            key, value = f"/registry/heartbeat/{number:06d}", f"{number}".encode()
            if self._put(key, value):
                self.accepted[key] = (time.monotonic(), value)

    def _put(self, key: str, value: bytes) -> bool:
        for name, host in self._lab.hosts.items():
            if not host.is_up:
                continue
            try:
                self._lab.client(name, timeout=0.5).put_many([(key, value)])
                return True
            except Exception:  # a refused write is what is being watched for
                continue
        return False

    def outage(self, since: float) -> float:
        """Seconds from `since` to the first write accepted after it."""
        return min(t for t, _v in self.accepted.values() if t > since + 0.5) - since


def say(text: str) -> None:
    """Tell the story."""
    print(f"\n\033[1m# {text}\033[0m" if sys.stdout.isatty() else f"\n# {text}", flush=True)


def fab(*words: str, ok: tuple[int, ...] = (0,)) -> int:
    """Run a task as an operator would, and show it."""
    print(f"$ fab {' '.join(words)}", flush=True)
    code = subprocess.run([str(ROOT / ".venv/bin/fab"), *words], cwd=ROOT).returncode
    if code not in ok:
        raise SystemExit(f"fab {' '.join(words)} ended with exit code {code}")
    return code


def chosen_layout() -> str:
    """kubeadm's, or the one named on the command line; etcd under systemd where hosts lack crictl.

    Without crictl nothing can run static pods; it is built by Go, which not every machine can have.
    """
    if len(sys.argv) > 1:
        return sys.argv[1]
    if setup.has_crictl():
        return "kubeadm"
    say("This machine has neither crictl nor Go to build it: no static pods can be run here.")
    print("The same story is played on the other layout: etcd.service under systemd.", flush=True)
    return "systemd"


def main() -> int:
    """Play the demo; 0 where every key is there at the end."""
    layout = chosen_layout()
    say(f"Three control-plane hosts come up: {LAYOUTS[layout]}, TLS, a healthy etcd")
    with Lab.start(hosts=3, kubelet=MEASURED, layout=layout) as lab:
        lab.put_keys(KEYS)
        writer = Writer(lab)
        writer.start()
        fab("-H", "master-0", "diagnose")
        time.sleep(1)
        say("master-1 and master-2 lose power: no quorum, no API, nothing can be written")
        cut = time.monotonic()
        lab.hosts["master-1"].power_cut()
        lab.hosts["master-2"].power_cut()
        fab("-H", "master-0", "diagnose")
        say("One command; the operator vouches for the two hosts that cannot be seen")
        began = time.monotonic()
        fab("-H", "master-0", "rescue-quorum", "--lost", "master-1", "--lost", "master-2", "--yes",
            ok=(6,))  # fmt: skip
        say("The two hosts come back, with their old data; they are fenced and rejoined")
        lab.hosts["master-1"].boot()
        lab.hosts["master-2"].boot()
        fab("-H", "master-0", "resume")
        writer.stop()
        fab("-H", "master-0", "diagnose")
        return verdict(lab, writer, cut, began)


def verdict(lab: Lab, writer: Writer, cut: float, began: float) -> int:
    """Compare every key that was ever accepted with what every member has now."""
    expected = {key: value for key, (_t, value) in writer.accepted.items()}
    missing = 0
    for name in lab.hosts:
        have = lab.get_all(name)
        missing += sum(have.get(key) != value for key, value in expected.items())
        missing += max(0, KEYS - sum(not k.startswith("/registry/heartbeat/") for k in have))
    voters = [m for m in lab.members("master-0") if not m.is_learner]
    total, outage = KEYS + len(expected), writer.outage(cut)
    print(json.dumps({"outage_since_power_cut": round(outage, 1),
                      "of_it_before_the_command": round(began - cut, 1)}))  # fmt: skip
    lost = "nothing lost" if not missing else f"{missing} KEYS LOST"
    print(f"recovered: {len(voters)}/3 voters, {total} keys, outage {outage:.1f} s, {lost}")
    return 0 if not missing and len(voters) == 3 else 1


if __name__ == "__main__":
    sys.exit(main())
