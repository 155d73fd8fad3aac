"""The `dcos` command: strict about its words, and with the outputs that are documented.

Words, flags and answers are those of docs/dcos.md's sources. An unknown argument fails.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from tests.lab.dcos.cluster import ENDED, URL, VERSION, Cluster

_CUT_AFTER = 4096


if TYPE_CHECKING:
    import argparse


def _strict(program: str) -> argparse.ArgumentParser:
    """A parser whose complaints are the CLI's, and that completes no word."""
    import argparse  # takes time to load, and half of the commands need none

    class Strict(argparse.ArgumentParser):
        def error(self, message: str) -> NoReturn:
            fail(f"Error: {message}", 1)

    return Strict(prog=program, allow_abbrev=False)


def fail(text: str, code: int = 1) -> NoReturn:
    """End as the CLI does."""
    print(text, file=sys.stderr)
    raise SystemExit(code)


def say_and_fail(text: str) -> NoReturn:
    """End as the package's CLI does: it prints its errors on stdout."""
    print(text)
    raise SystemExit(1)


def main(argv: list[str]) -> None:
    """One command."""
    with Cluster.held(Path(os.environ["LAB_DCOS"])) as cluster:
        garbage = cluster.faults.get("garbage", {})
        key = next((key for key in garbage if " ".join(argv).startswith(key)), None)
        if argv[:1] != ["config"] and cluster.faults.get("login"):
            fail("Error: authentication failed, please run `dcos auth login`")
        if key is not None:
            print(garbage[key])
            return
        groups = {"config": config, "package": package, "node": node, "task": task,
                  "kubernetes": kubernetes}  # fmt: skip
        if not argv or argv[0] not in groups:
            fail(f"Error: '{argv[0] if argv else ''}' is not a dcos command.")
        run = groups[argv[0]](cluster, argv[1:])
        lingers = cluster.faults.pop("linger", 0) if "replace" in argv else 0
    time.sleep(lingers)  # the answer is late, for a run that is to be killed meanwhile
    if run is not None:
        execute(run)


Run = tuple[list[str], str, bool] | None


def show(value: Any) -> None:
    """JSON as the CLI prints it."""
    print(json.dumps(value, indent=2))


def config(cluster: Cluster, argv: list[str]) -> Run:
    """`dcos config show core.dcos_url`."""
    if argv != ["show", "core.dcos_url"]:
        fail(f"Error: unknown arguments {argv}")
    print(URL)
    return None


def node(cluster: Cluster, argv: list[str]) -> Run:
    """`dcos node --json`: agents that are registered, and so not those that are gone."""
    if argv != ["--json"]:
        fail(f"Error: unknown arguments {argv}")
    rows = [a for a in cluster.data["agents"] if a["active"] or a.get("lately")]
    show([{"type": "agent", "attributes": {}, "resources": {"cpus": 4.0}, **a} for a in rows])
    return None


def package(cluster: Cluster, argv: list[str]) -> Run:
    """`dcos package list|install|uninstall`."""
    parser = _strict("dcos package")
    verbs = parser.add_subparsers(dest="verb", required=True)
    _json_only(verbs.add_parser("list", allow_abbrev=False))
    install = verbs.add_parser("install", allow_abbrev=False)
    install.add_argument("package", choices=["kubernetes"])
    install.add_argument("--options", required=True)
    install.add_argument("--package-version", choices=[VERSION])
    install.add_argument("--yes", action="store_true", required=True)
    uninstall = verbs.add_parser("uninstall", allow_abbrev=False)
    uninstall.add_argument("package", choices=["kubernetes"])
    uninstall.add_argument("--app-id", required=True)
    said = parser.parse_args(argv)
    if said.verb == "list":
        row = {"apps": [f"/{cluster.data['service']}"], "name": "kubernetes", "version": VERSION,
               "command": {"name": "kubernetes"}, "framework": True}  # fmt: skip
        show([row] if cluster.data["installed"] else [])
    elif said.verb == "install":
        if cluster.data["installed"]:
            fail("Error: the package is installed already")
        cluster.data["options"] = json.loads(Path(said.options).read_text())
        cluster.data.update(installed=True, runs=[])
        cluster.deploy()
        print("DC/OS Kubernetes is being installed!")
    else:
        if said.app_id.lstrip("/") != cluster.data["service"] or not cluster.data["installed"]:
            fail(f"Error: package 'kubernetes' with id '{said.app_id}' is not installed")
        cluster.destroy()
        cluster.faults.pop("crash", None)
        cluster.data["installed"] = False
        print("Uninstalled package [kubernetes]")
    return None


