"""Imports run one way, effects go through one door, and what runs on hosts runs on Python 3.9."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from agent.actions.registry import ACTIONS
from agent.model.catalog import CATALOG
from agent.recipes.rules import RULES

ROOT = Path(__file__).parents[2]
MAX_LINES = 400


def python_files(*folders: str) -> list[str]:
    """Paths below these folders, relative to the project."""
    found = [p for folder in folders for p in (ROOT / folder).rglob("*.py")]
    return sorted(str(p.relative_to(ROOT)) for p in found)


AGENT = python_files("agent")
BOOTSTRAP = "coordinator/bootstrap.py"
"""Goes to the host with the agent and starts it there: by its place the coordinator's, not so by
what it imports."""

EVERYTHING = sorted(
    {
        *python_files("agent", "coordinator", "bundle", "tests", "bench", "images", "tools"),
        *(p.name for p in ROOT.glob("*.py")),
    }
)


@cache
def tree(path: str) -> ast.Module:
    return ast.parse((ROOT / path).read_text(), path)


def imports(path: str) -> Iterator[str]:
    """Every module that a file imports, anywhere in it; relative imports are not used here."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: a relative import"
            module = node.module or ""
            yield module
            if module.partition(".")[0] in ("agent", "coordinator"):
                yield from (f"{module}.{alias.name}" for alias in node.names)


def belongs(module: str, rooms: tuple[str, ...]) -> bool:
    return any(module == room or module.startswith(f"{room}.") for room in rooms)


# ---- rooms ---------------------------------------------------------------------------------------

PURE_STDLIB = (
    "__future__", "collections", "dataclasses", "enum", "functools", "hashlib", "itertools", "json",
    "re", "typing", "urllib.parse",
)  # fmt: skip
"""No module here touches a file, a process, the network or a clock."""

PURE_ROOMS = {
    "agent/model": ("agent.model", "agent.errors", "dacite"),
    "agent/diagnosis": ("agent.diagnosis", "agent.model", "agent.errors"),
    "agent/recipes": ("agent.recipes", "agent.diagnosis", "agent.model", "agent.errors"),
    "agent/errors.py": ("agent.errors",),
}
PURE_EXCEPTIONS = {
    ("agent/diagnosis/notes.py", "time"): "writes a time that it was given as a date",
    ("agent/recipes/openshift4.py", "datetime"): "writes a time that it was given as a date",
}


@pytest.mark.parametrize("room", PURE_ROOMS)
def test_pure_rooms_import_nothing_with_effects(room: str) -> None:
    allowed = (*PURE_STDLIB, *PURE_ROOMS[room])
    wrong = [
        f"{path} imports {module}"
        for path in AGENT
        if path == room or path.startswith(f"{room}/")
        for module in imports(path)
        if module != "agent"
        and not belongs(module, allowed)
        and (path, module) not in PURE_EXCEPTIONS
    ]
    assert wrong == []


def test_the_diagnosis_asks_no_clock() -> None:
    used = {
        node.attr
        for path, module in PURE_EXCEPTIONS
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id == module
    }
    assert used == {"strftime", "gmtime"}


BELOW = ("agent.entry", "agent.runner")
"""Who carries out steps: nothing that is carried out knows them."""

ONE_WAY = [
    ("agent", ("coordinator", "fabfile", "tests", "bench")),
    ("agent/survey", ("agent.actions", "agent.recipes", "agent.diagnosis", *BELOW)),
    ("agent/platforms", ("agent.actions", "agent.recipes", "agent.diagnosis", *BELOW)),
    ("agent/actions", ("agent.recipes", *BELOW)),
    ("agent/snapshot", ("agent.recipes", *BELOW)),
    ("agent/host", ("agent.recipes", "agent.diagnosis")),
    ("agent/etcd", ("agent.recipes", "agent.diagnosis")),
    ("agent/records", ("agent.recipes", "agent.diagnosis")),
    ("agent/entry/session.py", ("agent.recipes", "agent.entry.planning", "agent.entry.visit")),
    ("agent/runner.py", ("agent.recipes", "agent.entry")),
    ("agent/records", ("agent.survey", "agent.actions", "agent.platforms", *BELOW)),
    ("agent/etcd", ("agent.survey", "agent.actions", *BELOW)),
    ("agent/entry/verbs.py", ("agent.recipes", "agent.entry.cli", "agent.entry.session")),
    ("agent/host", ("agent.model", "agent.survey", "agent.actions", "agent.platforms", *BELOW)),
    ("coordinator", ("agent.actions", "agent.survey", *BELOW, "fabfile", "tests")),
]


PLANNERS = [
    f"agent/entry/{name}.py" for name in ("applying", "planning", "proofs", "undoing", "visit")
]
"""What plans at a console, and knows the order of a plan's steps; a coordinator's agent loads none
of them."""


def test_only_a_console_plans_on_a_host() -> None:
    """Everything else in the agent is told what to do."""
    users = {p for p in AGENT for m in imports(p) if belongs(m, ("agent.recipes",))}
    assert sorted(p for p in users if not p.startswith("agent/recipes/")) == PLANNERS


