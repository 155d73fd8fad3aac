"""Makes certificates as kubeadm makes them, out of a CA's key that lies on this host.

Subject, names, usages, key, serial number and validity are those of kubeadm's certlist.go and
pkiutil (NewSignedCert): one year, RSA 2048 or ECDSA P-256. They begin with the CA's own validity,
as kubeadm's did up to 1.30 (later ones: five minutes ago), so that no clock that is behind refuses
them. The certificate is built here; `openssl` makes the new key and the one signature, so that the
CA's key is read by openssl alone and never leaves the host.
"""

from __future__ import annotations

import datetime
import ipaddress
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Optional
from urllib.parse import urlsplit

from agent.errors import Damaged, PreconditionFailed
from agent.host import Host
from agent.model.facts import EtcdConfig, TlsFiles
from agent.platforms.base import Platform

_YEAR = datetime.timedelta(days=365)
_MAX_FILE = 1024 * 1024
_LOOPBACK = ("127.0.0.1", "::1")
_WILDCARDS = ("0.0.0.0", "::", "")  # noqa: S104 - compared, not bound
_PRINTABLE = re.compile(r"[A-Za-z0-9 '()+,./:=?*&-]*")
_COMMON_NAMES = {
    "client": "kube-etcd-healthcheck-client", "apiserver-client": "kube-apiserver-etcd-client",
}  # fmt: skip
_SIGNATURES = {"secp256r1": "sha256", "secp384r1": "sha384", "secp521r1": "sha512"}


@dataclass(frozen=True)
class Wanted:
    """One certificate to be made, and where it goes.

    organizations: kubeadm before 1.29 puts clients into system:masters, later ones do not; what is
    being replaced decides. names, addresses: subject alternative names. key_kind: rsa:2048, or
    another size, or ec:P-256.
    """

    role: str
    files: TlsFiles
    common_name: str
    organizations: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    addresses: tuple[str, ...] = ()
    key_kind: str = "rsa:2048"

    @property
    def usages(self) -> tuple[str, ...]:
        """Extended key usages; etcd's server is its own client too, through its gateway."""
        if self.role in _COMMON_NAMES:
            return ("client_auth",)
        return ("server_auth", "client_auth")


def files_of(config: EtcdConfig, platform: Platform, role: str) -> TlsFiles:
    """Where the certificate and the key of that role lie. Raises PreconditionFailed for none."""
    kept = {name: TlsFiles(cert, key) for name, cert, key in platform.clients}
    files = {"server": config.server_tls, "peer": config.peer_tls, **kept}.get(role)
    if files is None or not files.cert or not files.key:
        raise PreconditionFailed(
            f"{config.definition} names no {role} certificate with a key of its own",
            "where it would go is not known",
            "fab survey",
        )
    return files


def wanted(host: Host, config: EtcdConfig, platform: Platform, role: str) -> Wanted:
    """What to make for that role: kubeadm's values, and what the old certificate had beside them.

    The old one's further names are kept: somebody asked for them (serverCertSANs, peerCertSANs).
    """
    files = files_of(config, platform, role)
    old = load_certificate(host, files.cert)
    subject = old.subject.native if old is not None else {}
    kind = _key_kind(old if old is not None else load_certificate(host, platform.ca))
    told = subject.get("common_name", "")
    if role in _COMMON_NAMES:
        organizations = subject.get("organization_name", ())
        groups = (organizations,) if isinstance(organizations, str) else tuple(organizations)
        name = told if told and platform.definition_kind == "unit" else _COMMON_NAMES[role]
        return Wanted(role, files, str(name), groups, key_kind=kind)
    hosts = [*_member_hosts(config, role), *(_alternative_names(old) if old is not None else ())]
    names = {h for h in hosts if not _is_address(h)} | {config.name, "localhost"}
    found = [str(ipaddress.ip_address(h)) for h in hosts if _is_address(h)]
    advertised = [a for a in found if a not in _LOOPBACK][:1]
    # kubeadm's order (cmd/kubeadm/app/util/pkiutil/pki_helpers.go: getAltNames)
    addresses = [*advertised, *_LOOPBACK, *found]
    return Wanted(
        role, files, told if isinstance(told, str) and told else config.name,
        names=tuple(sorted(names)),
        addresses=tuple(dict.fromkeys(addresses)),
        key_kind=kind,
    )  # fmt: skip


