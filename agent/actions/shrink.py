"""Makes a joiner's database as small as what it holds, before its definition starts on it.

A member that is sent the log of a time when the database was full grows as all did then. Only files
are left after that, and etcd counts the file, not what is in use, against the quota: with its next
write the joiner would raise the alarm NOSPACE for all of them, just after space was made. A learner
refuses to defragment (etcd server/etcdserver/api/v3rpc: isRPCSupportedForLearner), and a voter may
be written to before it has; so it is done with etcd's own tool while nothing runs on the data.
"""

from __future__ import annotations

from agent.actions.base import Context, Data, Places, wait_for
from agent.actions.restore_tool import find_tool
from agent.errors import PreconditionFailed, StepFailed
from agent.etcd.client import peer_hash_kv
from agent.etcd.transport import real_files
from agent.host import Host
from agent.model.facts import EtcdConfig
from agent.survey.bbolt import Database
from agent.survey.livekeys import finished_compaction
from agent.survey.online import local_peer_urls
from agent.survey.positioned import DamagedAt

DEFAULT_QUOTA = 2 * 1024**3
"""Bytes that etcd takes where --quota-backend-bytes is not given, or 0 (DefaultQuotaBytes)."""

WITHOUT_QUOTA = "--quota-backend-bytes=-1"
"""For a scratch etcd that joins: it applies what the cluster has accepted, whatever its size, and
raises no alarm over it (etcd server/storage/quota.go: a negative quota is none)."""

_MINUTES = 30


def quota_of(config: EtcdConfig) -> int:
    """Bytes that the definition allows; 0 where it has none."""
    return max(0, config.quota or DEFAULT_QUOTA)


def is_bloated(size: int, model: int, quota: int) -> bool:
    """Whether a file of `size` bytes is worth a rewrite, where a member that serves has `model`.

    One that is as large as the others' gains nothing here, and one below half its quota has room.
    """
    return quota > 0 and size > quota // 2 and size - model > quota // 10


def db_of(where: Places) -> str:
    """The joiner's database file."""
    return f"{where.work_member}/snap/db"


def db_size(host: Host, path: str) -> int:
    """Bytes that etcd counts against the quota: all pages, free ones too. Raises DamagedAt.

    The file itself may be larger: bbolt grows it 16 MiB at a time.
    """
    with Database(host, path) as db:
        return db.meta.high_water * db.meta.page_size


def wait_until_compacted(ctx: Context, where: Places, config: EtcdConfig, revision: int) -> None:
    """Wait until the etcd that runs on the work directory has freed all that the log told it to.

    It goes on with a compaction after the entry is applied: the peer port says how far it has to
    come, the file how far it is. revision: one that it holds. Raises Timeout.
    """
    files = real_files(ctx.host, config.peer_tls)
    goal = peer_hash_kv(local_peer_urls(config)[0], files, revision).compact_revision

    def probe() -> tuple[bool, str]:
        try:
            with Database(ctx.host, db_of(where)) as db:
                done, is_sure = finished_compaction(db), db.is_current()
        except DamagedAt as error:  # written to while it is read
            return False, str(error)
        return is_sure and done >= goal, f"compacted to revision {done} of {goal}"

    wait_for(ctx.say, "the joiner to forget the history that the others forgot", probe, 300, 0.05)


def shrink(ctx: Context, where: Places, config: EtcdConfig, model: int) -> Data:
    """Rewrite the database in the work directory if it is bloated; nothing runs on it.

    model: bytes of a serving member's file. Gives what was done, for the journal; with `left` where
    this node has no tool for it. Raises PreconditionFailed without room for the new file, what the
    tool's run raises, and StepFailed where it is no smaller than before.
    """
    path, quota = db_of(where), quota_of(config)
    size = db_size(ctx.host, path)
    if not is_bloated(size, model, quota):
        return {}
    try:
        tool = find_tool(ctx, config)
    except PreconditionFailed as error:
        ctx.say(
            f"its file has {size >> 20} MiB of {quota >> 20} allowed, and stays so: {error.seen}"
        )
        return {"left": f"a file of {size} bytes: {error.seen}"}
    _require_room(ctx, where, model)
    ctx.say(f"rewriting its file: {size >> 20} MiB, where another member has {model >> 20}")
    argv = [tool.path, "defrag", f"--data-dir={where.work}"]
    env = {"ETCDCTL_API": "3"} if tool.name == "etcdctl" else None
    ctx.host.run(argv, timeout=_MINUTES * 60, env=env)
    after = db_size(ctx.host, path)
    if after >= size:
        raise StepFailed(f"{path} has {after} bytes after it was rewritten, and had {size} before")
    return {"rewritten": {"before": size, "after": after, "by": f"{tool.name} {tool.version}"}}


def _require_room(ctx: Context, where: Places, need: int) -> None:
    free, _inodes = ctx.host.free(where.work)
    if free < need + (64 << 20):
        raise PreconditionFailed(
            f"{where.work}: {free >> 20} MiB are free, {(need >> 20) + 64} MiB are needed",
            "the new file is written beside the old one before it takes its place",
            "make room on that file system, then: fab resume",
        )
