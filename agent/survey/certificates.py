"""The certificates that etcd and its clients use here, and what is wrong with each, in words."""

from __future__ import annotations

import hashlib
import ipaddress
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Optional
from urllib.parse import urlsplit

from agent.errors import Damaged
from agent.host import Host
from agent.model.facts import Certificate, EtcdConfig, TlsFiles
from agent.platforms.base import Platform
from agent.survey.handshake import prove, why_no_pair

SOON = 7 * 86400.0
"""Seconds before the end of its validity from which a certificate is warned about."""

_MAX_FILE = 1024 * 1024
_SHORT = {
    "common_name": "CN", "organization_name": "O", "organizational_unit_name": "OU",
    "country_name": "C", "locality_name": "L", "state_or_province_name": "ST",
    "serial_number": "SERIALNUMBER", "domain_component": "DC",
}  # fmt: skip
_USAGES = {"server_auth": "serverAuth", "client_auth": "clientAuth"}


@dataclass(frozen=True)
class _Use:
    """How a certificate is used: its files, the CA that judges it, and by which hosts it is met."""

    role: str
    files: TlsFiles
    judge: str
    usages: tuple[str, ...]
    hosts: tuple[str, ...] = ()
    kept: bool = False


@dataclass(frozen=True)
class _Parsed:
    """One certificate as read; ids in hex, usages None where any is allowed."""

    facts: Certificate
    key_id: str
    issuer_key_id: str
    usages: Optional[tuple[str, ...]]


def read_certificates(
    host: Host, config: EtcdConfig, now: float, platform: Optional[Platform] = None
) -> tuple[Certificate, ...]:
    """Every server, peer, client and CA file of `config`, judged at time `now`. Never raises.

    A leaf is proved against its key and its CA by a handshake in memory. role: server, peer,
    client, ca, or peer-ca where peers have a CA of their own; with a platform that keeps client
    certificates of its own also those (apiserver-client: what kube-apiserver speaks to etcd with).
    In a file of several certificates the first one is described. `problems` that only warn begin
    with "warning: ".
    """
    uses = [use for use in (*_uses(config), *_kept(host, config, platform)) if use.files.cert]
    known = {path for _, path, _ in platform.clients} if platform else set()
    own = [u for u in uses if u.role != "client" or u.kept or u.files.cert not in known]
    leaves = [_leaf(host, use, now) for use in own]
    return (*leaves, *_authorities(host, config, now, platform))


def _uses(config: EtcdConfig) -> tuple[_Use, ...]:
    server, peer, client = config.server_tls, config.peer_tls, config.client_tls
    both = ("server_auth", "client_auth")
    uses = [
        _Use(
            "server",
            server,
            client.ca or server.ca,
            ("server_auth",),
            _hosts((*config.advertise_client_urls, *config.listen_client_urls)),
        ),
        _Use(
            "peer",
            peer,
            peer.ca,
            both,
            _hosts((*config.advertise_peer_urls, *config.listen_peer_urls)),
        ),
    ]
    if client.cert not in (server.cert, peer.cert):
        uses.append(_Use("client", client, server.ca or client.ca, ("client_auth",)))
    return tuple(uses)


def _kept(host: Host, config: EtcdConfig, platform: Optional[Platform]) -> list[_Use]:
    """The client certificates that the platform's tools keep, where they have a use on this host.

    kube-apiserver's is asked for only where there is one: etcd may have a host of its own.
    """
    if platform is None or not config.server_tls.cert:
        return []
    judge = config.client_tls.ca or config.server_tls.ca
    apiserver = f"{platform.manifest_dir}/kube-apiserver.yaml"
    return [
        _Use(role, TlsFiles(cert, key, judge), judge, ("client_auth",), kept=True)
        for role, cert, key in platform.clients
        if role != "apiserver-client" or host.exists(cert) or host.exists(apiserver)
    ]


def _hosts(urls: Iterable[str]) -> tuple[str, ...]:
    """Hosts of the https URLs; a wildcard is none, nobody connects to it by that name."""
    found = []
    for url in urls:
        parts = urlsplit(url)
        host = parts.hostname or ""
        if parts.scheme == "https" and host not in ("", "0.0.0.0", "::"):  # noqa: S104
            found.append(host)
    return tuple(dict.fromkeys(found))


