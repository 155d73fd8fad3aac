"""etcd-rescue: the operator's tasks. `fab --list` names them, `fab --help TASK` explains one."""

from __future__ import annotations

from coordinator import tasks
from coordinator.command import CHANGING, LOOKING, ON_THE_API, command
from coordinator.rest import rest_of
from coordinator.tasks.common import Options


@command(*LOOKING)
def survey(options: Options) -> None:
    """Show what is on every host; changes nothing."""
    tasks.look.survey(options)


@command(*LOOKING, host="the host to show (default: all)")
def settings(options: Options, host: str | None = None) -> None:
    """Show what etcd will run with, and where each value comes from."""
    tasks.settings.settings(options, host or "")


@command("lost", *LOOKING)
def diagnose(options: Options) -> None:
    """Say what state the cluster and each member is in, and what fits; changes nothing."""
    tasks.look.diagnose(options)


@command(
    "lost", "accept", "in_manifest", *LOOKING,
    host="the node to rescue", save="write the plan to this file, to be signed and applied",
)  # fmt: skip
def plan(options: Options, host: str | None = None, save: str = "") -> None:
    """Show the plan that a rescue would carry out; changes nothing."""
    tasks.rescue.plan(options, host or "", save)


@command(
    *ON_THE_API, *CHANGING, file="a plan written by `fab plan --save`; its signature is FILE.sig"
)
def apply(options: Options, file: str) -> None:
    """Carry out the plan in FILE, if it fits what the hosts are like now."""
    tasks.plan_files.apply(options, file)


@command("lost", "unattended", *ON_THE_API, *CHANGING, host="the node to rescue")
def rescue_node(options: Options, host: str) -> None:
    """Bring HOST's etcd member back to health, or refuse and say what would."""
    tasks.rescue.rescue_node(options, host)


@command("lost", "accept", "in_manifest", "unattended", *ON_THE_API, *CHANGING)
def rescue_quorum(options: Options) -> None:
    """Bring a cluster that lost its quorum back from its best survivor, and rejoin the others."""
    tasks.rescue.rescue_quorum(options)


@command(
    *CHANGING,
    name="the member or host",
    inventory="an Ansible inventory that loses it as well (OpenShift 3.11)",
)
def remove_member(options: Options, name: str, inventory: str = "") -> None:
    """Remove the member NAME, whose host is gone for good; the cluster stays smaller."""
    tasks.rescue.remove_member(options, name, inventory)


@command(
    *CHANGING, host="the master that leaves",
    lb="the load balancer's host (haproxy), or none: you have taken HOST off it by hand",
    inventory="the Ansible inventory that loses it as well",
    few="go on with fewer than three masters",
    keep_etcd="leave its etcd member there",
)  # fmt: skip
def retire_master(
    options: Options, host: str, lb: str = "", inventory: str = "", few: bool = False,
    keep_etcd: bool = False,
) -> None:  # fmt: skip
    """Take a master of OpenShift 3.11 out: load balancer, node, API, etcd and inventory."""
    tasks.retire_master.retire_master(options, host, lb, inventory, few, keep_etcd)


@command(
    "lost", *ON_THE_API, *CHANGING, repeated=("also",),
    file="a snapshot file or backup set, here or HOST:/path",
    all_nodes="restore all hosts at once, instead of one that the others join",
    on="the host to restore (default: where the file lies, or the first one)",
    discard_current="give up what the cluster serves now",
    no_rehearsal="do not count the restored keys before anything stops",
    no_hash_ok="take a copy of a database file, which has no hash of its own",
    at_least="a revision that was served: the restored ones begin above it",
    also="another snapshot or data directory, for its revision (repeat for each)",
    tool="an etcdutl to restore with, here or HOST:/path",
    other_cluster="the snapshot is of another cluster, and that is meant",
)  # fmt: skip
def restore(
    options: Options,
    file: str,
    also: tuple[str, ...],
    all_nodes: bool = False,
    on: str = "",
    discard_current: bool = False,
    no_rehearsal: bool = False,
    no_hash_ok: bool = False,
    at_least: int = 0,
    tool: str = "",
    other_cluster: bool = False,
) -> None:
    """Restore a snapshot: on one host that the others then join, or on all at once."""
    asked = tasks.restore.Asked(
        file, all_nodes, on, discard_current, not no_rehearsal, no_hash_ok, at_least, also, tool,
        other_cluster,
    )  # fmt: skip
    tasks.restore.restore(options, asked)


@command(*ON_THE_API, *CHANGING, node="the node, its member, or its machine")
def replace_machine(options: Options, node: str) -> None:
    """Replace the dead machine under an OpenShift 4 control-plane node, and bring etcd to it."""
    tasks.machines.replace_node_machine(options, node)


@command(*CHANGING, host="the host whose certificates are all made anew")
def renew_certificates(options: Options, host: str | None = None) -> None:
    """Make etcd's certificates anew: all on HOST, or all that will not do on any host."""
    tasks.certificates.renew_certificates(options, host or "")