def _member_hosts(config: EtcdConfig, role: str) -> list[str]:
    """Hosts of the URLs by which the member is called; with kubeadm the advertise address."""
    urls = [*config.advertise_client_urls, *config.listen_client_urls]
    peers = [*config.advertise_peer_urls, *config.listen_peer_urls]
    found = [urlsplit(url).hostname or "" for url in (urls if role == "server" else peers)]
    return [h.partition("%")[0] for h in dict.fromkeys(found) if h not in _WILDCARDS]


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def load_certificate(host: Host, path: str) -> Any:
    """The first certificate of a PEM file (asn1crypto's x509.Certificate); None for none."""
    from asn1crypto import pem, x509  # 40 ms: only where certificates are made

    try:
        data = host.read_bytes(path, _MAX_FILE)
        for kind, _, der in pem.unarmor(data, multiple=True):
            if kind == "CERTIFICATE":
                certificate = x509.Certificate.load(der, strict=True)
                certificate.native  # noqa: B018 - asn1crypto parses when asked
                return certificate
    except (OSError, Damaged, ValueError, TypeError, KeyError, RecursionError):
        return None
    return None


def _alternative_names(certificate: Any) -> tuple[str, ...]:
    value = certificate.subject_alt_name_value
    found = [str(n.native) for n in value if n.name in ("dns_name", "ip_address")] if value else []
    return tuple(found)


def _key_kind(certificate: Any) -> str:
    """The kind of key that a certificate has, where kubeadm could have made it."""
    if certificate is None:
        return "rsa:2048"
    key = certificate.public_key
    if key.algorithm == "ec":
        return "ec:P-256"
    return f"rsa:{max(2048, key.bit_size)}" if key.algorithm == "rsa" else "rsa:2048"


# ---- by openssl ------------------------------------------------------------------------------


