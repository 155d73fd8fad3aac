"""What was found out about a service, and a snapshot of it, as lines for a person."""

from __future__ import annotations

from agent.errors import plain
from coordinator.dcos.model import Remedy, Verdict
from coordinator.dcos.snapshot import Taken


def _tell(text: str) -> None:
    print(plain(text))


def verdict_lines(verdict: Verdict) -> None:
    """Print the scenario, what is lost, the members, what fits and what does not."""
    scenario = f"scenario {verdict.scenario}" if verdict.scenario else "no scenario"
    _tell(f"Service {verdict.service} on {verdict.cluster}")
    _tell(f"{verdict.state} ({scenario}): {verdict.why}")
    for pod in verdict.pods:
        revision = f", revision {pod.revision}" if pod.revision else ""
        _tell(f"  {pod.pod}  {pod.state.value}: {pod.why}{revision}")
    _tell(f"lost: {verdict.lost}")
    if verdict.kept:
        _tell(f"kept: {verdict.kept}")
    for text in verdict.warnings:
        _tell(f"warning: {text}")
    if verdict.remedy is not Remedy.NONE:
        target = f" {verdict.target}" if verdict.target else ""
        _tell(f"Fits: {verdict.remedy.value}{target}")
        _tell(f"next: {verdict.command}")
    for refusal in verdict.refusals:
        _tell(f"Not {refusal.remedy}: {refusal.seen}\n  why:  {refusal.why}")


def taken_lines(taken: Taken) -> None:
    """Print a snapshot that is here, verified."""
    facts = taken.snapshot
    _tell(f"snapshot of {taken.service} {taken.pod}: {taken.path}, {taken.seconds:.1f} s")
    _tell(f"revision {facts.revision}, {facts.keys} keys, {facts.size / 2**20:.1f} MiB, whole")
    _tell(f"sha256 {facts.sha256}")
    _tell(f"onto another cluster: fab restore {taken.path}")
