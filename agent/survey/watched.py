"""The kubelet's watched directory: its etcd, what else runs one there, and what is parked."""

from __future__ import annotations

import json
import posixpath
import stat
from dataclasses import dataclass, replace
from typing import Any, Optional

from agent.errors import Damaged, Refused, RescueError
from agent.host import STATE_DIR, Host
from agent.model.facts import EtcdConfig, Parked, Stray
from agent.platforms.base import Platform
from agent.survey.manifest import etcd_config, parse_pod, pod_config
from agent.survey.pod import ContainerSpec, Pod
from agent.survey.sourced import read_pod, sourced_config
from agent.survey.units import block_path, read_unit, unit_config

PARKED_DIR = f"{STATE_DIR}/parked"
_MAX_MANIFEST = 1024 * 1024


@dataclass(frozen=True)
class _EtcdPod:
    path: str
    pod: Pod
    spec: ContainerSpec


def read_watched(
    host: Host, platform: Platform
) -> tuple[Optional[EtcdConfig], tuple[Stray, ...], tuple[str, ...]]:
    """(what etcd will run with, files that must not be there, problems) of the watched directory.

    The kubelet runs every regular file whose name does not begin with a dot, `etcd.yaml.bak` too
    (kubernetes pkg/kubelet/config/file.go, extractFromDir). The platform's own file gives the
    config; with that gone, a single other etcd pod does, since it is what would run. Where a unit
    runs etcd, the unit stands for the directory (survey/units.py).
    """
    if platform.definition_kind == "unit":
        return _read_unit(host, platform)
    if platform.definition_kind == "none":
        return None, (), ()
    found, strays = _etcd_pods(host, platform)
    problems = [s.problem for s in strays if s.path == platform.manifest]
    strays = [s for s in strays if s.path != platform.manifest]
    own = [etcd for etcd in found if etcd.path == platform.manifest]
    others = [etcd for etcd in found if etcd.path != platform.manifest]
    if not own and not problems and host.exists(platform.manifest):
        problems.append(f"{platform.manifest}: no container of this pod runs etcd")
    if not own and not problems and len(others) == 1:
        own, others = others, []
        problems.append(f"{own[0].path} runs etcd; there is no {platform.manifest}")
    also = f"also runs etcd: the kubelet starts every file in {platform.manifest_dir}"
    strays += [Stray(etcd.path, also) for etcd in others]
    config = None
    if own:
        try:
            config = with_client_tls(host, platform, _config_of(host, platform, own[0]))
        except RescueError as error:
            problems.append(_told(error))
    return config, tuple(strays), tuple(problems)


def read_config(host: Host, platform: Platform, path: str) -> EtcdConfig:
    """What the etcd of the manifest at `path` (parked, or from a backup) would run with.

    Raises FileNotFoundError, Damaged where it is not a readable Pod, Refused where no etcd, several
    or a script is in it. A parked unit is held back in its place, and read there.
    """
    if platform.definition_kind == "unit":
        return with_client_tls(host, platform, unit_config(host, platform))
    if platform.definition_kind == "sourced":
        pod, spec = read_pod(host, path, platform.container)
        return with_client_tls(host, platform, sourced_config(host, pod, spec))
    config = etcd_config(host.read_text(path, _MAX_MANIFEST), path, platform.container)
    return with_client_tls(host, platform, config)


def _config_of(host: Host, platform: Platform, etcd: _EtcdPod) -> EtcdConfig:
    """What the etcd of a pod will run with, the files that its script sources read where it may."""
    if platform.definition_kind == "sourced":
        return sourced_config(host, etcd.pod, etcd.spec)
    return pod_config(etcd.pod, etcd.spec)


def definition_here(host: Host, platform: Platform) -> EtcdConfig:
    """What etcd runs with, from the definition in place or the one that is parked.

    Raises Refused where there is none.
    """
    config, _strays, problems = read_watched(host, platform)
    if config is not None:
        return config
    for parked in reversed(find_parked(host)):
        if parked.original:
            return read_config(host, platform, parked.path)
    raise Refused(
        f"{host.hostname()}: no definition of etcd: {'; '.join(problems) or 'none in place'}",
        "where its data lies, and how to speak to it, is not known without",
        "fab survey",
    )


def _read_unit(
    host: Host, platform: Platform
) -> tuple[Optional[EtcdConfig], tuple[Stray, ...], tuple[str, ...]]:
    config, strays, problems = read_unit(host, platform)
    if config is not None:
        return with_client_tls(host, platform, config), strays, problems
    block = block_path(platform.unit)
    if host.exists(block) and not any(p.original for p in find_parked(host)):
        lost = f"{block} keeps {platform.unit} from starting, and nothing says why: remove it"
        problems = (*problems, lost)
    return None, strays, problems


def with_client_tls(host: Host, platform: Platform, config: EtcdConfig) -> EtcdConfig:
    """The config with the client certificates that this host has."""
    return replace(config, client_tls=platform.client_tls(host, config))


def find_parked(host: Host) -> tuple[Parked, ...]:
    """Definitions moved out of the way: NAME beside NAME.json with where it came from.

    A definition without a readable NAME.json is listed with an empty `original`: a person must say
    where it belongs.
    """
    names = host.listdir(PARKED_DIR)
    definitions = [n for n in names if not n.startswith(".") and not n.endswith(".json")]
    return tuple(_parked(host, f"{PARKED_DIR}/{name}") for name in definitions)


def _etcd_pods(host: Host, platform: Platform) -> tuple[list[_EtcdPod], list[Stray]]:
    found: list[_EtcdPod] = []
    strays: list[Stray] = []
    for name in host.listdir(platform.manifest_dir):
        path = posixpath.join(platform.manifest_dir, name)
        try:
            if name.startswith(".") or not stat.S_ISREG(host.stat(path).st_mode):
                continue
            pod = parse_pod(host.read_text(path, _MAX_MANIFEST), path)
            spec = pod.etcd(platform.container)
        except FileNotFoundError:
            continue  # taken away meanwhile, or a link to nothing: the kubelet skips it too
        except OSError as error:
            strays.append(Stray(path, f"cannot be read: {error.strerror}"))
        except RescueError as error:
            strays.append(Stray(path, _told(error)))
        else:
            if spec is not None:
                found.append(_EtcdPod(path, pod, spec))
    return found, strays


def _parked(host: Host, path: str) -> Parked:
    try:
        told: Any = json.loads(host.read_text(f"{path}.json", 65536))
    except (OSError, Damaged, ValueError, RecursionError):
        told = None
    fields = told if isinstance(told, dict) else {}
    texts = {key: value for key, value in fields.items() if isinstance(value, str)}
    return Parked(path, texts.get("original", ""), texts.get("sha256", ""), texts.get("plan", ""))


def _told(error: RescueError) -> str:
    """An error in one line."""
    return "; ".join(part for part in (error.seen, error.why, error.next) if part)
