"""Which of the lab's files are run first."""

from __future__ import annotations

from tests.lab import parallel


def test_the_longest_are_files_that_there_are_and_come_first() -> None:
    waiting = parallel.in_order()
    names = [path.relative_to(parallel.HERE).as_posix() for path in waiting]
    assert names[: len(parallel.LONGEST)] == list(parallel.LONGEST)


def test_every_file_is_run_once_and_the_rest_by_size() -> None:
    waiting = parallel.in_order()
    assert sorted(waiting) == sorted(parallel.HERE.rglob("test_*.py"))
    sizes = [path.stat().st_size for path in waiting[len(parallel.LONGEST) :]]
    assert sizes == sorted(sizes, reverse=True)
