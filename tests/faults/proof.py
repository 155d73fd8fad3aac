"""What must hold after any fault, once the plan was finished or taken back."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from hashlib import file_digest
from pathlib import Path
from typing import Any

from tests.faults.points import plainly
from tests.lab.evidence import STATE, quarantined, require_one_cluster
from tests.lab.host import Host
from tests.lab.lab import MANIFEST, Lab

FLAG = b"force-new-cluster"
"""Also as a variable: what is searched is lowered, and has - for _."""
Picture = dict[str, tuple[Any, ...]]


def picture(host: Host, inside: str, folder_times: bool = False) -> Picture:
    """Relative path -> mode, owner, xattrs; of files the time and the content, of links the target.

    folder_times: of the directories below, too; a rename there and back changes them.
    """
    top = host.path(inside)
    found: Picture = {}
    for path in [top, *sorted(top.rglob("*"))] if top.exists() else []:
        info = path.lstat()
        xattrs = {
            name: os.getxattr(path, name, follow_symlinks=False)
            for name in os.listxattr(path, follow_symlinks=False)
        }
        name = str(path.relative_to(top))
        found[name] = (f"{info.st_mode:o}", info.st_uid, info.st_gid, xattrs)
        if path.is_symlink():
            found[name] += (0, str(path.readlink()))  # nobody asks for the age of a link
        elif path.is_file():
            with path.open("rb") as file:
                found[name] += (info.st_mtime_ns, file_digest(file, "sha256").hexdigest())
        elif path != top and folder_times:
            found[name] += (info.st_mtime_ns,)
    return found


def differences(was: Picture, now: Picture) -> list[str]:
    """What differs, in words; empty where nothing does."""
    names = sorted(was.keys() | now.keys())
    return [f"{n}: {was.get(n)} -> {now.get(n)}" for n in names if was.get(n) != now.get(n)]


def require_original_kept(host: Host, original: Picture) -> None:
    """One of the directories in quarantine is the original data, bit for bit."""
    kept = [picture(host, str(place), folder_times=True) for place in quarantined(host)]
    nearest = min((differences(original, found) for found in kept), key=len, default=["nothing"])
    assert not nearest, f"{host.name}: the original is not in quarantine: {nearest[:5]}"


def flagged_pods(host: Host) -> list[str]:
    """Logs of pods in which an etcd said that it runs with --force-new-cluster."""
    logs = host.path("/var/log/pods").rglob("*.log")
    return [str(log) for log in logs if b'"force-new-cluster":true' in log.read_bytes()]


def require_one_flagged(lab: Lab, started: Sequence[tuple[str, tuple[str, ...]]]) -> None:
    """At most one member ever ran with the flag. started: (host, argv), from the gate."""
    hosts = {host for host, _argv in started}
    hosts |= {name for name, host in lab.hosts.items() if flagged_pods(host)}
    assert len(hosts) <= 1, f"ran with --force-new-cluster: {sorted(hosts)}"


def require_no_flag_left(host: Host) -> None:
    """No flag in any definition, unit, drop-in or parked file, nor in any etcd's argv or env."""
    folders = ("/etc/kubernetes", "/etc/systemd", "/etc/etcd", "/etc/origin", f"{STATE}/parked")
    for folder in folders:
        files = [p for p in host.path(folder).rglob("*") if p.is_file() and not p.is_symlink()]
        assert not [p for p in files if _has_flag(p.read_bytes())], f"{host.name}: a file has it"
    for pid in host.etcd_pids():
        said = Path(f"/proc/{pid}/cmdline").read_bytes() + Path(f"/proc/{pid}/environ").read_bytes()
        assert not _has_flag(said), f"{host.name}: process {pid}"


def _has_flag(said: bytes) -> bool:
    return FLAG in said.lower().replace(b"_", b"-")


