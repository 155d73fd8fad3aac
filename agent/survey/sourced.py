"""A static pod whose shell sources files of variables and then becomes etcd: OpenShift 3.11.

The pod's script is read only where it does nothing else (openshift-ansible release-3.11,
roles/etcd/files/etcd.yaml): `set -o allexport`, `source FILE`, `exec etcd`.
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Optional

from agent.errors import Damaged, Refused
from agent.host import Host
from agent.model.facts import EtcdConfig
from agent.survey.envfile import is_plain
from agent.survey.flags import CommandLine, from_environment, parse_argv
from agent.survey.manifest import pod_config
from agent.survey.pod import ContainerSpec, Pod, is_shell, parse_pod
from agent.survey.settings import Settings, settle
from agent.survey.sourcefile import parse_sourced
from agent.survey.unit import ENV_FILE, FLAG, Source, UnitView, Variable, read_text

_SOURCE = re.compile(r"(?:source|\.)\s+(/[\w./@-]+)")
_SET = re.compile(r"set\s+[-+]\w+(?:\s+(?:allexport|pipefail|errexit|nounset))*")
_EXEC = re.compile(r"(?:exec\s+)?((?:/[\w./-]*/)?etcd(?:\s+[\w@%+=:,./\[\] -]+)?)")


@dataclass(frozen=True)
class Script:
    """files: what is sourced, in order, as the container names it. argv: flags behind `etcd`."""

    files: tuple[str, ...]
    argv: tuple[str, ...]


def read_script(spec: ContainerSpec) -> Optional[Script]:
    """The script of a container that sources files and becomes etcd; None for any other."""
    argv = spec.argv
    if not is_shell(argv) or len(argv) != 3 or argv[1] != "-c":
        return None
    files: list[str] = []
    started: Optional[list[str]] = None
    for line in (text.strip() for text in argv[2].splitlines()):
        if not line or line.startswith("#"):
            continue
        if started is not None:
            return None  # something follows etcd
        if match := _SOURCE.fullmatch(line):
            files.append(match.group(1))
        elif match := _EXEC.fullmatch(line):
            started = shlex.split(match.group(1))[1:]
        elif not _SET.fullmatch(line):
            return None
    return None if started is None else Script(tuple(files), tuple(started))


def sourced_view(
    host: Host, pod: Pod, spec: ContainerSpec, texts: Optional[dict[str, str]] = None
) -> UnitView:
    """Everything etcd gets from such a pod, with the place of every value.

    texts: contents to take instead of the files' own. Raises Refused where the container does
    something else, Damaged where a sourced file is not to be read on this host.
    """
    script = read_script(spec)
    if script is None:
        raise Refused(
            f"{pod.path}: the script of container {spec.name} is not understood",
            "what etcd will run with is known only of a script that sources files and becomes etcd",
            f"write it as OpenShift installs it (source FILE, exec etcd), in {pod.path}",
        )
    view = UnitView(pod.path, {pod.path: pod.document.text}, exec_file=pod.path)
    for name, value in spec.env.items():
        source = Source(ENV_FILE, pod.path, 1, fixed="it is in the pod's own env")
        view.variables[name] = Variable(value, source)
    for name in script.files:
        _read_file(host, view, spec, name, texts or {})
    env = {name: variable.value for name, variable in view.variables.items()}
    for flag, value in from_environment(env).items():
        variable = view.variables["ETCD_" + flag.upper().replace("-", "_")]
        view.values[flag], view.sources[flag] = value, variable.source
    _flags(view, parse_argv(script.argv))
    return view


def _flags(view: UnitView, line: CommandLine) -> None:
    for given in line.given:
        if given.name in view.values:
            view.note(f"{view.name}: --{given.name} is a flag, and a variable as well")
        fixed = "it stands in the script of the pod"
        view.values[given.name] = given.value
        view.sources[given.name] = Source(FLAG, view.name, 1, fixed=fixed)
    view.stray, view.repeated = line.stray, line.repeated()


def _read_file(
    host: Host, view: UnitView, spec: ContainerSpec, name: str, texts: dict[str, str]
) -> None:
    path, why = spec.host_path(name)
    if why:
        raise Damaged(f"{view.name}: {why}", "etcd's settings are in it")
    try:
        text = texts[path] if path in texts else read_text(host, path)
    except FileNotFoundError:
        raise Damaged(
            f"{path} is missing; {view.name} sources it",
            "etcd's settings are in it, and its container ends without them",
            f"put {path} back, from a backup of this host",
        ) from None
    view.texts[path] = text
    view.env_files.append(path)
    sourced = parse_sourced(text)
    for number in sourced.unknown:
        view.note(f"{path}:{number}: neither a setting nor a comment; a shell would run it")
    for given in sourced.assignments:
        fixed = "" if is_plain(text, given) else "it is written in several quotes"
        if given.value.endswith("\r"):
            view.note(f"{path}:{given.line}: the line ends in CR LF: {given.name} has a CR in it")
        source = Source(ENV_FILE, path, given.line, given.start, given.end, fixed)
        view.variables[given.name] = Variable(given.value, source)


def sourced_config(
    host: Host, pod: Pod, spec: ContainerSpec, texts: Optional[dict[str, str]] = None
) -> EtcdConfig:
    """What the etcd of a pod will run with, its sourced files read; raises as `sourced_view`.

    Of a pod that starts etcd directly: what `pod_config` says. sha256 covers the sourced files too.
    """
    if not is_shell(spec.argv):
        return pod_config(pod, spec)
    view = sourced_view(host, pod, spec, texts)
    given = list(parse_argv(_argv(spec)).given)
    environment = {
        flag: value for flag, value in view.values.items() if view.sources[flag].kind == ENV_FILE
    }
    line = CommandLine(tuple(given), view.stray)
    settings = Settings(pod.path, line, environment, spec.host_path, spec.working_dir)
    settings.problems += view.problems
    config = settle(settings, digest_of(view), spec.image)
    sources = {flag: str(source) for flag, source in view.sources.items()}
    return replace(config, sources=sources, files=tuple(view.texts))


def _argv(spec: ContainerSpec) -> tuple[str, ...]:
    script = read_script(spec)
    return script.argv if script else ()


def digest_of(view: UnitView) -> str:
    """sha256 over the manifest, wherever it lies, and the sourced files with their names."""
    found = sha256()
    for path, text in sorted(view.texts.items(), key=lambda item: (item[0] != view.name, item[0])):
        data = text.encode("utf-8", "surrogateescape")
        name = "" if path == view.name else path
        found.update(f"{name}\0{len(data)}\0".encode("utf-8", "surrogateescape") + data)
    return found.hexdigest()


def read_pod(
    host: Host, path: str, container: str, texts: Optional[dict[str, str]] = None
) -> tuple[Pod, ContainerSpec]:
    """The pod of the manifest at `path`, and its etcd container. Raises Damaged, Refused."""
    text = (texts or {}).get(path)
    pod = parse_pod(host.read_text(path, 1024 * 1024) if text is None else text, path)
    spec = pod.etcd(container)
    if spec is None:
        raise Refused(f"{path}: no container of this pod runs etcd")
    return pod, spec