@command(*CHANGING, keep="how many of the newest revisions stay as history (default: 1000)")
def clear_alarm(options: Options, keep: str = "") -> None:
    """Make space in etcd, prove it, and take the alarm NOSPACE back."""
    tasks.certificates.clear_alarm(options, keep)


@command(*LOOKING, host="the host to run it on (default: one that serves)")
def etcdctl(options: Options, host: str | None = None) -> None:
    """Run the node's own etcdctl: fab etcdctl [HOST] -- member list."""
    tasks.members.etcdctl(options, host or "", rest_of())


@command(
    "yes", *LOOKING, host="the host that is to join",
    through="the host that makes the token (default: one that serves)",
    run="run it on HOST, instead of printing it",
)  # fmt: skip
def join_command(
    options: Options, host: str | None = None, through: str = "", run: bool = False
) -> None:
    """Print, or run, the kubeadm join of a whole control-plane host; it holds secrets."""
    tasks.members.join_command(options, host or "", through, run)


@command(
    "dry_run", *ON_THE_API, *LOOKING, repeated=("drop",),
    plan="the plan's ID or its beginning", drop="a host to give up for good (repeat for each)",
)  # fmt: skip
def resume(options: Options, drop: tuple[str, ...], plan: str | None = None) -> None:
    """Go on with an unfinished plan, from what the hosts and their journals say."""
    tasks.unfinished.resume(options, plan or "", drop)


@command("yes", *LOOKING, plan="the plan's ID or its beginning")
def rollback(options: Options, plan: str | None = None) -> None:
    """Take an unfinished plan back, up to its point of no return."""
    tasks.unfinished.rollback(options, plan or "")


@command(
    *LOOKING,
    host="the host to take it on (default: a member that serves)",
    to="the directory here that gets the backup set",
    keep="keep the set on the host as well",
)
def snapshot(
    options: Options, host: str | None = None, to: str = "backups", keep: bool = False
) -> None:
    """Take a snapshot, certificates, manifests and all, and bring it here as one set."""
    tasks.snapshot.snapshot(options, host or "", to, keep)


@command(
    *LOOKING,
    host="the master, or several: A,B (default: one that serves; OpenShift 3.11: all masters)",
    folder="the directory on the master that gets it (default: its platform's usual one)",
    to="bring it here as well, into this directory",
    archive="OpenShift 3.11: one .tar.gz in /backup in place of a directory",
    encrypt_to="OpenShift 3.11: encrypt the archive for this key (age1…, or a file with a key)",
)
def backup_master(
    options: Options, host: str | None = None, folder: str = "", to: str = "",
    archive: bool = False, encrypt_to: str = "",
) -> None:  # fmt: skip
    """Back a master up on itself, in its platform's own layout, and verify it."""
    asked = tasks.backup_master.Asked(folder, to, archive, encrypt_to)
    tasks.backup_master.backup_master(options, host or "", asked)


@command(
    "output", file="the directory or archive of a backup of a master of OpenShift 3.11",
    identity="the file with age's key, where the archive is encrypted",
)  # fmt: skip
def verify_backup(options: Options, file: str, identity: str = "") -> None:
    """Prove that a master's backup is whole, or name what is not as it was."""
    tasks.master_restore.verify_backup(options, file, identity)


@command(
    *CHANGING, repeated=("path",),
    file="the directory or archive of the backup",
    path="a file to put back, or a directory of files (repeat for each)",
    host="the host to put them on (default: the one that was backed up)",
    identity="the file with age's key, where the archive is encrypted",
    other_machine="the host was installed anew since",
)  # fmt: skip
def restore_master_files(
    options: Options, file: str, path: tuple[str, ...], host: str = "", identity: str = "",
    other_machine: bool = False,
) -> None:  # fmt: skip
    """Put chosen files of a master's backup back (OpenShift 3.11), with a diff first."""
    tasks.master_restore.restore_master_files(options, file, host, path, identity, other_machine)


@command(
    "output",
    file="a snapshot file, or the directory of a backup set",
    no_hash_ok="take the copy of a database file, which has no hash of its own",
)
def verify_snapshot(options: Options, file: str, no_hash_ok: bool = False) -> None:
    """Prove that a snapshot or a backup set is whole, or say where it is damaged."""
    tasks.snapshot.verify_snapshot(options, file, no_hash_ok)


@command(
    *LOOKING,
    file="a snapshot file, or the directory of a backup set",
    on="the host to rehearse on (default: here, where etcd is installed)",
    no_hash_ok="take the copy of a database file, which has no hash of its own",
)
def rehearse(options: Options, file: str, on: str = "", no_hash_ok: bool = False) -> None:
    """Restore a snapshot into a scratch etcd, and say what it holds; nothing else is touched."""
    tasks.snapshot.rehearse(options, file, on, no_hash_ok)


