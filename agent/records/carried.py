"""What a host knows of itself, as one file that is carried by hand: its survey and its journals.

The file `carried-HOST.json` is one line of canonical JSON, UTF-8:

    {"kind": "etcd-rescue carried", "format": 1, "host": "master-1", "made": 1700000000.0,
     "survey": {...}, "journals": [{"plan": ID, "sha256": hex, "text": "..."}], "left_out": [ID],
     "sha256": hex}

text: a journal's whole records, to the byte (agent/records/journal.py), and their sha256. sha256:
of the canonical JSON of all the rest. So a file that was cut short, or changed by accident, is
found out; one that was made up is not: whoever holds the stick is trusted with what is on it, as
whoever holds the console is. No secret is in it, since none is in a survey or in a journal.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Any, Optional

from agent.errors import Damaged, UsageError
from agent.host import Host
from agent.model.codec import canonical, digest, from_plain, parse_json, to_plain
from agent.model.facts import Survey
from agent.records.journal import JOURNAL_DIR, History, export, parse_records

KIND = "etcd-rescue carried"
FORMAT = 1
MAX_FILE = 32 * 1024 * 1024
"""Bytes; a host with a hundred plans in its journals has a few megabytes."""
_MAX_CLOSED = 8 * 1024 * 1024
_MAX_JOURNALS = 1000
_PLAN_ID = re.compile(r"[0-9a-f]{64}")
_AGAIN = "on the host that it is from, write it anew: rescue-agent export DIRECTORY"


@dataclass(frozen=True)
class _JournalText:
    """One journal, to the byte."""

    plan: str
    sha256: str
    text: str


@dataclass(frozen=True)
class _File:
    """The file; see the top."""

    kind: str
    format: int
    host: str
    made: float
    survey: Survey
    journals: tuple[_JournalText, ...]
    left_out: tuple[str, ...] = ()
    sha256: str = ""


@dataclass(frozen=True)
class Carried:
    """A carried file that was read and found whole. made: seconds, by the clock of its host.

    histories: its journals, one a plan. left_out: plans that are closed and found no room.
    """

    where: str
    host: str
    made: float
    survey: Survey
    histories: tuple[History, ...]
    left_out: tuple[str, ...] = ()

    def history(self, plan_id: str) -> Optional[History]:
        """The journal of a plan, or None."""
        return next((h for h in self.histories if h.plan.id == plan_id), None)


def file_name(host: str) -> str:
    """The name of a host's carried file."""
    return f"carried-{re.sub(r'[^A-Za-z0-9._-]', '_', host) or 'host'}.json"


def is_carried_name(name: str) -> bool:
    """Whether a file in a directory is to be taken for a carried one."""
    return name.startswith("carried-") and name.endswith(".json")


# ---- writing -------------------------------------------------------------------------------------


def pack(host: Host, survey: Survey) -> bytes:
    """The carried file of this host, with the survey given and all journals that are whole.

    Journals of closed plans are left out, the oldest first, where all would be more than 8 MiB. A
    damaged one is told of in the survey. Raises Damaged where the open ones alone are too large.
    """
    journals, left_out, size = [], [], 0
    for facts in reversed(survey.journals):
        if facts.state == "damaged":
            continue
        data = export(host, facts.plan)
        if facts.state != "open" and size + len(data) > _MAX_CLOSED:
            left_out.append(facts.plan)
            continue
        size += len(data)
        text = _text_of(data, facts.plan)
        journals.append(_JournalText(facts.plan, sha256(data).hexdigest(), text))
    bare = _File(KIND, FORMAT, host.hostname(), host.now(), survey, tuple(journals),
                 tuple(left_out))  # fmt: skip
    packed = canonical(replace(bare, sha256=_sum(to_plain(bare)))) + b"\n"
    if len(packed) > MAX_FILE:
        raise Damaged(
            f"{JOURNAL_DIR}: journals of open plans of {size} bytes",
            f"a carried file has at most {MAX_FILE}",
            "rescue-agent journal",
        )
    return packed


def _text_of(data: bytes, plan: str) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise Damaged(f"{JOURNAL_DIR}/{plan}.jsonl: not UTF-8 at offset {error.start}") from None


def _sum(plain: dict[str, Any]) -> str:
    return digest({key: value for key, value in plain.items() if key != "sha256"})


# ---- reading -------------------------------------------------------------------------------------


