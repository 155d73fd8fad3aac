"""Debug pods through a client that behaves as oc does: shared, given back, lost, refused."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from agent.errors import Refused, Unreachable
from coordinator.hosts import HostSpec
from coordinator.streams import ByteStream, LineReader
from coordinator.transports.pod import PodLine, Pods
from coordinator.transports.pod_tools import PodWish

ROOT = Path(__file__).parents[4]
# One directory: pods (a file each while it lives), and a log of what the client was asked. A pod
# lives until the last process that was started in it has ended, as `rescue-agent hold` sees to.
CLIENT = """\
#!{python}
import os, pathlib, signal, subprocess, sys, time
here = pathlib.Path("{here}")
with (here / "log").open("a") as log:
    log.write(" ".join(sys.argv[1:3]) + "\\n")
verb, mode = sys.argv[1], (here / "mode").read_text()
if verb == "get":
    sys.exit("Unable to connect to the server: EOF") if mode == "down" else print("True", end="")
elif verb == "debug":
    pod = here / ("pod-" + str(os.getpid()))
    pod.mkdir()
    print("Temporary namespace ns is created for debugging node...", file=sys.stderr)
    print("Starting pod/%s ..." % pod.name, file=sys.stderr, flush=True)
    if mode == "no-image":
        signal.signal(signal.SIGINT, lambda *_: (pod.rmdir(), os._exit(1)))
        why = "warning: Container c is unable to start due to an error: x"
        print(why, file=sys.stderr, flush=True)
        time.sleep(60)
    print("etcd-rescue: ready; this pod ends by itself", flush=True)
    while not (pod / "came").exists() or len(list(pod.iterdir())) > 1:
        time.sleep(0.01)
    print("Removing debug pod ...", file=sys.stderr, flush=True)
    (pod / "came").unlink()
    pod.rmdir()
elif verb == "exec":
    pod = here / sys.argv[3]
    if not pod.is_dir():
        sys.exit('Error from server (NotFound): pods "x" not found')
    mark = pod / str(os.getpid())
    mark.touch()
    (pod / "came").touch()
    print("{{}}", flush=True)
    sys.stdin.read()
    mark.unlink(missing_ok=True)
elif verb == "delete":
    pass
"""


@pytest.fixture
def here(tmp_path: Path) -> Path:
    client = tmp_path / "oc"
    client.write_text(CLIENT.format(python=sys.executable, here=tmp_path))
    client.chmod(0o755)
    (tmp_path / "mode").write_text("")
    return tmp_path


@pytest.fixture
def pods(here: Path) -> Pods:
    return Pods(PodWish("r/i:1", tool=str(here / "oc")))


def asked(here: Path, verb: str) -> int:
    return sum(line.startswith(verb) for line in (here / "log").read_text().splitlines())


def living(here: Path) -> list[Path]:
    return list(here.glob("pod-*"))


def start(line: PodLine) -> ByteStream:
    stream = line.start(lambda _: "")
    assert LineReader(stream, "m0").line(20) == b"{}"
    return stream


def test_who_works_on_a_node_at_the_same_time_shares_its_pod(here: Path, pods: Pods) -> None:
    first, second = PodLine(pods, HostSpec("m0")), PodLine(pods, HostSpec("m0"))
    streams = [start(first), start(second)]
    assert asked(here, "debug") == 1
    assert len(living(here)) == 1
    streams[0].close()
    first.close()
    assert len(living(here)) == 1
    streams[1].close()
    second.close()
    assert living(here) == []
    third = PodLine(pods, HostSpec("m0"))
    start(third).close()
    third.close()
    assert asked(here, "debug") == 2
    assert living(here) == []


def test_two_nodes_have_two_pods(here: Path, pods: Pods) -> None:
    lines: list[PodLine] = []
    threads = [
        threading.Thread(target=lambda n=n: lines.append(PodLine(pods, HostSpec(f"m{n}"))))
        for n in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert asked(here, "debug") == 2
    for line in lines:
        start(line).close()
        line.close()
    assert living(here) == []


def test_a_pod_that_is_gone_is_not_used_again(here: Path, pods: Pods) -> None:
    line = PodLine(pods, HostSpec("m0"))
    stream = start(line)
    (pod,) = living(here)
    next(path for path in pod.iterdir() if path.name != "came").unlink()  # the pod ends
    pod_process = line._pod._debug
    assert pod_process.wait(20) == 0
    gone = line.start(lambda _: "")
    assert gone.read(20) == b""
    assert "not found" in gone.errors()
    gone.close()
    again = PodLine(pods, HostSpec("m0"))
    assert again._pod is not line._pod
    start(again).close()
    again.close()
    stream.close()
    line.close()


OURS = """
import sys, time
from coordinator.hosts import HostSpec
from coordinator.streams import LineReader
from coordinator.transports.pod import PodLine, Pods
from coordinator.transports.pod_tools import PodWish
line = PodLine(Pods(PodWish("r/i:1", tool=sys.argv[1])), HostSpec("m0"))
stream = line.start(lambda _: "")
print(LineReader(stream, "m0").line(20), flush=True)
time.sleep(60)
"""


def test_a_pod_is_removed_when_we_are_killed(here: Path) -> None:
    ours = subprocess.Popen(
        [sys.executable, "-c", OURS, str(here / "oc")], cwd=ROOT, stdout=subprocess.PIPE
    )
    assert ours.stdout is not None
    assert b"{}" in ours.stdout.readline()
    assert living(here)
    ours.kill()
    ours.wait()
    deadline = time.monotonic() + 20
    while living(here) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert living(here) == []


def test_without_an_api_no_pod_is_asked_for(here: Path, pods: Pods) -> None:
    (here / "mode").write_text("down")
    with pytest.raises(Unreachable, match="API does not answer"):
        PodLine(pods, HostSpec("m0"))
    assert asked(here, "debug") == 0


def test_what_cannot_start_is_taken_away(here: Path, pods: Pods) -> None:
    (here / "mode").write_text("no-image")
    with pytest.raises(Unreachable, match="r/i:1 cannot be had there"):
        PodLine(pods, HostSpec("m0"))
    assert living(here) == []
    assert asked(here, "delete namespace") == 1


def test_without_a_client_there_is_another_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(Refused, match="no oc and no kubectl") as caught:
        PodLine(Pods(), HostSpec("m0"))
    assert "without --via" in caught.value.next