def _leaf(host: Host, use: _Use, now: float) -> Certificate:
    parsed, problem = _read(host, use.files.cert, use.role)
    if not parsed:
        return Certificate(use.files.cert, use.role, problems=(problem + _elsewhere(host, use),))
    leaf = parsed[0]
    problems = [
        *_validity(leaf.facts, now),
        *_usage(leaf, use),
        *_names(leaf, use),
        *_key_and_chain(host, use, leaf),
    ]
    return replace(leaf.facts, problems=tuple(problems))


def _elsewhere(host: Host, use: _Use) -> str:
    """What tells a wrong path from a missing file: the key that is named has its certificate."""
    beside = f"{os.path.splitext(use.files.key)[0]}.crt"
    if beside == use.files.cert or not (host.exists(use.files.key) and host.exists(beside)):
        return ""
    return f"; its key belongs to {beside}"


def _authorities(
    host: Host, config: EtcdConfig, now: float, platform: Optional[Platform]
) -> tuple[Certificate, ...]:
    server, peer, client = config.server_tls.ca, config.peer_tls.ca, config.client_tls.ca
    roles: dict[str, str] = {}
    for path, role in ((server, "ca"), (client, "ca"), (peer, "peer-ca")):
        if path:
            roles.setdefault(path, role)
    found = [_authority(host, path, role, now) for path, role in roles.items()]
    return tuple(_with_key(host, authority, platform) for authority in found)


def _with_key(host: Host, authority: Certificate, platform: Optional[Platform]) -> Certificate:
    """Say of the platform's own CA whether the key that it issues with is here, and is its own."""
    if platform is None or not platform.ca_key or authority.path != platform.ca:
        return authority
    if not host.exists(platform.ca_key):
        return replace(authority, key="missing")
    problem = why_no_pair(host.real(authority.path), host.real(platform.ca_key))
    return replace(authority, key="other" if problem else "present")


def _authority(host: Host, path: str, role: str, now: float) -> Certificate:
    parsed, problem = _read(host, path, role)
    if not parsed:
        return Certificate(path, role, problems=(problem,))
    problems: list[str] = []
    for each in parsed:
        said = _validity(each.facts, now)
        problems += said if len(parsed) == 1 else [f"{each.facts.subject}: {p}" for p in said]
    return replace(parsed[0].facts, problems=tuple(problems))


# ---- problems --------------------------------------------------------------------------------


def _validity(facts: Certificate, now: float) -> list[str]:
    if now < facts.not_before:
        ahead = duration(facts.not_before - now)
        return [f"not valid before {ahead} from now: is this host's clock right?"]
    if now > facts.not_after:
        return [f"expired {duration(now - facts.not_after)} ago"]
    if facts.not_after - now < SOON:
        return [f"warning: expires in {duration(facts.not_after - now)}"]
    return []


def duration(seconds: float) -> str:
    """A span of time in its two largest units: 2 d 3 h, 3 h 20 min, 5 min, 12 s."""
    left, parts = int(seconds), []
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min"), (1, "s")):
        if left >= size:
            parts.append(f"{left // size} {unit}")
            left %= size
        elif parts:
            break
        if len(parts) == 2:
            break
    return " ".join(parts) or "0 s"


def _usage(leaf: _Parsed, use: _Use) -> list[str]:
    allowed = leaf.usages
    if allowed is None or "any_extended_key_usage" in allowed:
        return []
    missing = [_USAGES[usage] for usage in use.usages if usage not in allowed]
    if not missing:
        return []
    return [f"its extended key usage lacks {' and '.join(missing)}, needed as {use.role}"]


def _names(leaf: _Parsed, use: _Use) -> list[str]:
    sans = leaf.facts.sans
    missing = [host for host in use.hosts if not any(covers(san, host) for san in sans)]
    if not missing:
        return []
    names = ", ".join(sans) or "none"
    return [f"its names do not cover {', '.join(missing)} (it has: {names})"]


