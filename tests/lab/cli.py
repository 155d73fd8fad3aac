"""The lab's command line: `python -m tests.lab`."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Sequence

from tests.lab import enclosure, parallel, persistent, setup
from tests.lab.etcd_versions import DEFAULT, PREPARED, VERSIONS
from tests.lab.host import Host
from tests.lab.kubelet.timing import MEASURED, KubeletTiming
from tests.lab.lab import Lab
from tests.lab.options import LabOptions

Arguments = argparse.Namespace

_HINT = """\
The lab is up.
  python -m tests.lab shell                 the operator's shell: ssh master-0, fab …
  python -m tests.lab shell master-0        root on a host
  python -m tests.lab status                what is well and what is not
  python -m tests.lab crash-etcd master-0   break something; reset brings everything back
  python -m tests.lab down                  end it"""


def _say(message: str) -> None:
    print(f"lab: {message}", file=sys.stderr, flush=True)


def _command(words: Sequence[str]) -> list[str]:
    return list(words[1:] if words and words[0] == "--" else words)


# Outside


def build(arguments: Arguments) -> int:
    """Make everything a lab needs on this machine."""
    versions = [arguments.etcd] if arguments.etcd else PREPARED
    setup.ensure(versions, _say, install=True)
    return 0


def enclose(arguments: Arguments) -> int:
    """Run a command in an enclosure of its own."""
    command = _command(arguments.command) or ["bash"]
    if enclosure.is_enclosed():
        os.execvp(command[0], command)
    if not setup.is_ready():
        setup.ensure(say=_say)
    return enclosure.enclose(command)


def test(arguments: Arguments) -> int:
    """Run all lab tests, several files at a time."""
    return parallel.run_all(arguments.jobs, _command(arguments.command))


def up(arguments: Arguments) -> int:
    """Start the persistent lab."""
    preset = MEASURED if arguments.measured else KubeletTiming()
    given = {
        key: getattr(arguments, key)
        for key in ("teardown", "readmit", "backoff_base", "backoff_max")
        if getattr(arguments, key) is not None
    }
    timing = KubeletTiming(**{**preset.__dict__, **given})
    setup.ensure([arguments.etcd], _say)
    persistent.up(LabOptions(arguments.hosts, arguments.etcd, timing))
    print(_HINT)
    return 0


def down(_arguments: Arguments) -> int:
    """End the persistent lab."""
    _say("the lab is down" if persistent.down() else "no lab was up")
    return 0


def background(arguments: Arguments) -> int:
    """Be the persistent lab's outer process."""
    return persistent.serve_in_background(arguments.options)


def serve(arguments: Arguments) -> int:
    """Be the persistent lab's command: start it, then stay."""
    Lab.start_with(LabOptions.from_json(arguments.options))
    print(persistent.READY, flush=True)
    while True:
        time.sleep(3600)


# Inside


def status(_arguments: Arguments) -> int:
    """One line per host; 1 where something is not well."""
    lab = Lab.attach()
    well = True
    print(f"{'HOST':<12}{'ADDRESS':<14}{'POWER':<8}{'SSH':<8}{'ETCD':<12}READS")
    for host in lab.hosts.values():
        reads = lab.is_healthy(host)
        well = well and reads
        etcd = "running" if host.etcd_pids() else "stopped"
        cells = ("on" if host.is_up else "off", "yes" if host.ssh_answers(0.5) else "no")
        print(
            f"{host.name:<12}{host.address:<14}{cells[0]:<8}{cells[1]:<8}{etcd:<12}"
            f"{'yes' if reads else 'no'}"
        )
    return 0 if well else 1


def shell(arguments: Arguments) -> int:
    """Become a shell on a host, or the operator's."""
    command = ["bash", "-l"]
    if arguments.host != "operator":
        command = _host(arguments).enter_command(command)
    os.execvp(command[0], command)


def execute(arguments: Arguments) -> int:
    """Become a command on a host, or of the operator."""
    command = _command(arguments.command)
    if arguments.host != "operator":
        command = _host(arguments).enter_command(command)
    os.execvp(command[0], command)