@command(
    *CHANGING, host="the host to put it on (default: all)",
    every="when, as systemd writes calendars (default: daily)",
    random_delay="at most so much later, at random (default: 15min)",
    keep="at most so many are kept (default: 7)",
    keep_days="none older than so many days (default: of any age)",
    keep_bytes="all of them at most so large, as in 20G (default: any)",
    min_free="so much stays free on their file system (default: 1G)",
    metrics="write metrics for Prometheus into this directory of the hosts",
    first="take a first one now, and wait for it",
)  # fmt: skip
def install_timer(
    options: Options,
    host: str | None = None,
    every: str = "daily",
    random_delay: str = "15min",
    keep: str = "7",
    keep_days: str = "0",
    keep_bytes: str = "0",
    min_free: str = "1G",
    metrics: str = "",
    first: bool = False,
) -> None:
    """Have the hosts take verified snapshots on a schedule, and keep the newest."""
    words = {
        "every": every, "random_delay": random_delay, "keep": keep, "keep_days": keep_days,
        "keep_bytes": keep_bytes, "min_free": min_free, "metrics": metrics,
    }  # fmt: skip
    tasks.timer.install_timer(options, host or "", tasks.timer.schedule_from(words), first)


@command(*CHANGING, host="the host to take it off (default: all)")
def remove_timer(options: Options, host: str | None = None) -> None:
    """Take the snapshot timer off the hosts; the snapshots stay."""
    tasks.timer.remove_timer(options, host or "")


@command(*LOOKING, host="the host to ask (default: all)")
def timer_status(options: Options, host: str | None = None) -> None:
    """Say when each host takes its next snapshot, and what it has."""
    tasks.timer.timer_status(options, host or "")


@command("lost", "output", service="the service's name (default: kubernetes)")
def dcos_diagnose(options: Options, service: str = "kubernetes") -> None:
    """Say what state a DC/OS Kubernetes service's etcd is in, and what fits; changes nothing."""
    tasks.dcos.diagnose(options, service)


@command(
    "output",
    service="the service's name (default: kubernetes)",
    pod="the pod to take it from (default: one that serves)",
    to="the directory here that gets the snapshot",
)
def dcos_snapshot(
    options: Options, service: str = "kubernetes", pod: str = "", to: str = "backups"
) -> None:
    """Bring a verified snapshot of a DC/OS Kubernetes service's etcd here."""
    tasks.dcos.snapshot(options, service, pod, to)


@command(
    "lost", "output", "dry_run", "yes",
    service="the service's name (default: kubernetes)",
    remedy="watch, replace, scale-up, restore, rebuild or reinstall (default: what fits)",
    pod="the pod to replace (default: the one that failed)",
    bucket="the S3 bucket of `dcos kubernetes backup` and `restore`",
    region="its region (default: AWS_DEFAULT_REGION)",
    backup_name="the backup to restore (default: the CLI's own)",
    options_file="the JSON that the service was installed with (default: as it says itself)",
    to="the directory here that gets snapshots",
    timeout="seconds for each wait",
    again="scale up once more after two failures in a row",
    no_snapshot="go on without the snapshot of a member that answers alone",
    aws_as_arguments="hand the AWS credentials over as arguments, which others here can see",
)  # fmt: skip
def dcos_rescue(
    options: Options,
    service: str = "kubernetes",
    remedy: str = "",
    pod: str = "",
    bucket: str = "",
    region: str = "",
    backup_name: str = "",
    options_file: str = "",
    to: str = "backups",
    timeout: int = 1200,
    again: bool = False,
    no_snapshot: bool = False,
    aws_as_arguments: bool = False,
) -> None:
    """Do what the state of a DC/OS Kubernetes service asks, or refuse and say what would."""
    asked = tasks.dcos.Asked(
        service, remedy, pod, bucket, region, backup_name, options_file, to, timeout, again,
        no_snapshot, aws_as_arguments,
    )  # fmt: skip
    tasks.dcos.rescue(options, asked)


@command(
    "output", repeated=("python", "machine"),
    to="the directory that gets the archive (default: dist)",
    sign="the SSH key that signs it (default: unsigned)",
    python="another Python of operators, as 3.12 (repeat for each)",
    machine="machines of hosts, as x86_64 (repeat for each; default: like this one)",
)  # fmt: skip
def bundle(
    options: Options,
    python: tuple[str, ...],
    machine: tuple[str, ...],
    to: str = "dist",
    sign: str = "",
) -> None:
    """Make one archive with everything for a machine without a network."""
    tasks.bundle.bundle(options, to, sign, python, machine)


def _import(options: Options, place: str) -> None:
    """Take what consoles wrote and somebody carried here; diagnose, journal and resume know it."""
    tasks.carried.import_files(options, place)


_import.__name__ = "import"  # which no function may be called
take = command("cluster", "output", place="a file carried-HOST.json, or the directory they lie in")(
    _import
)


@command(*LOOKING, plan="the plan's ID or its beginning")
def journal(options: Options, plan: str | None = None) -> None:
    """List the plans in all hosts' journals, or show what was done by one."""
    tasks.look.journal(options, plan or "")
