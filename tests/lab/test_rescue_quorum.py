"""Lost quorum on real hosts: from the best survivor's data to a whole cluster, and nothing lost."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from typing import Any

from tests.lab.evidence import (
    DATA,
    STATE,
    cluster_id,
    power_off,
    put_binary,
    quarantined,
    require_no_flag,
    require_one_cluster,
    require_tidy_manifests,
    scratch_pids,
    seed_keys,
    stored,
    tree,
    wait_for_keys,
)
from tests.lab.faults import lead
from tests.lab.host import Host, wait_until
from tests.lab.kubelet.timing import KubeletTiming
from tests.lab.lab import Lab
from tests.lab.operator import (
    OK,
    PAUSED,
    REFUSED,
    STEP_FAILED,
    UNREACHABLE,
    Ended,
    fab,
    rescue_quorum,
)

MakeLab = Callable[..., Lab]
THREE = ("master-0", "master-1", "master-2")


def watch_original(lab: Lab, name: str, *lost: str, more: tuple[str, ...] = ()) -> Ended:
    """Rescue from a host; its original data must end in quarantine, bit for bit."""
    host, original = lab.hosts[name], {}
    run = rescue_quorum(*lost, hosts=name, more=more)
    # From here until its rename the original must not change by a bit.
    run.on(f"ok {name}: stop etcd", lambda: original.update(tree(host, f"{DATA}/member")))
    ended = run.end().expect(PAUSED)
    assert original, "the data was looked at before its relocation"
    assert tree(host, str(quarantined(host)[-1])) == original
    return ended


def test_two_of_three_lost_and_back_again(lab: Lab) -> None:
    keys, cluster = seed_keys(lab), cluster_id(lab, "master-0")
    before = stored(lab.hosts["master-0"])
    power_off(lab, "master-1", "master-2")

    ended = watch_original(lab, "master-0", "master-1", "master-2")
    assert ended.result["put_off"] == ["master-1", "master-2"]
    assert (ended.result["serving"], ended.result["voters"]) == (1, 3)
    assert "fab resume" in ended.err

    require_no_flag(lab.hosts["master-0"])
    assert stored(lab.hosts["master-0"]) == before
    refused = fab("rollback", "--yes").expect(REFUSED)
    assert "no return" in refused.err
    assert "fab resume" in refused.err
    keys |= lab.put_keys(30, "/registry/after/")
    require_one_cluster(lab, ["master-0"], keys)

    lab.hosts["master-1"].boot()
    lab.hosts["master-2"].boot()
    done = fab("resume").expect(OK)
    assert (done.result["serving"], done.result["put_off"]) == (3, [])
    require_one_cluster(lab, THREE, keys)
    require_tidy_manifests(lab, THREE)
    assert cluster_id(lab, "master-2") == cluster
    for name in THREE:
        assert len(quarantined(lab.hosts[name])) == 1
        assert not lab.hosts[name].path(f"{STATE}/fence.json").exists()

    again = fab("resume").expect(OK)
    assert "no unfinished plan" in again.err
    refused = fab("rescue-quorum", "--yes").expect(REFUSED)
    assert "next:" in refused.err
    require_one_cluster(lab, THREE, keys)


def test_without_the_operators_word_nothing_happens(lab: Lab) -> None:
    host = lab.hosts["master-0"]
    seed_keys(lab, 20)
    power_off(lab, "master-1", "master-2")
    before = tree(host, "/etc/kubernetes"), tree(host, DATA).keys(), stored(host)
    refused = fab("rescue-quorum", "--yes").expect(REFUSED)
    assert "--lost master-1 --lost master-2" in refused.err
    assert (tree(host, "/etc/kubernetes"), tree(host, DATA).keys(), stored(host)) == before
    assert not host.path(f"{STATE}/journal").exists()
    assert "no unfinished plan" in fab("resume").expect(OK).err
    assert host.etcd_pids()


def test_the_longest_log_is_kept_whichever_host_is_named(make_lab: MakeLab) -> None:
    lab = make_lab(hosts=5)
    keys = seed_keys(lab, 20)
    lead(lab, "master-3")
    lab.hosts["master-0"].cut_network(peers=[name for name in lab.hosts if name != "master-0"])
    more = lab.put_keys(150, "/registry/late/", host="master-3")
    wait_for_keys(lab, "master-3", more)
    power_off(lab, "master-1", "master-2", "master-4")
    # What the old leader has under way to the other one, in its memory and in the network's, would
    # arrive when the network heals; it must die with its process.
    end_etcd(lab.hosts["master-0"])
    end_etcd(lab.hosts["master-3"])
    lab.hosts["master-0"].heal_network()
    lost = ("master-1", "master-2", "master-4")

    said = [word for name in lost for word in ("--lost", name)]
    other_way = fab("plan", *said, hosts="master-3").expect(OK).result
    seen = fab("diagnose", *said, hosts="master-3").expect(OK).result["members"]
    logs = {member["host"]: member["position"] for member in seen}
    assert logs["master-0"] < logs["master-3"]
    ended = rescue_quorum(*lost, hosts="master-0").end().expect(PAUSED)
    for seeds in (steps(other_way, "seed_cluster"), done_steps(ended, "seed cluster")):
        assert seeds == ["master-3"]
    fenced = ended.err.index("ok master-0: fence")
    assert fenced < ended.err.index("ok master-3: seed cluster")
    assert sorted(ended.result["put_off"]) == sorted(lost)
    require_one_cluster(lab, ("master-0", "master-3"), {**keys, **more})


def end_etcd(host: Host) -> None:
    """Kill etcd, and see it gone; the kubelet starts another one."""
    old = set(host.etcd_pids())
    host.stop_etcd_kill9()
    wait_until(lambda: not old & set(host.etcd_pids()), 5, "etcd's end")


def steps(plan: Any, action: str) -> list[str]:
    """The hosts on which a plan does something."""
    every = [step for stage in plan["stages"] for step in stage["steps"]]
    return [step["host"] for step in every if step["action"] == action]


def done_steps(ended: Ended, words: str) -> list[str]:
    """The hosts on which a task said that it did something."""
    return re.findall(rf"\d\d ok (\S+): {words}", ended.err)


def test_one_of_the_lost_hosts_never_returns(make_lab: MakeLab) -> None:
    lab = make_lab(hosts=5)
    keys = seed_keys(lab)
    power_off(lab, "master-2", "master-3", "master-4")
    lab.hosts["master-4"].cut_network()  # no answer at all, not even a refusal
    rescue_quorum("master-2", "master-3", "master-4").end().expect(PAUSED)
    require_one_cluster(lab, ("master-0", "master-1"), keys)
    lab.hosts["master-2"].boot()
    lab.hosts["master-3"].boot()
    paused = fab("resume").expect(PAUSED)
    assert paused.result["put_off"] == ["master-4"]
    assert "--drop master-4" in paused.err
    done = fab("resume", "--drop", "master-4").expect(OK)
    assert done.result["put_off"] == []
    require_one_cluster(lab, ("master-0", "master-1", "master-2", "master-3"), keys)
    assert "no unfinished plan" in fab("resume").expect(OK).err


def test_two_members_with_broken_data_are_replaced_in_one_run(make_lab: MakeLab) -> None:
    lab = make_lab(kubelet=KubeletTiming(backoff_base=10, backoff_max=300))
    keys, broken = seed_keys(lab), [lab.hosts["master-1"], lab.hosts["master-2"]]
    for host in broken:
        host.crash_etcd()
    # The kubelet starts each once more at once, and then waits as long as a real one.
    wait_until(lambda: all(map(backs_off, broken)), 20, "the back-off")
    done = fab("rescue-quorum", "--yes").expect(OK)
    assert (done.result["serving"], done.result["put_off"]) == (3, [])
    for name in ("master-1", "master-2"):
        fenced = done.err.index(f"ok {name}: fence")
        assert fenced < done.err.index("ok master-0: seed cluster")
    require_one_cluster(lab, THREE, keys)
    require_tidy_manifests(lab, THREE)


def backs_off(host: Host) -> bool:
    """Whether the kubelet waits before it starts etcd again."""
    log = host.run(["journalctl", "-u", "kubelet", "-b", "--no-pager", "-o", "cat"]).stdout
    return "back-off 10s restarting failed container=etcd" in log


def test_an_etcd_that_answers_is_not_dead_however_ssh_fails(lab: Lab) -> None:
    seed_keys(lab, 20)
    lab.hosts["master-1"].power_cut()
    lab.hosts["master-2"].cut_network(ports=[22])
    lab.wait_healthy(["master-0", "master-2"])
    both = ("--lost", "master-1", "--lost", "master-2")
    refused = fab("rescue-quorum", "--yes", *both).expect(REFUSED)  # whatever is declared
    assert "linearizable reads work" in refused.err

    # Now master-0 sees nothing of it, and only the operator does.
    lab.hosts["master-2"].cut_network(peers=["master-0"])
    wait_until(lambda: not lab.is_healthy("master-0"), 15, "the loss of the quorum")
    before = stored(lab.hosts["master-0"]), lab.hosts["master-0"].etcd_pids()
    for words in (both[:2], both):
        refused = fab("rescue-quorum", "--yes", *words).expect(REFUSED)
        assert "master-2" in refused.err
        assert re.search("2380 answers from", refused.err)
        assert "make SSH to master-2 work" in refused.err
    assert (stored(lab.hosts["master-0"]), lab.hosts["master-0"].etcd_pids()) == before
    assert "no unfinished plan" in fab("resume").expect(OK).err


def test_data_directories_that_are_mounts_and_symlinks(make_lab: MakeLab) -> None:
    lab = make_lab(data_dir_kind={"master-0": "mount", "master-1": "symlink"})
    keys = seed_keys(lab)
    power_off(lab, "master-1", "master-2")
    watch_original(lab, "master-0", "master-1", "master-2")
    lab.hosts["master-1"].boot()
    fab("resume", "--drop", "master-2").expect(OK)
    require_one_cluster(lab, ("master-0", "master-1"), keys)

    power_off(lab, "master-0")
    watch_original(lab, "master-1", "master-0")
    require_one_cluster(lab, ["master-1"], keys)
    assert lab.hosts["master-1"].run(["readlink", DATA]).stdout == "/mnt/disk/etcd\n"
    lab.hosts["master-0"].boot()
    fab("resume", hosts="master-1").expect(OK)
    assert lab.hosts["master-0"].run(["mountpoint", "-q", DATA]).returncode == 0
    require_one_cluster(lab, ("master-0", "master-1"), keys)


def test_the_flag_in_the_manifest_comes_and_goes_in_one_step(lab: Lab) -> None:
    host, keys = lab.hosts["master-0"], seed_keys(lab)
    before = stored(host)
    power_off(lab, "master-1", "master-2")
    ended = watch_original(lab, "master-0", "master-1", "master-2", more=("--in-manifest",))
    order = [ended.err.index(f"ok master-0: {a}") for a in ("copy data", "seed in manifest")]
    assert order == sorted(order)
    assert not done_steps(ended, "seed cluster")
    assert stored(host) == before
    require_one_cluster(lab, ["master-0"], keys)
    host.stop_etcd_kill9()  # one more start by the kubelet: still one member, nothing lost
    wait_until(lambda: not lab.is_healthy(host), 10, "etcd's end")
    require_one_cluster(lab, ["master-0"], keys)


# Before the point of no return


def require_rolled_back(lab: Lab, host: Host, before: object, data: dict[str, str]) -> None:
    """Roll back with the kubelet held, so that nothing but the product can touch the host."""
    host.run(["systemctl", "stop", "kubelet"])
    fab("rollback", "--yes").expect(OK)
    assert (stored(host), tree(host, "/etc/kubernetes")) == before
    assert tree(host, f"{DATA}/member") == data
    assert not scratch_pids(host)
    assert not quarantined(host)
    host.run(["systemctl", "start", "kubelet"])
    wait_until(lambda: bool(host.etcd_pids()), 20, "etcd's start")
    assert "no unfinished plan" in fab("resume").expect(OK).err


def test_a_scratch_etcd_that_fails_is_taken_back(lab: Lab) -> None:
    host, keys = lab.hosts["master-0"], seed_keys(lab)
    put_binary(host, '[ "$1" = --version ] && echo "etcd Version: 3.5.30" || exit 9')
    power_off(lab, "master-1", "master-2")
    before = stored(host), tree(host, "/etc/kubernetes")
    data: dict[str, str] = {}
    run = rescue_quorum("master-1", "master-2")
    run.on("ok master-0: stop etcd", lambda: data.update(tree(host, f"{DATA}/member")))
    failed = run.end().expect(STEP_FAILED)
    assert "exit code 9" in failed.err
    assert data
    require_rolled_back(lab, host, before, data)
    lab.hosts["master-1"].boot()
    lab.wait_healthy(["master-0", "master-1"])
    assert keys.items() <= lab.get_all("master-1").items()


def test_a_disk_that_fills_up_stops_it_and_it_is_taken_back(make_lab: MakeLab) -> None:
    lab = make_lab(data_dir_size={"master-0": "600m"})
    host, keys = lab.hosts["master-0"], seed_keys(lab)
    power_off(lab, "master-1", "master-2")
    before = stored(host), tree(host, "/etc/kubernetes")
    data: dict[str, str] = {}

    def fill() -> None:
        host.run(["fallocate", "-l", str(free(host) - (20 << 20)), f"{DATA}/filler"])

    run = rescue_quorum("master-1", "master-2")
    run.on("ok master-0: park definition", fill)
    run.on("ok master-0: stop etcd", lambda: data.update(tree(host, f"{DATA}/member")))
    refused = run.end().expect(REFUSED)
    assert "MiB" in refused.err
    assert data
    require_rolled_back(lab, host, before, data)

    # With the disk still full the next one does not even begin.
    pids = host.etcd_pids()
    refused = rescue_quorum("master-1", "master-2").end().expect(REFUSED)
    assert "park definition" not in refused.err
    assert host.etcd_pids() == pids
    assert stored(host) == before[0]
    host.path(f"{DATA}/filler").unlink()
    fab("rollback", "--yes")
    rescue_quorum("master-1", "master-2").end().expect(PAUSED)
    require_one_cluster(lab, ["master-0"], keys)


def free(host: Host) -> int:
    """Bytes free on the file system of etcd's data."""
    return shutil.disk_usage(host.path(DATA)).free


def test_a_dead_host_named_first(lab: Lab) -> None:
    power_off(lab, "master-1", "master-2")
    refused = fab("rescue-quorum", "--yes", hosts="master-2").expect(UNREACHABLE)
    assert "unreachable: master-2" in refused.err
    assert "next:" in refused.err
    assert lab.hosts["master-0"].etcd_pids()