def cut_network(arguments: Arguments) -> int:
    """Cut a host off, wholly or in part."""
    _host(arguments).cut_network(arguments.port, arguments.peers)
    return 0


def heal_network(arguments: Arguments) -> int:
    """Undo the cuts of one host, or of all."""
    lab = Lab.attach()
    for host in [lab.hosts[arguments.host]] if arguments.host else lab.hosts.values():
        host.heal_network()
    return 0


def reset(_arguments: Arguments) -> int:
    """Bring everything back to how it was."""
    Lab.attach().reset()
    return 0


def _host(arguments: Arguments) -> Host:
    lab = Lab.attach()
    if arguments.host not in lab.hosts:
        raise SystemExit(f"lab: no host {arguments.host}; there are {', '.join(lab.hosts)}")
    return lab.hosts[arguments.host]


def _on_host(action: Callable[[Host], None]) -> Callable[[Arguments], int]:
    def act(arguments: Arguments) -> int:
        action(_host(arguments))
        return 0

    return act


_OUTSIDE = {
    "build": build,
    "enclose": enclose,
    "test": test,
    "up": up,
    "down": down,
    "_background": background,
    "_serve": serve,
}
_INSIDE: dict[str, Callable[[Arguments], int]] = {
    "status": status,
    "shell": shell,
    "exec": execute,
    "cut-network": cut_network,
    "heal-network": heal_network,
    "reset": reset,
    "power-cut": _on_host(Host.power_cut),
    "boot": _on_host(Host.boot),
    "crash-etcd": _on_host(Host.crash_etcd),
    "wipe": _on_host(Host.wipe_etcd),
}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.lab", description=__doc__)
    commands = parser.add_subparsers(dest="name", required=True, metavar="COMMAND")
    for name, action in {**_OUTSIDE, **_INSIDE}.items():
        hidden = name.startswith("_")
        added = (
            commands.add_parser(name)
            if hidden
            else commands.add_parser(name, help=(action.__doc__ or name).split("\n")[0])
        )
        if name == "test":
            added.add_argument("--jobs", type=int, default=2, help="files at a time")
        _add_arguments(name, added)
    return parser


def _add_arguments(name: str, parser: argparse.ArgumentParser) -> None:
    if name in ("power-cut", "boot", "crash-etcd", "wipe", "exec", "cut-network"):
        parser.add_argument("host")
    if name in ("exec", "enclose", "test"):
        parser.add_argument("command", nargs=argparse.REMAINDER)
    if name in ("up", "build"):
        default = DEFAULT if name == "up" else None
        parser.add_argument("--etcd", default=default, choices=list(VERSIONS))
    if name in ("_background", "_serve"):
        parser.add_argument("options")
    if name == "shell":
        parser.add_argument("host", nargs="?", default="operator")
    if name == "heal-network":
        parser.add_argument("host", nargs="?")
    if name == "cut-network":
        parser.add_argument("--port", type=int, action="append", help="only this TCP port")
        parser.add_argument("--from", dest="peers", action="append", help="only from this host")
    if name == "up":
        parser.add_argument("--hosts", type=int, default=3)
        parser.add_argument("--measured", action="store_true", help="as slow as a real kubelet")
        for option in ("--teardown", "--readmit", "--backoff-base", "--backoff-max"):
            parser.add_argument(option, type=float, metavar="SECONDS")


def main(words: Sequence[str] | None = None) -> int:
    """Run one command; those about a running lab are carried into its enclosure first."""
    given = list(sys.argv[1:] if words is None else words)
    arguments = _parser().parse_args(given)
    try:
        if arguments.name in _OUTSIDE:
            return _OUTSIDE[arguments.name](arguments)
        if not enclosure.is_enclosed():
            again = persistent.enter_command([sys.executable, "-m", "tests.lab", *given])
            os.execvp(again[0], again)
        return _INSIDE[arguments.name](arguments)
    except (RuntimeError, TimeoutError, OSError) as error:
        _say(str(error))
        return 1