def covers(san: str, host: str) -> bool:
    """True if a DNS or IP name of a certificate stands for `host` (RFC 6125, as Go does it)."""
    try:
        return ipaddress.ip_address(san) == ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        pass
    san, host = san.lower().rstrip("."), host.lower().rstrip(".")
    if san.startswith("*."):
        return host.partition(".")[2] == san[2:]
    return san == host


def _key_and_chain(host: Host, use: _Use, leaf: _Parsed) -> list[str]:
    key = use.files.key or use.files.cert
    if not host.exists(key):
        return [f"its key {key} is missing"]
    if not use.judge:
        return []
    authorities, problem = _read(host, use.judge, "ca")
    if not authorities:
        return [f"cannot be verified: CA file {use.judge}: {problem}"]
    proof = prove(
        host.real(use.files.cert),
        host.real(key),
        host.real(use.judge),
        as_server="server_auth" in use.usages,
        as_client="client_auth" in use.usages,
    )
    if proof.pair:
        return [f"cannot be used with key {key}: {proof.pair}"]
    if proof.other:
        return [f"a TLS handshake with it fails: {proof.other}"]
    if proof.chain:
        return [f"does not chain to {use.judge}: {_why_no_chain(leaf, authorities, proof.chain)}"]
    return []


def _why_no_chain(leaf: _Parsed, authorities: Sequence[_Parsed], said: str) -> str:
    same_name = [a for a in authorities if a.facts.subject == leaf.facts.issuer]
    if not same_name:
        there = "; ".join(a.facts.subject for a in authorities)
        return f"it was issued by {leaf.facts.issuer}, the CA there is {there}"
    ids = {a.key_id for a in same_name if a.key_id}
    if leaf.issuer_key_id and ids and leaf.issuer_key_id not in ids:
        return f"it was issued by another CA of the same name {leaf.facts.issuer}"
    return said


# ---- parsing ---------------------------------------------------------------------------------


def _read(host: Host, path: str, role: str) -> tuple[list[_Parsed], str]:
    """(certificates of a PEM file in their order, "") or ([], why there are none)."""
    try:
        data = host.read_bytes(path, _MAX_FILE)
    except FileNotFoundError:
        return [], "missing"
    except Damaged as error:
        return [], error.seen.partition(": ")[2]
    except OSError as error:
        return [], f"cannot be read: {error.strerror}"
    try:
        return _parse_pem(path, role, data)
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        said = str(error).splitlines()[0] if str(error) else type(error).__name__
        return [], f"not a certificate: {said[:120]}"


def _parse_pem(path: str, role: str, data: bytes) -> tuple[list[_Parsed], str]:
    from asn1crypto import pem, x509  # 40 ms: only where there are certificates to read

    if not pem.detect(data):
        return [], "not a certificate: no PEM block in it"
    blocks = [der for kind, _, der in pem.unarmor(data, multiple=True) if kind == "CERTIFICATE"]
    if not blocks:
        return [], "not a certificate: its PEM blocks are something else"
    return [_parse(path, role, x509.Certificate.load(der, strict=True)) for der in blocks], ""


def _parse(path: str, role: str, cert: Any) -> _Parsed:
    validity = cert["tbs_certificate"]["validity"]
    names = cert.subject_alt_name_value.native if cert.subject_alt_name_value else []
    usages = cert.extended_key_usage_value
    facts = Certificate(
        path=path,
        role=role,
        subject=_name(cert.subject),
        issuer=_name(cert.issuer),
        not_before=validity["not_before"].native.timestamp(),
        not_after=validity["not_after"].native.timestamp(),
        sans=tuple(str(name) for name in names),
        fingerprint=hashlib.sha256(cert.dump()).hexdigest(),
    )
    return _Parsed(
        facts=facts,
        key_id=(cert.key_identifier or b"").hex(),
        issuer_key_id=(cert.authority_key_identifier or b"").hex(),
        usages=tuple(usages.native) if usages else None,
    )


def _name(name: Any) -> str:
    """A distinguished name in one line: O=kubeadm,CN=etcd-ca."""
    parts = []
    for kind, value in name.native.items():
        values = value if isinstance(value, list) else [value]
        parts += [f"{_SHORT.get(kind, kind)}={v}" for v in values]
    return ",".join(parts)
