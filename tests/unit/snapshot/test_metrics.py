"""The metrics file: what Prometheus' own parser reads in it, and whose directory it goes to."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from prometheus_client.parser import text_fd_to_metric_families

from agent.errors import Refused
from agent.host import Host
from agent.snapshot.metrics import (
    FILE,
    RESULTS,
    RunFacts,
    metrics_text,
    remove_metrics,
    write_metrics,
)
from agent.snapshot.retention import Kept

SETS = (Kept("b", 2000.5, 20, quorum=False), Kept("a", 1000.0, 10))


def parsed(text: str) -> dict[str, float]:
    found = {}
    for family in text_fd_to_metric_families(io.StringIO(text)):
        assert (family.type, bool(family.documentation)) == ("gauge", True)
        for sample in family.samples:
            found[sample.name + "".join(sample.labels.values())] = sample.value
    return {name.removeprefix("etcd_rescue_snapshot_"): value for name, value in found.items()}


@pytest.mark.parametrize("result", RESULTS)
def test_exactly_one_result_is_told(result: str) -> None:
    said = parsed(metrics_text(RunFacts(result, 3000.0, 1.5, 99), SETS))
    told = {r: said[f"last_run_result{r}"] for r in RESULTS}
    assert told == {r: float(r == result) for r in RESULTS}


def test_the_newest_and_all_of_them() -> None:
    said = parsed(metrics_text(RunFacts("ok", 3000.0, 1.5, 99, 1, 2, 77, 5), SETS))
    assert said["last_success_timestamp_seconds"] == 2000.5
    assert said["last_success_quorum"] == 0
    assert (said["kept"], said["kept_bytes"], said["oldest_timestamp_seconds"]) == (2, 30, 1000)
    assert (said["revision"], said["keys"], said["expired"], said["unknown"]) == (77, 5, 1, 2)


def test_without_a_set_no_time_of_one_is_told() -> None:
    said = parsed(metrics_text(RunFacts("failed", 3000.0, 1.5, 99), ()))
    assert "last_success_timestamp_seconds" not in said
    assert "revision" not in said
    assert said["kept"] == 0


def test_it_is_open_to_the_collector_and_goes_with_the_timer(tmp_path: Path) -> None:
    host = Host(str(tmp_path))
    (tmp_path / "collector").mkdir()
    write_metrics(host, "/collector", "a 1\n")
    write_metrics(host, "/collector", "a 2\n")
    file = tmp_path / "collector" / FILE
    assert file.read_text() == "a 2\n"
    assert file.stat().st_mode & 0o777 == 0o644
    assert [p.name for p in file.parent.iterdir()] == [FILE]
    assert remove_metrics(host, "/collector")
    assert not remove_metrics(host, "/collector")
    assert list(file.parent.iterdir()) == []


def test_a_link_in_its_place_is_not_written_through(tmp_path: Path) -> None:
    host, other = Host(str(tmp_path)), tmp_path / "other"
    other.write_text("precious")
    (tmp_path / "collector").mkdir()
    (tmp_path / "collector" / FILE).symlink_to("/other")
    with pytest.raises(Refused, match="is a link"):
        write_metrics(host, "/collector", "a 1\n")
    assert other.read_text() == "precious"


def test_a_directory_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="no such directory"):
        write_metrics(Host(str(tmp_path)), "/colector", "a 1\n")
    assert list(tmp_path.iterdir()) == []