def lock_holder(host: Host) -> str:
    """The plan that holds the lock of a host; empty for none.

    A plan that is closed in its journal holds nothing, also where a crash came before its lock was
    given back.
    """
    place = host.path(f"{STATE}/lock.json")
    plan = str(json.loads(place.read_bytes())["plan"]) if place.exists() else ""
    journal = host.path(f"{STATE}/journal/{plan}.jsonl")
    is_closed = plan and journal.exists() and _last_kind(journal) in ("complete", "rolled-back")
    return "" if is_closed else plan


def journal_states(host: Host) -> list[str]:
    """How each journal of a host ends: its last record's kind."""
    return [_last_kind(f) for f in sorted(host.path(f"{STATE}/journal").glob("*.jsonl"))]


def _last_kind(journal: Path) -> str:
    return str(json.loads(journal.read_bytes().splitlines()[-1])["kind"])


def aftermath(
    host: Host, watched: str, settled: Sequence[str] = (), known: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """What a plan leaves on a host, but for names and times that tell which plan and when.

    watched: the kubelet's directory; settled: folders whose files count, with all but their times.
    known: contents that were there before, by their hash: every lab has certificates of its own.
    Notes about what was parked once are left out: a plan that was taken back leaves its own. So are
    the numbers of steps: an etcd that had to start twice after a boot makes for one step more.
    """
    quarantine = [place.name.lstrip("0123456789-") for place in quarantined(host)]
    parked = [p.name for p in _files(host, f"{STATE}/parked") if not p.name.endswith(".json")]
    return {
        "manifest": host.read(MANIFEST).decode() if host.path(MANIFEST).exists() else "",
        "watched": names_in(host, watched),
        "parked": sorted(map(plainly, parked)),
        "quarantine": sorted(quarantine),
        "fence": host.path(f"{STATE}/fence.json").exists(),
        "lock": lock_holder(host),
        "journals": journal_states(host),
        "settled": {folder: _timeless(picture(host, folder), known or {}) for folder in settled},
    }


def names_in(host: Host, folder: str) -> list[str]:
    """What lies in a directory, sorted; nothing where there is none."""
    top = host.path(folder)
    return sorted(p.name for p in top.iterdir()) if top.is_dir() else []


def _timeless(found: Picture, known: Mapping[str, str]) -> Picture:
    return {
        name: (*seen[:4], *(known.get(content, content) for content in seen[5:]))
        for name, seen in found.items()
    }


def apart(wanted: Any, found: Any, where: str = "") -> list[str]:
    """Where two nested dictionaries differ, in words; empty where nowhere."""
    if not (isinstance(wanted, dict) and isinstance(found, dict)):
        return [] if wanted == found else [f"{where}: {wanted} -> {found}"]
    names = sorted(wanted.keys() | found.keys())
    return [told for n in names for told in apart(wanted.get(n), found.get(n), f"{where}/{n}")]


def _files(host: Host, folder: str) -> list[Path]:
    top = host.path(folder)
    return [p for p in top.iterdir() if p.is_file()] if top.is_dir() else []


def guards(host: Host) -> list[str]:
    """Tables of a guard of the peer port that is still there."""
    listed = host.run(["nft", "list", "tables"]).stdout
    return re.findall(r"table \w+ etcd_rescue_guard", listed)


def require_clean(host: Host, may_be_locked: bool = False) -> None:
    """Nothing of a run is left on a host that is up, but the lock of one that changed nothing."""
    holder = lock_holder(host)
    assert may_be_locked or not holder, f"{host.name}: the lock is held by {holder}"
    assert not guards(host), f"{host.name}: a guard stands"
    require_no_flag_left(host)


def require_watched(host: Host, folder: str, names: Sequence[str]) -> None:
    """This and nothing else is in the watched directory."""
    found = names_in(host, folder)
    assert found == sorted(names), f"{host.name}: {found}"


def require_whole(lab: Lab, voters: Sequence[str], keys: Mapping[str, bytes]) -> None:
    """These are the voters of one cluster, equal in hash, with all keys; nothing is left over."""
    require_one_cluster(lab, list(voters), dict(keys))
    for host in lab.machines:
        if host.is_up:
            require_clean(host)