def task(cluster: Cluster, argv: list[str]) -> Run:
    """`dcos task [--completed] --json`, `dcos task exec TASK CMD [ARGS]`."""
    if argv[:1] == ["exec"]:
        return _exec(cluster, argv[1:])
    if argv not in (["--json"], ["--completed", "--json"]):
        fail(f"Error: unknown arguments {argv}")
    over = (*ENDED, "TASK_UNREACHABLE", "TASK_GONE", "TASK_LOST")
    runs = [r for r in cluster.data["runs"] if (r["state"] in over) == ("--completed" in argv)]
    rows = [_task_row(r["id"], r["name"], r["agent"], r["state"], r["time"]) for r in runs]
    api = f"{cluster.data['service']}__kube-apiserver-0-instance__1"
    if cluster.data["api_ran"] and "--completed" not in argv:
        rows.append(_task_row(api, "kube-apiserver-0-instance", "A1", "TASK_RUNNING", 1.0))
    show([*rows, _task_row("other__etcd-0-peer__1", "etcd-0-peer", "A1", "TASK_RUNNING", 9e9)])
    return None


def _task_row(id: str, name: str, agent: str, state: str, time: float) -> dict[str, Any]:
    return {"id": id, "name": name, "slave_id": agent, "state": state, "framework_id": "f",
            "executor_id": "", "resources": {"cpus": 0.5, "mem": 1024.0},
            "statuses": [{"state": state, "timestamp": time}]}  # fmt: skip


def _exec(cluster: Cluster, argv: list[str]) -> Run:
    """Hands the command back, to be run once the cluster is let go."""
    if len(argv) < 2 or argv[0].startswith("-"):
        fail("Error: dcos task exec <task> <cmd> [<args>...]")
    found = [r for r in cluster.data["runs"] if argv[0] in r["id"] and r["state"] == "TASK_RUNNING"]
    if len(found) != 1:
        fail(f"Error: no task ID found containing '{argv[0]}'")
    is_cut = argv[1] == "base64" and cluster.faults.get("cut", 0) > 0
    if is_cut:
        cluster.faults["cut"] -= 1
    return argv[1:], found[0]["sandbox"], is_cut


def execute(run: Run) -> None:
    """Run a command in a task's sandbox; where the connection is to be cut, in the middle of it."""
    assert run is not None
    import subprocess

    argv, sandbox, is_cut = run
    if argv[0] not in ("find", "wc", "base64", "rm"):
        fail(f"Error: {argv[0]} was not expected in a task")
    done = subprocess.run(argv, cwd=sandbox, stdin=subprocess.DEVNULL, check=False,
                          stdout=subprocess.PIPE, env={"PATH": "/usr/bin:/bin"})  # fmt: skip
    sys.stdout.buffer.write(done.stdout[:_CUT_AFTER] if is_cut else done.stdout)
    sys.stdout.flush()
    if is_cut:
        fail("Error: unexpected EOF")
    raise SystemExit(done.returncode)


# ---- the package's own commands ------------------------------------------------------------------


def kubernetes(cluster: Cluster, argv: list[str]) -> Run:
    """`dcos kubernetes --name=SERVICE …`."""
    said = _kubernetes_parser().parse_args(_expanded(argv))
    if said.name != cluster.data["service"] or not cluster.data["installed"]:
        say_and_fail(
            "Did you provide the correct service name? Currently using "
            f"'{said.name}', specify a different name with '--name=<name>'.\n"
            "Was the service recently installed or updated? It may still be initializing, "
            "wait a bit and try again."
        )
    {"describe": _describe, "pod": _pod, "plan": _plan, "update": _update, "backup": _backup,
     "restore": _restore}[said.verb](cluster, said)  # fmt: skip
    return None


def _expanded(argv: list[str]) -> list[str]:
    """kingpin's @FILE: arguments out of a file, one on each line."""
    found = []
    for word in argv:
        found += Path(word[1:]).read_text().splitlines() if word.startswith("@") else [word]
    return found


