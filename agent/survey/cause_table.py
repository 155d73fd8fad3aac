"""Known messages of etcd, the kubelet and the runtime: meaning, remedy, source; data only."""

from __future__ import annotations

import re
from dataclasses import dataclass

STOPS, HARMS, HINTS = 3, 2, 1
"""How much a message explains: etcd cannot run; it runs badly; it only points somewhere."""

KINDS = (
    "data", "removed", "config", "certificate", "disk", "network", "clock", "quorum",
    "permission", "resource",
)  # fmt: skip


@dataclass(frozen=True)
class Row:
    """One known message; the pattern runs in linear time and is searched in one line."""

    key: str
    kind: str
    rank: int
    pattern: re.Pattern[str]
    summary: str
    remedy: str
    source: str


def _row(
    key: str, kind: str, rank: int, pattern: str, summary: str, remedy: str, source: str
) -> Row:
    return Row(key, kind, rank, re.compile(pattern), summary, remedy, source)


_NODE = "fab rescue-node HOST: its data is set aside and it joins the others again"
_PATCH = "let etcd run from the newest image of its minor version, then: fab rescue-node HOST"
_CERTS = "kubeadm certs check-expiration; make the files anew with: kubeadm init phase certs"
_SPACE = "free space on the file system of the data directory, then: fab survey"
_MANIFEST = "correct the value in etcd's manifest, then: fab survey"
_PEERS = "fab survey: see which members run and can be reached"
_CLOCK = "set the clock of this host (chronyc tracking, timedatectl), then: fab survey"

_WAL = "etcd server/storage/wal/wal.go (3.6)"
_BOOT = "etcd server/etcdserver/bootstrap.go (3.6)"
_BBOLT = "bbolt db.go, freelist.go, tx_check.go (1.3, 1.4)"
_CLUSTER = "etcd server/etcdserver/api/membership/cluster.go (3.5)"
_CONFIG = "etcd server/config/config.go (3.6)"
_X509 = "Go crypto/x509/verify.go"
_TLS = "Go crypto/tls"
_ERRNO = "errno(3)"
_KUBELET = "kubernetes pkg/kubelet/kuberuntime/kuberuntime_manager.go"

