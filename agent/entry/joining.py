"""kubeadm's own way to bring a control-plane host (back): certificates uploaded, a token, a join.

Token and certificate key open the control plane to whoever has them: they are made on a host whose
API server works, given back once, and written nowhere by us.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

import yaml

from agent.actions.kubeadm_certs import api_version
from agent.errors import CommandFailed, PreconditionFailed, Refused, StepFailed
from agent.host import STATE_DIR, Host

ADMIN_CONF = "/etc/kubernetes/admin.conf"
_KEY = re.compile(r"(?m)^\s*([0-9a-f]{64})\s*$")
_TOKEN = re.compile(r"[a-z0-9]{6}\.[a-z0-9]{16}")
_HASH = re.compile(r"sha256:[0-9a-f]{64}")
_ENDPOINT = re.compile(r"[A-Za-z0-9.\-\[\]:]+:\d{1,5}")
_JOIN = "--discovery-token-ca-cert-hash"


def make_join_command(host: Host, say: Callable[[str], None]) -> list[str]:
    """The whole `kubeadm join …` for a control-plane host, as words.

    Raises PreconditionFailed without kubeadm or without an API server that answers it.
    """
    kubeadm = _kubeadm(host)
    if not host.exists(ADMIN_CONF):
        raise PreconditionFailed(
            f"{ADMIN_CONF}: missing on {host.hostname()}",
            "kubeadm uploads certificates and makes tokens with it",
            "fab join-command --through OTHER-HOST",
        )
    config = f"--kubeconfig={ADMIN_CONF}"
    say("uploading the control plane's certificates, encrypted, for two hours")
    upload = [kubeadm, "init", "phase", "upload-certs", "--upload-certs", config]
    found = _KEY.findall(_said(host, upload))
    if len(found) != 1:
        raise StepFailed(
            f"`{' '.join(upload)}` told {len(found)} certificate keys, not one",
            "its output is not what kubeadm's is known to be",
        )
    say("making a token")
    # The key is no argument here: the printed command is completed by ourselves.
    printed = _said(host, [kubeadm, "token", "create", "--print-join-command", config])
    return [*parse_join(printed), "--control-plane", "--certificate-key", found[0]]


def parse_join(printed: str) -> list[str]:
    """The words of a printed `kubeadm join ENDPOINT --token … --discovery-token-ca-cert-hash …`.

    Raises StepFailed for anything else: what is printed here is run on another host.
    """
    lines = [line.split() for line in printed.replace("\\\n", " ").splitlines()]
    joins = [words for words in lines if words[:2] == ["kubeadm", "join"]]
    if len(joins) != 1 or not is_join(joins[0]):
        raise StepFailed(
            "`kubeadm token create --print-join-command` printed no join command",
            "its output is not what kubeadm's is known to be",
        )
    return joins[0]


def is_join(words: Sequence[str]) -> bool:
    """True if these are the words of a join and nothing that could do something else."""
    if list(words[:2]) != ["kubeadm", "join"] or len(words) < 3:
        return False
    if not _ENDPOINT.fullmatch(words[2]):
        return False
    rest, allowed = list(words[3:]), {"--token": _TOKEN, _JOIN: _HASH, "--certificate-key": _KEY}
    seen = set()
    while rest:
        name = rest.pop(0)
        if name == "--control-plane":
            continue
        if name not in allowed or not rest or not allowed[name].fullmatch(rest.pop(0)):
            return False
        seen.add(name)
    return {"--token", _JOIN} <= seen


def join(host: Host, words: Sequence[str], say: Callable[[str], None]) -> None:
    """Join this host to the control plane by that command.

    Raises PreconditionFailed where kubeadm's files of an earlier life are in the way.
    """
    if not is_join(words) or not {"--control-plane", "--certificate-key"} <= set(words):
        raise Refused("this is no join command of a control-plane host", next="fab join-command")
    kubeadm = _kubeadm(host)
    left = [p for p in ("/etc/kubernetes/kubelet.conf", "/etc/kubernetes/manifests/etcd.yaml",
                        "/var/lib/etcd/member") if host.exists(p)]  # fmt: skip
    if left:
        raise PreconditionFailed(
            f"{host.hostname()}: {', '.join(left)} of an earlier life",
            "kubeadm joins a host that is no node yet, and refuses others",
            f"to mend etcd alone: fab rescue-node {host.hostname()}; to begin anew: kubeadm reset",
        )
    say("kubeadm joins this host to the control plane; that takes minutes")
    work = f"{STATE_DIR}/work/join"
    host.makedirs(work)
    try:
        text = join_config(words, api_version(host, kubeadm, "join"))
        host.write_atomic(f"{work}/join.yaml", text.encode())
        _said(host, [kubeadm, "join", "--config", f"{work}/join.yaml"], timeout=900)
    finally:
        host.discard(work)


def join_config(words: Sequence[str], api: str) -> str:
    """The same join as a config of kubeadm's: arguments of a process are everybody's to see."""
    given = dict(zip(words, words[1:]))
    discovery = {
        "apiServerEndpoint": words[2],
        "token": given["--token"],
        "caCertHashes": [given[_JOIN]],
    }
    config = {
        "apiVersion": api,
        "kind": "JoinConfiguration",
        "discovery": {"bootstrapToken": discovery},
        "controlPlane": {"certificateKey": given["--certificate-key"]},
    }
    return yaml.safe_dump(config, sort_keys=False)


def _kubeadm(host: Host) -> str:
    path = host.which("kubeadm")
    if not path:
        raise PreconditionFailed(
            f"{host.hostname()} has no kubeadm",
            "a whole control-plane host is joined by kubeadm alone",
            "etcd alone needs none: fab rescue-node HOST",
        )
    return path


def _said(host: Host, argv: Sequence[str], timeout: float = 120) -> str:
    """Its stdout. Raises CommandFailed without secrets in it: arguments are named, not shown."""
    try:
        return host.run(argv, timeout=timeout, env={"KUBECONFIG": ADMIN_CONF}).stdout
    except CommandFailed as error:
        raise CommandFailed(without_secrets(error.seen), error.why, error.next) from None


def without_secrets(text: str) -> str:
    """The text without anything that looks like a token or a certificate key."""
    plain = _TOKEN.sub("(token)", text)
    return re.sub(r"\b(?<!sha256:)[0-9a-f]{64}\b", "(certificate key)", plain)
