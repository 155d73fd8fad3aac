"""What oc and kubectl are asked, word for word as they document it, and what they say."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.entry import hold
from agent.errors import Refused, RescueError, Unreachable, UsageError
from coordinator.transports import pod
from coordinator.transports.pod_keys import read_wish
from coordinator.transports.pod_tools import PodName, PodWish, Tool, checked_wish, failed

OC, KUBECTL = Tool("/usr/bin/oc", PodWish("r/i:1")), Tool("/usr/bin/kubectl", PodWish("r/i:1"))
EVERYTHING = PodWish("r/i:1", "", "rescue", "admin", "/k")
NEW_OC = """\
Temporary namespace openshift-debug-r8659 is created for debugging node...
Starting pod/worker-0lab-debug-wfbgf ...
To use host binaries, run `chroot /host`. Instead, if you need to access host namespaces, run …
"""
OLD_OC = "Starting pod/master-1-debug, command was: \nTo use host binaries, run `chroot /host`\n"
KUBECTL_SAYS = "Creating debugging pod node-debugger-m0-x2xkd with container debugger on node m0.\n"


def test_a_pod_is_asked_for_in_each_one_s_own_words() -> None:
    assert OC.debug("m0", ["rescue-agent", "hold"]) == [
        "/usr/bin/oc", "debug", "node/m0", "--image=r/i:1", "--", "rescue-agent", "hold",
    ]  # fmt: skip
    assert KUBECTL.debug("m0", ["a", "b"]) == [
        "/usr/bin/kubectl", "debug", "node/m0", "--image=r/i:1", "--profile=sysadmin",
        "--image-pull-policy=IfNotPresent", "--", "a", "b",
    ]  # fmt: skip
    assert "--to-namespace=rescue" in Tool("oc", EVERYTHING).debug("m0", ["a"])
    assert "--namespace=rescue" in Tool("kubectl", EVERYTHING).debug("m0", ["a"])
    for tool in (Tool("oc", EVERYTHING), Tool("kubectl", EVERYTHING)):
        for argv in (tool.ready("m0"), tool.debug("m0", ["a"]), tool.delete(PodName("p", "c"))):
            assert argv[1:3] == ["--kubeconfig=/k", "--context=admin"]


def test_a_process_in_a_pod_is_asked_for_where_the_pod_is() -> None:
    argv = OC.exec(PodName("p", "container-00", "openshift-debug-x"), ["python3", "-c", "x"])
    assert argv[1:] == [
        "exec", "-i", "p", "--container=container-00", "--namespace=openshift-debug-x", "--",
        "python3", "-c", "x",
    ]  # fmt: skip
    assert not [w for w in KUBECTL.exec(PodName("p", "c"), ["x"]) if w.startswith("--namespace")]


def test_the_pod_is_named_by_what_they_say() -> None:
    named = PodName("worker-0lab-debug-wfbgf", "container-00", "openshift-debug-r8659")
    assert OC.made(NEW_OC) == named
    assert OC.made(OLD_OC) == PodName("master-1-debug", "container-00")
    assert Tool("oc", EVERYTHING).made(OLD_OC) == PodName(
        "master-1-debug", "container-00", "rescue"
    )
    assert KUBECTL.made(KUBECTL_SAYS) == PodName("node-debugger-m0-x2xkd", "debugger")
    for text in ("", "Starting pod/", "Starting pod/x", 'error: nodes "x" not found'):
        assert OC.made(text) is None
        assert KUBECTL.made(text) is None


@pytest.mark.parametrize(
    ("said", "kind", "seen", "next"),
    [
        ('Error from server (NotFound): nodes "m9" not found', Refused, "no node", "get nodes"),
        ("error: unknown profile: sysadmin", Refused, "too old", "newer kubectl"),
        ('nodes "m0" is forbidden: User "ann" cannot get', Refused, "may be made", "without --via"),
        ("Unable to connect to the server: dial tcp: i/o timeout", Unreachable, "API", "without"),
        ("The connection to the server api:6443 was refused", Unreachable, "API", "SSH"),
        ("Error from server: etcdserver: request timed out", Unreachable, "API", "console"),
        ("Ready=Unknown", Unreachable, "the node is not ready", "describe node"),
        ("warning: Container container-00 is unable to start due to an error: Back-off pulling",
         Unreachable, "image r/i:1", "--image"),
        ("something nobody has seen before", Unreachable, "something nobody", "oc debug node/m9"),
        ("", Unreachable, "it said nothing", "oc debug"),
    ],
)  # fmt: skip
def test_what_is_in_the_way_has_a_next_step(
    said: str, kind: type[RescueError], seen: str, next: str
) -> None:
    error = failed("m9", OC, said)
    assert isinstance(error, kind)
    assert seen in error.seen
    assert next in error.next


@pytest.mark.parametrize(
    "wish",
    [
        PodWish(image="--as=admin"), PodWish(image="x y"), PodWish(namespace="-n"),
        PodWish(namespace="A"), PodWish(context="--x"), PodWish(context="a b"),
    ],
)  # fmt: skip
def test_no_word_of_a_wish_can_be_an_option(wish: PodWish) -> None:
    with pytest.raises(UsageError):
        checked_wish(wish)


def test_the_inventory_s_key_is_read_whole_or_refused(tmp_path: Path) -> None:
    path = tmp_path / "cluster.yaml"
    assert read_wish({}, path) == PodWish()
    said = {"image": "r/i:1", "tool": "kubectl", "kubeconfig": "k"}
    read = read_wish({"debug_pods": said}, path)
    assert read == PodWish("r/i:1", "kubectl", kubeconfig=str(tmp_path / "k"))
    wrong: list[object] = [["x"], {"imag": "x"}, {"image": 1}, {"namespace": "A B"}]
    for each in wrong:
        with pytest.raises(UsageError, match=r"cluster\.yaml|not the name"):
            read_wish({"debug_pods": each}, path)


def test_both_sides_know_the_same_first_word() -> None:
    assert hold.READY.encode() == pod.READY