def _kubernetes_parser() -> argparse.ArgumentParser:
    parser = _strict("dcos kubernetes")
    parser.add_argument("--name", default="kubernetes")
    verbs = parser.add_subparsers(dest="verb", required=True)
    verbs.add_parser("describe", allow_abbrev=False)
    pod = verbs.add_parser("pod", allow_abbrev=False).add_subparsers(dest="pod_verb", required=True)
    _json_only(pod.add_parser("status", allow_abbrev=False))
    pod.add_parser("replace", allow_abbrev=False).add_argument("pod")
    plans = verbs.add_parser("plan", allow_abbrev=False)
    plan = plans.add_subparsers(dest="plan_verb", required=True)
    status = plan.add_parser("status", allow_abbrev=False)
    status.add_argument("plan", choices=["deploy", "recovery"])
    _json_only(status)
    update = verbs.add_parser("update", allow_abbrev=False)
    update.add_argument("--options", required=True)
    for verb in ("backup", "restore"):
        one = verbs.add_parser(verb, allow_abbrev=False)
        for flag in ("aws-region", "aws-bucket", "aws-access-key-id", "aws-secret-access-key"):
            one.add_argument(f"--{flag}", required=True)
        one.add_argument("--timeout", default="1200s")
    verbs.choices["restore"].add_argument("--backup-name", default="kubernetes-backup")
    for verb in ("restore", "update"):
        verbs.choices[verb].add_argument("--yes", action="store_true", required=True)
    update.add_argument("--timeout", default="1200s")
    return parser


def _json_only(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", required=True)


def _describe(cluster: Cluster, said: argparse.Namespace) -> None:
    if cluster.data["edition"] == "open":
        print(f"Package configuration is not available for service {said.name}.")
        print("dcos kubernetes describe is only available for packages installed with Enterprise "
              "DC/OS 1.10 or newer.")  # fmt: skip
        return
    show(cluster.data["options"])


def _pod(cluster: Cluster, said: argparse.Namespace) -> None:
    if said.pod_verb == "replace":
        if said.pod not in cluster.wanted:
            say_and_fail(f"HTTP POST Query for {URL}/v1/pod/{said.pod}/replace failed: 404")
        cluster.replace(said.pod)
        show({"pod": said.pod, "tasks": [f"{said.pod}-peer", f"{said.pod}-recover"]})
        return
    instances = []
    for pod in cluster.wanted:
        tasks = []
        if run := cluster.run_of(pod):
            status = run["state"].removeprefix("TASK_")
            tasks.append({"name": f"{pod}-peer", "id": run["id"], "status": status})
        instances.append({"name": pod, "tasks": tasks})
    show({"service": said.name, "pods": [{"name": "etcd", "instances": instances},
          {"name": "kube-apiserver", "instances": []}]})  # fmt: skip


def _plan(cluster: Cluster, said: argparse.Namespace) -> None:
    done = cluster.data["deployed"] or said.plan == "recovery"
    steps = []
    for pod in cluster.wanted:
        run = cluster.run_of(pod)
        is_up = run is not None and run["state"] == "TASK_RUNNING"
        status = "COMPLETE" if done or is_up else "STARTING" if run else "PENDING"
        steps.append({"id": pod, "name": f"{pod}:[peer]", "status": status, "message": ""})
    api = "COMPLETE" if cluster.data["api_ran"] else "PENDING"
    later = [{"id": "a", "name": "kube-apiserver-0:[instance]", "status": api, "message": ""}]
    whole = "COMPLETE" if done else "IN_PROGRESS"
    phases = [{"id": "e", "name": "etcd", "steps": steps, "status": whole, "strategy": "serial"},
              {"id": "a", "name": "apiserver", "steps": later, "status": api}]  # fmt: skip
    show({"phases": [] if said.plan == "recovery" else phases, "errors": [], "status": whole,
          "strategy": "serial"})  # fmt: skip


def _update(cluster: Cluster, said: argparse.Namespace) -> None:
    if json.loads(Path(said.options).read_text()) != {"kubernetes": {"high_availability": True}}:
        say_and_fail("this imitation only scales up")
    print("2018/03/01 15:40:14 starting update process...\n2018/03/01 15:40:15 waiting for update "
          "to finish...")  # fmt: skip
    if not cluster.scale_up():
        say_and_fail(f"2018/03/01 15:41:56 update did not complete within {said.timeout}")
    print("2018/03/01 15:41:56 update complete!")


def _backup(cluster: Cluster, said: argparse.Namespace) -> None:
    _require_keys(said)
    if not cluster.backup(said.aws_bucket, "kubernetes-backup"):
        say_and_fail(" Backup creation: [FAILED]")
    print(" Backup creation: [COMPLETE]\nBackup has been successfully created!")


def _restore(cluster: Cluster, said: argparse.Namespace) -> None:
    _require_keys(said)
    if not cluster.restore(said.aws_bucket, said.backup_name):
        say_and_fail(f" Backup restore: [FAILED]\nno backup {said.backup_name}")
    cluster.data["api_ran"] = True
    print(" Backup restore: [COMPLETE]\nBackup successfully restored!")


def _require_keys(said: argparse.Namespace) -> None:
    if (said.aws_access_key_id, said.aws_secret_access_key) != ("AKIALAB", "not-so-secret"):
        say_and_fail("InvalidAccessKeyId")


if __name__ == "__main__":
    main(sys.argv[1:])