ROWS: tuple[Row, ...] = (
    # ---- the member's data -------------------------------------------------------------------
    _row("snapshot-crc", "data", STOPS, r"snap: (?:crc mismatch|empty snapshot)",
         "a snapshot file of the member is damaged", _NODE,
         "etcd server/etcdserver/api/snap/snapshotter.go (3.5)"),
    _row("wal-crc", "data", STOPS, r"crc mismatch",
         "the write-ahead log is damaged: a record does not match its checksum", _NODE,
         "etcd server/storage/wal/walpb/record.go (3.6)"),
    _row("wal-record-size", "data", STOPS, r"max entry size limit exceeded",
         "the write-ahead log is damaged: a record claims an impossible size", _NODE,
         "etcd server/storage/wal/decoder.go (3.5)"),
    _row("wal-cut-off", "data", STOPS,
         r"(?:WAL|wal|cannot be repaired|proto|Record)\b.{0,200}unexpected EOF",
         "the write-ahead log ends in the middle of a record and etcd could not repair it", _NODE,
         "etcd server/etcdserver/storage.go, server/storage/wal/repair.go (3.5)"),
    _row("wal-missing", "data", STOPS,
         r"wal: file not found|do not increase continuously|openAtIndex failed",
         "files of the write-ahead log are missing", _NODE, _WAL),
    _row("wal-conflict", "data", STOPS,
         r"wal: (?:conflicting metadata|slice bounds out of range|snapshot mismatch"
         r"|snapshot not found)",
         "the write-ahead log contradicts itself: files of different members were mixed", _NODE,
         _WAL),
    _row("snapshot-db-missing", "data", STOPS,
         r"failed to find database snapshot file|snapshot file doesn't exist",
         "the log needs a database snapshot that is not on the disk (power cut, files deleted)",
         _NODE, "etcd server/storage/backend.go, server/etcdserver/api/snap/db.go (3.6)"),
    _row("db-missing", "data", STOPS, r"of the backend is missing",
         "the database file (member/snap/db) is gone while the log is there", _NODE, _BOOT),
    _row("db-behind", "data", STOPS, r"does not match with snapshot",
         "the database is older than the member's snapshot: files of different times were mixed",
         _NODE, _BOOT),
    _row("db-truncated", "data", STOPS, r"file size too small",
         "the database file is cut off", _NODE, _BBOLT),
    _row("db-invalid", "data", STOPS,
         r"(?:failed to|cannot) open database.{0,300}(?:invalid database|version mismatch"
         r"|checksum error)|\binvalid database\b",
         "the database file is not a database: both of its meta pages are bad", _NODE, _BBOLT),
    _row("db-pages", "data", STOPS,
         r"page \d+:? already freed|invalid freelist page|unexpected fault address"
         r"|invalid page type|unexpected page type|Page expected to be|page \d+: multiple ref"
         r"|page \d+: unreachable unfreed|freepages: failed to get all reachable pages",
         "pages of the database file are damaged", _NODE, _BBOLT),
    _row("db-revisions", "data", STOPS,
         r"range failed to find revision pair|with an unexpected smaller revision"
         r"|range cannot find rev",
         "the database has lost revisions that its index knows", _NODE,
         "etcd server/storage/mvcc/kvstore_txn.go, key_index.go (3.5)"),
    _row("raft-log-lost", "data", STOPS, r"tocommit\(\d+\) is out of range \[lastIndex\(\d+\)\]",
         "the member has lost log entries that it had confirmed to the leader; data was put back"
         " from an older copy, or the disk did not keep what it had acknowledged", _NODE,
         "etcd-io/raft log.go, commitTo"),
    _row("data-inconsistent", "data", STOPS,
         r"data inconsistency|checkInitialHashKV failed|corrupt cluster|alarm=CORRUPT"
         r"|found hash mismatch|found different hash values|compact revision then hashes must",
         "this member's data differs from that of its peers", _NODE,
         "etcd server/etcdserver/corrupt.go (3.5)"),
    _row("known-bug-tx-closed", "config", STOPS, r"assertion failed: tx closed",
         "a known fault of etcd 3.5.0 at start after a snapshot from the leader", _PATCH,
         "https://github.com/etcd-io/etcd/issues/13494"),
    _row("known-bug-removal", "config", STOPS, r"unexpected removal of unknown (?:remote )?peer",
         "a known fault of early etcd 3.5 releases: at start they replay the removal of a member"
         " and stop", _PATCH, "https://github.com/etcd-io/etcd/issues/13466"),
    _row("both-directories", "config", STOPS, r"Both member and proxy directories exist",
         "the data directory holds both a member and a proxy", "move the proxy directory away",
         "etcd server/etcdmain/etcd.go (3.4)"),
    _row("wal-unreadable", "data", STOPS,
         r"read wal error|failed to read WAL|irreparable WAL error|failed to open WAL"
         r"|open wal error",
         "the write-ahead log cannot be read", _NODE,
         "etcd server/etcdserver/storage.go (3.5)"),
    # ---- membership and identity -------------------------------------------------------------
    _row("removed", "removed", STOPS,
         r"permanently removed from the cluster|data-dir used by this member must be removed",
         "the cluster has removed this member; its data can never take part again",
         "fab rescue-node HOST: it joins as a new member, its old data set aside",
         "etcd server/etcdserver/api/rafthttp/stream.go (3.5)"),
    _row("cluster-id-mismatch", "config", HARMS, r"cluster ID mismatch",
         "this member and a peer belong to different clusters, each with its own data",
         "fab diagnose: it tells which hosts hold which cluster",
         "etcd server/etcdserver/api/rafthttp/stream.go, http.go (3.5)"),
    _row("member-id-mismatch", "config", HARMS,
         r"streaming request; ID mismatch|streaming request ignored \(ID mismatch",
         "a peer takes this host for another member: its address was reused",
         "fab diagnose: compare the member list with the hosts",
         "etcd server/etcdserver/api/rafthttp/http.go (3.5)"),
    _row("member-count", "config", STOPS, r"member count is unequal",
         "--initial-cluster does not list the members that the cluster has",
         "fab rescue-node HOST: it adds the member and writes the list", _CLUSTER),
    _row("peer-urls-unmatched", "config", STOPS,
         r"unmatched member while checking PeerURLs|no match found for existing member",
         "--initial-cluster has other peer URLs than the cluster's member list",
         "fab rescue-node HOST: it adds the member and writes the list", _CLUSTER),
    _row("peer-urls-invalid", "config", STOPS, r"error validating peerURLs",
         "--initial-cluster does not fit the cluster that is running",
         "fab rescue-node HOST: it adds the member and writes the list", _BOOT),
    _row("name-not-listed", "config", STOPS, r"couldn't find local name",
         "--name is not among the names in --initial-cluster", _MANIFEST, _CONFIG),
    _row("peer-url-not-listed", "config", STOPS,
         r"but missing from --initial-(?:advertise-peer-urls|cluster)",
         "--initial-cluster and --initial-advertise-peer-urls disagree about this member",
         _MANIFEST, _CONFIG),
    _row("already-bootstrapped", "config", STOPS, r"has already been bootstrapped",
         "the data directory is empty, but the cluster knows this member: with"
         " --initial-cluster-state=new it must not start",
         "fab rescue-node HOST: it removes the lost member and joins as a new one", _BOOT),
    _row("peers-silent", "quorum", STOPS,
         r"cannot fetch cluster info from peer urls|could not retrieve cluster information",
         "it has to join a cluster, and none of the peers in --initial-cluster answers", _PEERS,
         _BOOT),
    _row("version-too-old", "config", STOPS, r"invalid downgrade|cluster cannot be downgraded",
         "this etcd is older than the cluster's version",
         "let this host run the same etcd version as the other members",
         "etcd server/etcdserver/version/downgrade.go (3.6), membership/cluster.go (3.3)"),
    _row("version-incompatible", "config", STOPS,
         r"incompatible with current running cluster|[Ff]ailed to validate schema",
         "this etcd's version does not fit the cluster or the data",
         "let this host run the same etcd version as the other members", _BOOT),
    _row("v2-content", "config", STOPS,
         r"disallowed custom content in v2store|illegal v2store content",
         "the data still has keys of the v2 API, which this etcd no longer reads",
         "run etcd 3.5 and migrate or delete the v2 keys before going to 3.6",
         "etcd server/storage/util.go (3.6)"),
    _row("version-mixed", "config", HINTS, r"mismatching etcd version",
         "the members run different etcd versions (an update is under way, or was left half done)",
         "finish the update on all hosts", "etcd server/etcdserver/version/monitor.go (3.6)"),
    # ---- command line ------------------------------------------------------------------------
    _row("unknown-flag", "config", STOPS, r"flag provided but not defined",
         "a flag in the manifest is unknown to this etcd version (3.6 took some away)", _MANIFEST,
         "Go flag package; etcd CHANGELOG-3.6"),
    _row("bad-flag-value", "config", STOPS,
         r"invalid (?:boolean )?value \S+ for|flag needs an argument",
         "a flag or ETCD_ variable has a value that etcd cannot read", _MANIFEST,
         "Go flag package; etcd pkg/flags/flag.go"),
    _row("url-not-ip", "config", STOPS, r"expected IP in URL for binding",
         "a --listen-…-urls flag has a host name; only IP addresses are allowed there", _MANIFEST,
         "etcd server/embed/config.go, checkBindURLs"),
    _row("bad-flags", "config", STOPS,
         r"is not a valid flag|error verifying flags|failed to verify flags",
         "etcd refuses its command line", _MANIFEST, "etcd server/etcdmain/config.go (3.6)"),
    # ---- certificates ------------------------------------------------------------------------
    _row("cert-not-yet-valid", "clock", HARMS,
         r"expired or is not yet valid: current time \S+ is before",
         "a certificate is not valid yet: a clock is behind, or the certificate was made by a host"
         " whose clock is ahead", _CLOCK, _X509),
    _row("cert-expired", "certificate", HARMS,
         r"expired or is not yet valid: current time \S+ is after",
         "a certificate has expired", f"{_CERTS} (kubeadm certs renew all)", _X509),
    _row("cert-validity", "certificate", HARMS, r"certificate has expired or is not yet valid",
         "a certificate has expired, or a clock is wrong", f"compare the clocks, then: {_CERTS}",
         _X509),
    _row("cert-wrong-name", "certificate", HARMS,
         r"certificate is (?:not )?valid for |doesn't contain any IP SANs"
         r"|cannot validate certificate for",
         "a certificate does not have the name or address by which the host is called"
         " (an address was changed?)", _CERTS, _X509),
    _row("cert-wrong-usage", "certificate", HARMS, r"incompatible key usage",
         "a certificate lacks the usage it is needed for: etcd's server and peer certificates need"
         " both server and client authentication", _CERTS, _X509),
    _row("cert-unknown-ca", "certificate", HARMS,
         r"signed by unknown authority|unknown certificate authority",
         "a certificate was signed by another CA than the one in use (a CA was made anew?)",
         "put the same ca.crt and certificates made by it on all hosts: fab survey lists them",
         _X509),
    _row("cert-key-pair", "certificate", STOPS, r"private key (?:type )?does not match public key",
         "a key does not belong to its certificate", _CERTS, _TLS),
    _row("cert-unreadable", "certificate", STOPS,
         r"failed to find any PEM data|failed to parse certificate PEM|tls: failed to parse"
         r"|x509: malformed",
         "a certificate or key file is damaged or empty", _CERTS, _TLS),
    _row("cert-missing", "certificate", STOPS,
         r"open [^ ]{0,200}(?:\.crt|\.key|\.pem|/pki/[^ ]{1,100}): no such file or directory",
         "a certificate or key file that the manifest names does not exist", _CERTS, _TLS),
    _row("not-tls", "certificate", HARMS,
         r"first record does not look like a TLS handshake|server gave HTTP response to HTTPS"
         r"|HTTP request to an HTTPS server",
         "one side speaks TLS and the other does not (http:// and https:// are mixed)", _MANIFEST,
         "Go net/http, crypto/tls"),
    _row("cert-refused", "certificate", HINTS,
         r"tls: (?:bad certificate|unknown certificate|certificate required|expired certificate)",
         "a peer or client refuses a certificate", "fab survey: it checks all certificates", _TLS),
    # ---- network -----------------------------------------------------------------------------
    _row("address-in-use", "network", STOPS, r"address already in use",
         "another process listens on etcd's port; often a second etcd",
         "fab survey: it lists etcd processes, strays in the manifest directory and ports",
         _ERRNO),
    _row("address-not-here", "network", STOPS, r"cannot assign requested address",
         "etcd shall listen on an address that this host does not have",
         "give the host its address back, or correct --listen-…-urls", _ERRNO),
    _row("name-resolution", "network", HARMS,
         r"no such host|name resolution|server misbehaving|failed to resolve URL [Hh]ost",
         "a name in etcd's URLs cannot be resolved",
         "use IP addresses, or repair DNS or /etc/hosts",
         "Go net package; etcd pkg/netutil/netutil.go"),
    # ---- disk and permissions ----------------------------------------------------------------
    _row("disk-full", "disk", STOPS, r"no space left on device",
         "the disk is full", _SPACE, _ERRNO),
    _row("disk-read-only", "disk", STOPS, r"read-only file system",
         "the file system is read-only: the kernel has usually met errors on its disk",
         "look at dmesg, check the disk and mount it writable", _ERRNO),
    _row("disk-error", "disk", STOPS, r"input/output error",
         "the disk cannot be read or written", "look at dmesg, replace the disk, then: "
         "fab rescue-node HOST", _ERRNO),
    _row("data-dir-mode", "permission", STOPS, r"exist without desired file permission",
         "the data directory must have mode 0700 for this etcd version",
         "chmod 0700 the data directory, then: fab survey",
         "etcd client/pkg/fileutil/fileutil.go, CheckDirPermission (3.4.10 and later)"),
    _row("permission-denied", "permission", STOPS, r"(?<!etcdserver: )permission denied",
         "etcd may not read or write its files (owner, mode or SELinux label)",
         "give the files to the user that etcd runs as; on SELinux hosts: restorecon -R",
         _ERRNO),
    _row("quota", "resource", HARMS, r"database space exceeded|alarm=NOSPACE",
         "the database has reached its quota; writes are refused",
         "compact, defragment and disarm: https://etcd.io/docs/v3.5/op-guide/maintenance/",
         "etcd api/v3rpc/rpctypes/error.go"),
    _row("db-locked", "config", HARMS,
         r"flocked by another process|another etcd process is using|file already locked",
         "another etcd holds the database, or a large database is loading slowly",
         "fab survey: it lists all etcd processes of the host",
         "etcd server/storage/backend.go (3.6), etcdserver/backend.go (3.3)"),
    _row("disk-slow", "disk", HINTS,
         r"slow fdatasync|sync duration of \S+ expected less than|slow fsync"
         r"|overloaded likely from slow disk",
         "the disk is too slow for etcd", "give etcd a disk of its own, an SSD",
         "etcd server/storage/wal/wal.go, server/etcdserver/raft.go (3.5)"),
    # ---- resources, container, kubelet -------------------------------------------------------
    _row("out-of-memory", "resource", STOPS, r"OOMKilled|cannot allocate memory|[Oo]ut of memory",
         "etcd ran out of memory",
         "raise the container's memory limit, or free memory on the host",
         "kubernetes.io/docs/concepts/configuration/manage-resources-containers"),
    _row("too-many-files", "resource", STOPS, r"too many open files",
         "etcd has no file descriptors left", "raise the limit (LimitNOFILE of the runtime)",
         _ERRNO),
    _row("killed", "resource", HARMS, r"ended with exit code 137\b",
         "etcd was killed (SIGKILL): by the kubelet after failed probes, by the kernel for memory,"
         " or by hand", "look at dmesg and at the kubelet's messages", "signal(7): 128 + 9"),
    _row("no-program", "config", STOPS, r"executable file not found in \$PATH|exec format error",
         "the image has no etcd that this host can run",
         "correct the image in etcd's manifest (name, architecture)", "execve(2)"),
    _row("image-missing", "config", STOPS,
         r"ErrImageNeverPull|ErrImagePull|ImagePullBackOff|[Ff]ailed to pull image",
         "the image of etcd is not on this host and cannot be fetched",
         "load the image from another host: ctr -n k8s.io images export / import",
         "kubernetes pkg/kubelet/images/types.go"),
    _row("manifest-unreadable", "config", STOPS, r"(?:Can't|Could not) process manifest file",
         "the kubelet cannot read a manifest", "correct the manifest that the message names",
         "kubernetes pkg/kubelet/config/file.go"),
    _row("volume-not-mounted", "config", STOPS,
         r"hostPath type check failed|MountVolume\.SetUp failed",
         "a directory that etcd's pod needs is not there or is of another type",
         "create or mount the directory that the message names",
         "kubernetes pkg/volume/hostpath/host_path.go"),
    _row("sandbox-failed", "resource", STOPS,
         r"CreatePodSandbox|[Ff]ailed to create (?:pod )?sandbox",
         "the container runtime cannot start the pod", "look at the runtime's own log", _KUBELET),
    _row("probe-failed", "resource", HINTS,
         r"failed (?:liveness|startup) probe|(?:Liveness|Startup) probe failed"
         r"|probeType=\"?(?:Liveness|Startup)",
         "the kubelet's probe of etcd fails and makes it restart; without quorum that is normal",
         "look at the other causes first", "kubernetes pkg/kubelet/prober/prober.go"),
    _row("crash-loop", "resource", HINTS, r"restarting failed container|CrashLoopBackOff",
         "the container keeps ending; the kubelet waits up to 5 minutes before it tries again",
         "remove the cause; systemctl restart kubelet ends the waiting", _KUBELET),
    # ---- quorum and clocks -------------------------------------------------------------------
    _row("no-quorum", "quorum", HARMS,
         r"failed to publish local member|publish error: etcdserver: request timed out"
         r"|etcdserver: no leader|lost leader [0-9a-f]",
         "the member runs, but does not find a majority of the members", _PEERS,
         "etcd server/etcdserver/server.go, publishV3 (3.5)"),
    _row("request-timeout", "quorum", HINTS, r"etcdserver: request timed out",
         "a request was not agreed on in time: no majority, or slow disks or network", _PEERS,
         "etcd api/v3rpc/rpctypes/error.go"),
    _row("learner-not-ready", "quorum", HINTS, r"promote a learner member which is in sync",
         "a new member cannot be promoted: it has not caught up, or never started", _PEERS,
         "etcd server/etcdserver/errors.go (3.5)"),
    _row("clock-drift", "clock", HINTS, r"high clock drift|clock difference against peer",
         "the clocks of two members differ by more than a second", _CLOCK,
         "etcd server/etcdserver/api/rafthttp/probing_status.go (3.5)"),
    _row("peer-unreachable", "network", HINTS,
         r"failed to reach the peer ?URL|failed to get version|cannot get the version of member"
         r"|prober detected unhealthy status|lost (?:the )?TCP streaming connection"
         r"|failed to dial \w+ on stream|became inactive \(message send",
         "a peer cannot be reached from here: its etcd does not run, or the network is cut",
         _PEERS, "etcd server/etcdserver/cluster_util.go, rafthttp/probing_status.go (3.6)"),
)  # fmt: skip