def unpack(data: bytes, where: str) -> Carried:
    """Read a carried file, whoever made it. where: its name, for errors.

    Raises UsageError where it is none, or of a newer format; Damaged where it is not whole.
    """
    if len(data) > MAX_FILE:
        raise UsageError(f"{where}: larger than {MAX_FILE} bytes", "no carried file is that large")
    plain = _checked(data, where)
    file = from_plain(_File, plain, where)
    if len(file.journals) > _MAX_JOURNALS:
        raise UsageError(f"{where}: {len(file.journals)} journals", "no host has that many")
    histories = tuple(_history(journal, where) for journal in file.journals)
    if len({h.plan.id for h in histories}) != len(histories):
        raise Damaged(f"{where}: two journals of one plan", "which one counts is not clear", _AGAIN)
    if not file.host:
        raise UsageError(f"{where}: does not say which host it is from", next=_AGAIN)
    return Carried(where, file.host, file.made, file.survey, histories, file.left_out)


def _checked(data: bytes, where: str) -> dict[str, Any]:
    try:
        plain = parse_json(data, where)
    except UsageError as error:
        raise Damaged(error.seen, "a file that was cut short or changed proves nothing",
                      _AGAIN) from None  # fmt: skip
    if not isinstance(plain, dict) or plain.get("kind") != KIND:
        raise UsageError(f"{where}: not a file that `rescue-agent export` made", next=_AGAIN)
    if plain.get("format") != FORMAT:
        raise UsageError(
            f"{where}: format {plain.get('format')!r}; this version reads format {FORMAT}",
            "what is not understood is not guessed",
            "use the same rescue-agent on all hosts, and the fab of the same bundle",
        )
    if plain.get("sha256") != _sum(plain):
        raise Damaged(
            f"{where}: its hash does not match",
            "a file that was cut short or changed proves nothing",
            _AGAIN,
        )
    return plain


def _history(journal: _JournalText, where: str) -> History:
    place = f"{where}: journal of plan {journal.plan[:12]}"
    data = journal.text.encode(errors="surrogatepass")
    if not _PLAN_ID.fullmatch(journal.plan) or sha256(data).hexdigest() != journal.sha256:
        raise Damaged(f"{place}: its hash does not match", "it proves nothing", _AGAIN)
    records, good = parse_records(data, place, _AGAIN)
    if good != len(data) or not records:
        raise Damaged(f"{place}: not whole", "it proves nothing", _AGAIN)
    history = History(place, records)
    if history.plan.id != journal.plan:
        raise Damaged(f"{place}: is of plan {history.plan.short_id}", "it proves nothing", _AGAIN)
    return history


# ---- several of one host -------------------------------------------------------------------------


def same_machine(one: Carried, other: Carried) -> bool:
    """Whether two files are of one machine."""
    mine, its = one.survey, other.survey
    return (mine.machine_id, mine.hostname) == (its.machine_id, its.hostname)


def newest(files: list[Carried]) -> list[Carried]:
    """Of each machine the newest file alone, in the order of their hosts' names.

    Journals only grow, and a clock may be set back: so the newer of two is the one that has more
    records. Raises Damaged where two say different things of one plan.
    """
    kept: list[Carried] = []
    for file in sorted(files, key=lambda f: (f.host, _length(f), f.made, f.where)):
        older = next((k for k in kept if same_machine(k, file)), None)
        if older is not None:
            _require_continued(older, file)
            kept.remove(older)
        kept.append(file)
    return kept


def _length(file: Carried) -> int:
    return sum(len(history.records) for history in file.histories)


def _require_continued(older: Carried, newer: Carried) -> None:
    for before in older.histories:
        after = newer.history(before.plan.id)
        if after is None:
            continue
        if after.records[: len(before.records)] != before.records:
            raise Damaged(
                f"{older.where} and {newer.where} say different things of plan "
                f"{before.plan.short_id} on {newer.host}",
                "a journal only grows; one of the two is of a copied or restored disk",
                f"keep the one that {newer.host} writes now: rescue-agent export DIRECTORY",
            )


def read_whole(host: Host, path: str) -> Carried:
    """Read a carried file on this host. Raises what `unpack` raises, and UsageError for none."""
    try:
        data = host.read_bytes(path, MAX_FILE)
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}", next=_AGAIN) from None
    return unpack(data, path)
