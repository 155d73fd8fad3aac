"""Scheduled snapshots under a host's real systemd: installed, fired, kept, missed, removed."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Callable

from prometheus_client.parser import text_fd_to_metric_families

from tests.lab.evidence import STATE, seed_keys
from tests.lab.host import Host, wait_until
from tests.lab.lab import Lab
from tests.lab.operator import LOCKED, OK, REFUSED, UNREACHABLE, fab, start_fab
from tests.lab.paths import REPO_DIR

SERVICE, TIMER = "etcd-rescue-snapshot.service", "etcd-rescue-snapshot.timer"
UNITS = "/etc/systemd/system"
SETS = f"{STATE}/scheduled"
METRICS = "/var/lib/node_exporter"
METRICS_FILE = f"{METRICS}/etcd_rescue_snapshot.prom"
STAMP = f"/var/lib/systemd/timers/stamp-{TIMER}"


def sets(host: Host) -> list[str]:
    """The names of the scheduled sets, the oldest first; names of one second are in any order."""
    folder = host.path(SETS)
    found = sorted(folder.iterdir(), key=lambda p: p.stat().st_mtime_ns) if folder.is_dir() else []
    return [path.name for path in found]


def metrics(host: Host) -> dict[str, float]:
    """What the file says, read by Prometheus' own parser: name, or name{result}, → value."""
    path = host.path(METRICS_FILE)
    assert path.stat().st_mode & 0o777 == 0o644
    found: dict[str, float] = {}
    with path.open() as file:
        for family in text_fd_to_metric_families(file):
            assert family.type == "gauge"
            assert family.documentation
            for sample in family.samples:
                name = sample.name.removeprefix("etcd_rescue_snapshot_")
                key = f"{name}{{{sample.labels['result']}}}" if sample.labels else name
                assert key not in found
                found[key] = sample.value
    results = {k for k, v in found.items() if k.startswith("last_run_result") and v == 1}
    assert len(results) == 1
    found["is " + results.pop()[16:-1]] = 1
    return found


def take(host: Host, *changed: str) -> subprocess.CompletedProcess[str]:
    """Run what the service runs, by hand, with some of its options changed; its end."""
    text = host.read(f"{UNITS}/{SERVICE}").decode()
    argv = re.search(r"^ExecStart=(.*)$", text, re.M)
    assert argv is not None
    environment = re.findall(r"^Environment=(.*)$", text, re.M)
    return host.run(["env", *environment, *argv[1].split(), *changed], check=False)


def start(host: Host) -> str:
    """Start the service as its timer does; systemd's result and the exit code.

    One that is still ending, after its metrics were written, would be taken for the new one.
    """
    state = ["systemctl", "show", "-P", "ActiveState", SERVICE]
    wait_until(lambda: "activating" not in host.run(state).stdout, 30, "the end of the last run")
    host.run(["systemctl", "start", SERVICE], check=False)
    return host.run(["systemctl", "show", "-P", "Result", "-P", "ExecMainStatus", SERVICE]).stdout


def fires_by_itself(host: Host) -> None:
    """The timer's own time comes, here a second after its start."""
    folder = f"/run/systemd/system/{TIMER}.d"
    host.run(["mkdir", "-p", folder])
    words = "[Timer]\nOnActiveSec=1s\nRandomizedDelaySec=0\n"
    host.run(["tee", f"{folder}/soon.conf"], stdin=words)
    host.run(["systemctl", "daemon-reload"])
    host.run(["systemctl", "restart", TIMER])
    wait_until(host.path(METRICS_FILE).exists, 30, "the timer's first run")
    assert "is ok" in metrics(host)
    assert len(sets(host)) == 1
    host.run(["rm", "-r", folder])
    host.run(["systemctl", "daemon-reload"])


def keeps_the_newest(lab: Lab, host: Host, keys: int) -> None:
    first = sets(host)
    lab.client(host).put("/registry/one-more", b"x")
    assert start(host).split() == ["success", "0"]
    second = sets(host)
    assert second[:1] == first
    assert len(second) == 2
    assert start(host).split() == ["success", "0"]
    assert sets(host)[:1] == second[1:]  # the oldest went, no other
    said = metrics(host)
    assert (said["kept"], said["expired"], said["keys"]) == (2, 1, keys + 1)
    newest = host.path(f"{SETS}/{sets(host)[-1]}")
    told = fab("verify-snapshot", str(newest), hosts="").expect(OK).result
    assert told["snapshot"]["keys"] == keys + 1
    assert said["revision"] == told["snapshot"]["revision"]
    assert said["last_success_timestamp_seconds"] == told["set"]["time"]
    assert not [p for p in host.path(f"{STATE}/work").rglob("*") if p.is_file()]


def gives_way(host: Host) -> None:
    """While a run is at work none is taken; the run is not disturbed."""
    before, success = sets(host), metrics(host)["last_success_timestamp_seconds"]
    run = start_fab("renew-certificates", "master-0", "--yes")
    run.wait_for(r"\[1/")
    os.killpg(run.process_id, signal.SIGSTOP)
    try:
        assert start(host).split() == ["success", str(LOCKED)]
    finally:
        os.killpg(run.process_id, signal.SIGCONT)
    said = metrics(host)
    assert "is locked" in said
    assert said["last_success_timestamp_seconds"] == success
    run.end().expect(OK)
    assert sets(host) == before