class OpensslIssuer:
    """Makes keys and signs with the host's openssl; all its files lie in one work directory."""

    def __init__(self, host: Host, openssl: str, ca: str, ca_key: str, work: str) -> None:
        self._host, self._openssl, self._ca_key, self._work = host, openssl, ca_key, work
        self._ca = load_certificate(host, ca)
        if self._ca is None:
            raise PreconditionFailed(f"{ca} is no certificate", next="fab survey")

    def issue(self, want: Wanted, now: float) -> tuple[bytes, bytes]:
        """(certificate, key) as PEM. now: the host's clock. Raises CommandFailed."""
        from asn1crypto import pem

        key = self._new_key(want)
        unsigned = self._unsigned(want, _public_key(key), now)
        certificate = self._signed(unsigned, want.role)
        return pem.armor("CERTIFICATE", certificate), _key_pem(key)

    def _new_key(self, want: Wanted) -> Any:
        from asn1crypto import keys, pem

        path = f"{self._work}/{want.role}.new"
        self._host.write_atomic(path, b"", 0o600)  # openssl keeps the mode of what is there
        kind, _, size = want.key_kind.partition(":")
        options = ["-pkeyopt", f"rsa_keygen_bits:{size}"]
        if kind == "ec":
            options = ["-pkeyopt", f"ec_paramgen_curve:{size}"]
            options += ["-pkeyopt", "ec_param_enc:named_curve"]
        argv = [self._openssl, "genpkey", "-algorithm", kind.upper(), *options, "-out", path]
        self._host.run(argv, timeout=120)
        _, _, der = pem.unarmor(self._host.read_bytes(path, _MAX_FILE))
        return keys.PrivateKeyInfo.load(der, strict=True)

    def _unsigned(self, want: Wanted, public_key: Any, now: float) -> Any:
        from asn1crypto import x509

        ca = self._ca["tbs_certificate"]
        end = datetime.datetime.fromtimestamp(now, datetime.timezone.utc) + _YEAR
        end = min(end.replace(microsecond=0), ca["validity"]["not_after"].native)
        form = "utc_time" if end.year < 2050 else "general_time"
        return x509.TbsCertificate(
            {
                "version": "v3",
                # As kubeadm: uniform in [1, 2**63 - 1)
                "serial_number": 1 + int.from_bytes(os.urandom(16), "big") % (2**63 - 2),
                "signature": self._algorithm(),
                "issuer": ca["subject"],
                "validity": {
                    "not_before": ca["validity"]["not_before"],
                    "not_after": x509.Time({form: end}),
                },
                "subject": _subject(want),
                "subject_public_key_info": public_key,
                "extensions": self._extensions(want),
            }
        )

    def _extensions(self, want: Wanted) -> list[dict[str, Any]]:
        """In the order in which Go writes them."""
        usage = {"digital_signature", "key_encipherment"}
        found: list[dict[str, Any]] = [
            {"extn_id": "key_usage", "critical": True, "extn_value": usage},
            {"extn_id": "extended_key_usage", "extn_value": list(want.usages)},
            {"extn_id": "basic_constraints", "critical": True, "extn_value": {"ca": False}},
        ]
        if self._ca.key_identifier:
            identifier = {"key_identifier": self._ca.key_identifier}
            found.append({"extn_id": "authority_key_identifier", "extn_value": identifier})
        names = [*_general("dns_name", want.names), *_general("ip_address", want.addresses)]
        if names:
            found.append({"extn_id": "subject_alt_name", "extn_value": names})
        return found

    def _algorithm(self) -> dict[str, Any]:
        from asn1crypto import core

        key = self._ca.public_key
        if key.algorithm == "rsa":
            return {"algorithm": "sha256_rsa", "parameters": core.Null()}
        return {"algorithm": f"{self._digest()}_ecdsa"}

    def _digest(self) -> str:
        key = self._ca.public_key
        return "sha256" if key.algorithm == "rsa" else _SIGNATURES.get(key.curve[1], "sha256")

    def _signed(self, unsigned: Any, role: str) -> bytes:
        from asn1crypto import x509

        text, signature = f"{self._work}/{role}.tbs", f"{self._work}/{role}.sig"
        self._host.write_atomic(text, unsigned.dump())
        # An empty pass phrase: an encrypted key must fail, not ask on somebody's terminal.
        sign = ["-sign", self._ca_key, "-passin", "pass:", "-out", signature, text]
        self._host.run([self._openssl, "dgst", f"-{self._digest()}", *sign], timeout=30)
        certificate = x509.Certificate(
            {
                "tbs_certificate": unsigned,
                "signature_algorithm": self._algorithm(),
                "signature_value": self._host.read_bytes(signature, _MAX_FILE),
            }
        )
        done: bytes = certificate.dump()
        return done


def _general(kind: str, values: Iterable[str]) -> list[Any]:
    from asn1crypto import x509

    return [x509.GeneralName(kind, value) for value in values]


def _subject(want: Wanted) -> Any:
    from asn1crypto import x509

    parts = {"common_name": want.common_name}
    if want.organizations:
        parts = {"organization_name": want.organizations[0], **parts}
    is_printable = all(_PRINTABLE.fullmatch(text) for text in parts.values())
    return x509.Name.build(parts, use_printable=is_printable)


def _public_key(key: Any) -> Any:
    from asn1crypto import keys

    inner = key["private_key"].parsed
    if key.algorithm == "rsa":
        public = {"modulus": inner["modulus"], "public_exponent": inner["public_exponent"]}
        return keys.PublicKeyInfo.wrap(keys.RSAPublicKey(public), "rsa")
    kind = keys.PublicKeyAlgorithm.load(key["private_key_algorithm"].dump())  # the same in DER
    return keys.PublicKeyInfo({"algorithm": kind, "public_key": inner["public_key"].native})


def _key_pem(key: Any) -> bytes:
    """A key as kubeadm writes it: PKCS #1 for RSA, SEC 1 for ECDSA."""
    from asn1crypto import pem

    inner = key["private_key"].parsed
    if key.algorithm == "rsa":
        return bytes(pem.armor("RSA PRIVATE KEY", inner.dump()))
    inner["parameters"] = key["private_key_algorithm"]["parameters"]
    return bytes(pem.armor("EC PRIVATE KEY", inner.dump(force=True)))


def find_openssl(host: Host) -> Optional[str]:
    """The host's openssl, or None."""
    return host.which("openssl") or None
