"""What the arguments of a step must be, whoever wrote the plan: a look that sees, the right file.

The recipes give just these; a plan made or changed by hand may say anything, and a look at the
wrong address finds silence everywhere.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from agent.errors import Refused
from agent.model.plan import Step
from agent.recipes.cluster import initial_cluster, pairs
from agent.recipes.reseed import endpoints
from agent.recipes.world import Scene, text_of, texts_of

_FILES = ("park_definition", "unpark_definition", "seed_in_manifest")
_DATA = ("copy_data", "relocate_data", "install_data", "seed_cluster", "prejoin")
_LEAST_LOOK = 0.25
"""Seconds a look must last: a member across a slow network has to have the time to answer."""


def check_arguments(step: Step, scene: Scene) -> Iterator[str]:
    """What the arguments of a step break, in words."""
    if step.action in _FILES:
        yield from _file(step, scene)
    elif step.action in _DATA:
        yield from _data(step, scene)
    elif step.action == "peers_silent":
        yield from _look(step, scene)
    elif step.action in ("set_initial_cluster", "set_conf_members"):
        yield from _membership(step, scene)
    if step.action == "prejoin":
        yield from _sources(step, scene)
    if step.action in ("member_add_learner", "member_promote"):
        yield from _urls(step, scene)


def _file(step: Step, scene: Scene) -> Iterator[str]:
    """The file that the survey found to be etcd's definition, and no other."""
    path, digest = text_of(step, "path"), text_of(step, "sha256")
    if not (path or digest):
        return  # etcd's own, whatever it is by then: of a host that was not seen, or parked by us
    try:
        known = scene.cluster.definition(step.host)
    except Refused as error:
        yield error.seen
        return
    if known is None:
        yield "names a definition of a host on which none was seen"
    elif path not in ("", known.path):
        yield f"touches {path}, and etcd's definition is {known.path}"
    elif digest not in ("", known.sha256):
        yield f"is for another {known.path} than the one that is there"


def _data(step: Step, scene: Scene) -> Iterator[str]:
    given, config = text_of(step, "data_dir"), scene.cluster.config(step.host)
    survey = scene.cluster.survey(step.host)
    offline = survey.offline.data_dir if survey and survey.offline else ""
    known = config.data_dir if config else offline
    if given and given != known:
        yield f"touches {given}, and etcd's data is in {known or 'a place that is not known'}"


def _look(step: Step, scene: Scene) -> Iterator[str]:
    """Every address of every host that it names; long enough to be answered."""
    rows = step.args.get("endpoints", ())
    given = {tuple(row) for row in rows if isinstance(row, (list, tuple)) and _is_flat(row)}
    named = sorted({str(row[0]) for row in given if row} & set(scene.urls))
    for missing in sorted(set(endpoints(scene.cluster, named)) - given):
        yield f"does not look at {missing[0]} on {missing[1]}:{missing[2]}"
    timeout = step.args.get("timeout", _LEAST_LOOK)
    if isinstance(timeout, bool) or not isinstance(timeout, (int, float)) or timeout < _LEAST_LOOK:
        yield f"looks for {timeout!r} seconds, in which nobody can answer"


def _is_flat(row: Sequence[object]) -> bool:
    return all(isinstance(part, (str, int)) for part in row)


def _membership(step: Step, scene: Scene) -> Iterator[str]:
    """Members by the names and URLs that were seen, all that are promised among them."""
    cluster, given = scene.cluster, set(pairs(text_of(step, "members")))
    known = {(cluster.name(host), url) for host in scene.urls for url in scene.urls[host]}
    strange = sorted(f"{name}={url}" for name, url in given - known)
    if strange or not given:
        yield f"writes an --initial-cluster with {', '.join(strange) or 'nobody'} in it"
    try:
        wanted = pairs(initial_cluster(cluster, scene.plan.promise.voters))
    except Refused as error:
        yield error.seen
        return
    missing = sorted(name for name, _url in set(wanted) - given)
    if missing:
        yield f"writes an --initial-cluster without {', '.join(missing)}"


def _sources(step: Step, scene: Scene) -> Iterator[str]:
    """Client URLs of other hosts of this cluster."""
    hosts = [host for host in scene.urls if host != step.host]
    known = {url for host in hosts for url in scene.cluster.client_urls(host)}
    strange = sorted(set(texts_of(step, "sources")) - known)
    if strange or not texts_of(step, "sources"):
        yield f"joins by {', '.join(strange) or 'nobody'}, which is no member's client URL"
    if text_of(step, "initial_cluster"):
        yield "joins a membership that was written down and not read when it joins"


def _urls(step: Step, scene: Scene) -> Iterator[str]:
    """All peer URLs of one host, as they are known."""
    given = set(texts_of(step, "peer_urls"))
    if not any(given and given <= known for known in scene.urls.values()):
        yield f"names {', '.join(sorted(given)) or 'no peer URL'}, which is no host's"
