"""Lab tests run inside an enclosure: pytest starts itself again in one, or skips them all."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator

import pytest

from tests.lab import enclosure, setup
from tests.lab.kubeadm_build import kubeadm_program
from tests.lab.lab import Lab
from tests.lab.pool import LabPool

_obstacle: str | None = None


def pytest_configure(config: pytest.Config) -> None:
    """Go into an enclosure before anything is collected."""
    global _obstacle
    config.addinivalue_line("markers", "kubeadm: runs where there is a kubeadm program")
    config.addinivalue_line("markers", "wide(variable): only where it is set, by a target of make")
    if enclosure.is_enclosed() or config.option.collectonly:
        return
    _obstacle = setup.obstacle() or _build()
    if _obstacle:
        return
    capture = config.pluginmanager.getplugin("capturemanager")
    if capture:
        capture.stop_global_capturing()
    command = [sys.executable, "-m", "tests.lab", "enclose", "--", sys.executable, "-m", "pytest"]
    os.execv(sys.executable, [*command, *config.invocation_params.args])


def _build() -> str | None:
    try:
        if not setup.is_ready():
            setup.ensure(say=_say)
        setup.ensure_for_tests(say=_say)
    except (RuntimeError, OSError) as error:
        return f"the lab cannot be built: {str(error).splitlines()[0]}"
    return None


def _say(message: str) -> None:
    print(f"lab: {message}", file=sys.stderr, flush=True)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what needs a program that the lab cannot make, and what was not asked for."""

    def is_absent(item: pytest.Item) -> bool:
        wide = item.get_closest_marker("wide")
        if item.get_closest_marker("kubeadm") and not kubeadm_program():
            return True
        return wide is not None and not os.environ.get(wide.args[0])

    absent = [item for item in items if is_absent(item)]
    items[:] = [item for item in items if item not in absent]
    config.hook.pytest_deselected(items=absent)


def pytest_runtest_setup() -> None:
    """Skip every lab test where no lab can run; in CI that is a failure."""
    if _obstacle and os.environ.get("CI") == "true":
        pytest.fail(f"CI must not skip lab tests: {_obstacle}", pytrace=False)
    if _obstacle:
        pytest.skip(_obstacle)


@pytest.fixture(scope="session")
def lab_pool() -> Iterator[LabPool]:
    """The labs of this run: one at a time, reset between tests."""
    pool = LabPool()
    yield pool
    pool.close()


@pytest.fixture
def make_lab(lab_pool: LabPool) -> Callable[..., Lab]:
    """A function that gives a fresh lab; it takes what Lab.start takes."""
    return lab_pool.get


@pytest.fixture
def lab(lab_pool: LabPool) -> Lab:
    """A fresh lab of three hosts with a healthy, empty cluster."""
    return lab_pool.get()
