"""What is left out of a survey: values that may be secret, whatever names them."""

from __future__ import annotations

import re
from collections.abc import Sequence

HIDDEN = "(not shown)"

SECRET_FLAGS = frozenset({"discovery", "discovery-password", "discovery-token", "discovery-user"})
"""Flags of etcd whose value lets others in; --discovery is a URL that ends in a token."""

_WORDS = """
    advertise-client-urls auth-token auth-token-ttl auto-compaction-mode
    auto-compaction-retention auto-tls backend-batch-interval backend-batch-limit
    backend-bbolt-freelist-type bcrypt-cost bootstrap-defrag-threshold-megabytes ca-file
    cert-file cipher-suites client-cert-allowed-hostname client-cert-auth client-cert-file
    client-crl-file client-key-file compact-hash-check-time compaction-batch-limit
    compaction-sleep-interval config-file corrupt-check-time cors data-dir debug discovery
    discovery-cacert discovery-cert discovery-dial-timeout discovery-endpoints
    discovery-fallback discovery-insecure-skip-tls-verify discovery-insecure-transport
    discovery-keepalive-time discovery-keepalive-timeout discovery-key discovery-password
    discovery-proxy discovery-request-timeout discovery-srv discovery-srv-name discovery-token
    discovery-user distributed-tracing-address distributed-tracing-instance-id
    distributed-tracing-sampling-rate distributed-tracing-service-name downgrade-check-time
    election-timeout enable-distributed-tracing enable-grpc-gateway enable-log-rotation
    enable-pprof enable-v2 feature-gates force-new-cluster grpc-keepalive-interval
    grpc-keepalive-min-time grpc-keepalive-timeout heartbeat-interval host-whitelist
    initial-advertise-peer-urls initial-cluster initial-cluster-state initial-cluster-token
    initial-election-tick-advance key-file listen-client-http-urls listen-client-urls
    listen-metrics-urls listen-peer-urls local-address log-format log-level log-output
    log-outputs log-package-levels log-rotation-config-json logger max-concurrent-streams
    max-learners max-request-bytes max-snapshots max-txn-ops max-wals memory-mlock metrics name
    peer-auto-tls peer-ca-file peer-cert-allowed-cn peer-cert-allowed-hostname peer-cert-file
    peer-client-cert-auth peer-client-cert-file peer-client-key-file peer-crl-file peer-key-file
    peer-skip-client-san-verification peer-trusted-ca-file pre-vote proxy proxy-dial-timeout
    proxy-failure-wait proxy-read-timeout proxy-refresh-interval proxy-write-timeout
    quota-backend-bytes raft-read-timeout raft-write-timeout self-signed-cert-validity
    snapshot-catchup-entries snapshot-count socket-reuse-address socket-reuse-port
    strict-reconfig-check tls-max-version tls-min-version trusted-ca-file unsafe-no-fsync
    v2-deprecation wal-dir warning-apply-duration warning-unary-request-duration
    watch-progress-notify-interval
"""
_FLAGS = frozenset(_WORDS.split())
"""Flags of etcd 3.3 to 3.6 (etcdmain/config.go, help.go), without those of --experimental-*."""

_ENV_LINE = re.compile(r"(environment variable\b)(.*)", re.DOTALL)
_ETCD_NAME = re.compile(r"ETCD_\w+")
_ENV_VAR = re.compile(r"(EnvVar\{Name:[^,}]*,Value:).*?(,ValueFrom:|\})", re.DOTALL)


def shown_flag(name: str, value: str) -> str:
    """A flag's value, unless it is one that lets others in."""
    return HIDDEN if name in SECRET_FLAGS and value else value


def shown_variable(flag: str, value: str) -> str:
    """The value of an ETCD_* variable that is a flag of etcd's.

    Images take others of that prefix for themselves, ETCD_ROOT_PASSWORD among them.
    """
    is_known = flag in _FLAGS or flag.startswith("experimental-")
    return shown_flag(flag, value) if is_known else HIDDEN


def shown_argv(argv: Sequence[str]) -> tuple[str, ...]:
    """A command line without the values of flags that let others in."""
    shown: list[str] = []
    hide_next = False
    for word in argv:
        name, equals, value = word.partition("=")
        is_secret = name.startswith("-") and name.lstrip("-") in SECRET_FLAGS
        if hide_next:  # Go takes the next argument, whatever it begins with
            shown.append(HIDDEN)
        else:
            shown.append(f"{name}={HIDDEN}" if is_secret and equals and value else word)
        hide_next = is_secret and not equals and not hide_next
    return tuple(shown)


def shown_line(text: str) -> str:
    """A line of a log without the values of environment variables.

    etcd logs each ETCD_* variable at its start, also those it does not know (pkg/flags/flag.go);
    the kubelet logs a whole container, env included, that it cannot start (kuberuntime_manager.go).
    """
    found = _ENV_LINE.search(text)
    if found:
        name = _ETCD_NAME.search(found.group(2))
        tail = f" {name.group(0)}" if name else ""
        text = f"{text[: found.start(2)]}{tail}"
    return _ENV_VAR.sub(rf"\g<1>{HIDDEN}\g<2>", text)