def fails_and_keeps(lab: Lab, host: Host) -> None:
    """No room, and no etcd: the metric tells, the earlier snapshots are all there."""
    before = sets(host)
    full = take(host, f"--min-free={1 << 49}", "--keep=1")
    assert full.returncode == REFUSED
    assert "are to stay free" in full.stderr
    assert "is refused" in metrics(host)
    host.run(["mv", "/etc/kubernetes/manifests/etcd.yaml", "/root/etcd.yaml"])
    wait_until(lambda: not host.etcd_pids(), 20, "etcd's end")
    off = take(host, "--patience=1", "--keep=1")
    host.run(["mv", "/root/etcd.yaml", "/etc/kubernetes/manifests/etcd.yaml"])
    assert off.returncode == UNREACHABLE
    assert "no definition of it is in place" in off.stderr
    said = metrics(host)
    assert "is unreachable" in said
    assert said["kept"] == len(before)
    assert sets(host) == before
    lab.wait_healthy(["master-0"])


def catches_up(lab: Lab, host: Host) -> None:
    """A time that came while the power was off is made up for, once etcd answers."""
    before = sets(host)
    host.power_cut()
    stamp = host.path(STAMP)
    os.utime(stamp, (stamp.stat().st_atime, stamp.stat().st_mtime - 2 * 86400))
    host.boot()
    wait_until(lambda: sets(host)[-1:] != before[-1:], 60, "the snapshot that was missed")
    wait_until(lambda: "is ok" in metrics(host), 10, "its metrics")
    assert len(sets(host)) == 2


def is_as_hardened_as_documented(host: Host) -> None:
    """systemd's own judgement of the service, against the figure in the documentation."""
    page = (REPO_DIR / "docs/scheduled-snapshots.md").read_text()
    bound = re.search(r"`systemd-analyze security`: at most ([\d.]+)", page)
    assert bound is not None
    said = host.run(["systemd-analyze", "security", "--no-pager", SERVICE]).stdout
    found = re.search(r"exposure level for \S+: ([\d.]+)", said)
    assert found is not None, said
    assert float(found[1]) <= float(bound[1]), said


def keeps_what_somebody_wrote(host: Host) -> None:
    """An edited unit is neither replaced nor removed."""
    unit = host.read(f"{UNITS}/{TIMER}")
    host.write(f"{UNITS}/{TIMER}", unit + b"# mine\n", 0o644)
    for words in (("install-timer", "--keep", "5"), ("remove-timer",)):
        ended = fab(*words, "--yes").expect(REFUSED)
        assert "was edited" in ended.err
        assert "systemctl edit" in ended.err
    assert host.read(f"{UNITS}/{TIMER}") == unit + b"# mine\n"
    host.write(f"{UNITS}/{TIMER}", unit, 0o644)


def left_behind(host: Host) -> list[str]:
    """What is there of the timer, anywhere it could be."""
    places = (UNITS, "/var/lib/systemd/timers", METRICS, f"{STATE}/agent/pinned", STATE)
    found = [str(p) for place in places for p in host.path(place).glob("*snapshot*")]
    return found + [str(p) for p in host.path(f"{UNITS}/timers.target.wants").glob("etcd-rescue*")]


def test_snapshots_are_taken_on_a_schedule(make_lab: Callable[..., Lab]) -> None:
    lab = make_lab(hosts=1)
    host, keys = lab.hosts["master-0"], seed_keys(lab)
    options = ("--keep", "2", "--metrics", METRICS, "--random-delay", "0s", "--min-free", "1M")

    refused = fab("install-timer", *options, "--yes").expect(REFUSED)
    assert f"{METRICS}: no such directory" in refused.err
    assert not host.path(f"{UNITS}/{TIMER}").exists()
    host.run(["mkdir", "-p", METRICS])
    assert fab("install-timer", "--every", "now and then", "--yes").expect(REFUSED)
    (status,) = fab("install-timer", *options, "--yes").expect(OK).result
    assert (status["units"], status["active"], status["current"]) == ("ours", True, True)
    again = fab("install-timer", *options, "--yes").expect(OK)
    assert "nothing to do" in again.err

    fires_by_itself(host)
    keeps_the_newest(lab, host, len(keys))
    gives_way(host)
    fails_and_keeps(lab, host)
    is_as_hardened_as_documented(host)
    catches_up(lab, host)
    keeps_what_somebody_wrote(host)

    kept = sets(host)
    assert fab("timer-status").expect(OK).result[0]["kept"] == 2
    fab("remove-timer", "--yes").expect(OK)
    assert sets(host) == kept
    assert left_behind(host) == []
    assert "nothing to do" in fab("remove-timer", "--yes").expect(OK).err
    done = {j["recipe"] for j in fab("journal").expect(OK).result if j["state"] == "complete"}
    assert done == {"install-timer", "renew-certificates", "remove-timer"}


def test_the_timer_of_a_host_without_python_has_an_interpreter_of_its_own(
    make_lab: Callable[..., Lab],
) -> None:
    """It runs the carried runtime by a name that no delivery takes away, and takes that along."""
    host = make_lab(hosts=1, without_python=["master-0"]).hosts["master-0"]
    (status,) = fab("install-timer", "--min-free", "1M", "--first", "--yes").expect(OK).result
    assert (status["kept"], status["last_result"]) == (1, "success")
    carried = [p for p in host.path(f"{STATE}/runtime").iterdir() if len(p.name) == 64]
    assert len(carried) == 1
    (argv,) = re.findall(r"^ExecStart=(.*)$", host.read(f"{UNITS}/{SERVICE}").decode(), re.M)
    assert f"{STATE}/runtime/pinned-timer-{carried[0].name}/lib/" in argv
    host.run(["rm", "-r", f"{STATE}/runtime/{carried[0].name}"])
    assert start(host).split() == ["success", "0"]
    assert len(sets(host)) == 2
    fab("remove-timer", "--yes").expect(OK)
    assert not list(host.path(f"{STATE}/runtime").glob("pinned*"))
    assert left_behind(host) == []