@pytest.mark.parametrize(("room", "forbidden"), ONE_WAY, ids=[f"{r[0]}" for r in ONE_WAY])
def test_imports_run_one_way(room: str, forbidden: tuple[str, ...]) -> None:
    wrong = [
        f"{path} imports {module}"
        for path in python_files("agent", "coordinator")
        if path != BOOTSTRAP and (path == room or path.startswith(f"{room}/"))
        for module in imports(path)
        if belongs(module, forbidden)
    ]
    assert wrong == []


def test_the_coordinator_knows_no_more_of_a_host_than_where_its_state_lies() -> None:
    """The rest would touch the operator's machine, which has the journals of DC/OS only."""
    rooms = [p for p in python_files("coordinator") if p != "coordinator/dcos/state.py"]
    used = {m for p in rooms for m in imports(p) if m.startswith("agent.host")}
    harmless = {"processes", "processes.forbid_core_dumps"}
    assert used <= {"agent.host", "agent.host.STATE_DIR", *(f"agent.host.{m}" for m in harmless)}


# ---- the door to files and processes -------------------------------------------------------------

DOOR = tuple(python_files("agent/host"))
BESIDE_THE_DOOR = {
    "agent/actions/adopt.py": "gives a tree owners and labels, below host.real",
    "agent/actions/tree.py": "copies a tree with holes, owners and xattrs, below host.real",
    "agent/actions/binary.py": "puts a binary in place by a rename, below host.real",
    "agent/entry/hold.py": "has a socket in the pod's own file system, which is no host's",
    "agent/actions/scratch.py": "names subprocess.TimeoutExpired, which the door's process raises",
    "agent/records/locks.py": "holds a lock by an open file, below host.real",
    "agent/survey/positioned.py": "reads at offsets in a file that the door opened",
    "agent/survey/processes.py": "reads a link of /proc, below host.real",
    "agent/survey/binaries.py": "reads a link of /proc, below host.real",
    "agent/survey/disk.py": "reads the mount flags of a path below host.real",
}
HARMLESS_OS = {
    "path", "environ", "getpid", "getuid", "geteuid", "umask", "strerror", "fspath", "ST_RDONLY",
    "SEEK_DATA", "SEEK_HOLE", "SEEK_SET", "devnull", "linesep", "name", "urandom", "cpu_count",
    "stat_result",
}  # fmt: skip
DOOR_MODULES = ("subprocess", "shutil", "tempfile", "glob", "pathlib.Path", "fileinput", "pty")


def goes_around(path: str) -> list[str]:
    """What a file uses of files and processes by itself: os functions, open(), modules."""
    found = [module for module in imports(path) if belongs(module, DOOR_MODULES)]
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.ImportFrom) and node.module in ("os", "pathlib"):
            found += [a.name for a in node.names if a.name in ("Path", "open", "PosixPath")]
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            found += ["open"] if node.func.id == "open" else []
        is_os = isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name)
        if isinstance(node, ast.Attribute) and is_os and getattr(node.value, "id", "") == "os":
            found += [f"os.{node.attr}"] if node.attr not in HARMLESS_OS else []
    return found


def test_files_and_processes_go_through_one_door() -> None:
    wrong = {p: goes_around(p) for p in AGENT if p not in (*DOOR, *BESIDE_THE_DOOR)}
    assert {path: used for path, used in wrong.items() if used} == {}


@pytest.mark.parametrize("path", BESIDE_THE_DOOR)
def test_every_exception_is_still_needed(path: str) -> None:
    assert goes_around(path)


def test_no_process_is_started_beside_the_door() -> None:
    started = [
        f"{path}:{node.lineno}"
        for path in AGENT
        if path not in DOOR
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and (node.value.id, node.attr)
        in {("subprocess", n) for n in ("run", "Popen", "call", "check_output", "check_call")}
        | {("os", n) for n in ("system", "popen", "fork", "execv", "execve", "spawnv")}
    ]
    assert started == []


# ---- words, sizes, Python ------------------------------------------------------------------------


def test_catalog_and_registry_name_the_same_actions() -> None:
    assert set(CATALOG) == set(ACTIONS)
    assert all(name == spec.name for name, spec in CATALOG.items())
    assert all(name == action.name for name, action in ACTIONS.items())


def test_the_rules_of_recipes_are_for_known_actions() -> None:
    """Those without a rule are for one's own hands: no recipe may name them."""
    by_hand = {"bring_back_data", "set_force_new_cluster", "clear_force_new_cluster"}
    assert set(RULES) == set(CATALOG) - by_hand


@pytest.mark.parametrize("name", CATALOG)
def test_every_action_has_all_its_words(name: str) -> None:
    spec = CATALOG[name]
    assert spec.title
    assert spec.precondition
    assert spec.undo


def test_no_file_grows_long() -> None:
    counts = {path: len((ROOT / path).read_text().splitlines()) for path in EVERYTHING}
    assert {path: n for path, n in counts.items() if n >= MAX_LINES} == {}


def test_every_file_says_in_one_line_what_it_is() -> None:
    silent = [
        path
        for path in python_files("agent", "coordinator")
        if not (ast.get_docstring(tree(path)) or "").partition("\n")[0]
    ]
    assert silent == []


@pytest.mark.parametrize("path", [*AGENT, BOOTSTRAP])
def test_the_agent_is_python_3_9(path: str) -> None:
    ast.parse((ROOT / path).read_text(), path, feature_version=(3, 9))
