"""Make etcd's certificates anew, and bring a CA's key to a host that lost it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Any, Optional

from agent.actions.base import Action, Context, Data
from agent.actions.definitions import current_config, file_hash
from agent.actions.issuing import (
    OpensslIssuer,
    Wanted,
    files_of,
    find_openssl,
    load_certificate,
    wanted,
)
from agent.actions.kinds import kind_of
from agent.actions.kubeadm_certs import KubeadmIssuer, explain
from agent.actions.placing import NewFile, keep, place, put_back
from agent.errors import PreconditionFailed, RescueError, StepFailed
from agent.host import STATE_DIR
from agent.model.facts import Certificate, EtcdConfig, TlsFiles
from agent.survey.certificates import read_certificates
from agent.survey.handshake import why_no_pair

Pair = tuple[bytes, bytes]


@dataclass(frozen=True)
class IssueArgs:
    """roles: server, peer, client, apiserver-client (see Certificate.role)."""

    roles: tuple[str, ...]


class IssueCertificates(Action[IssueArgs]):
    """Issue certificates with the CA on this host, prove them, and only then put them in place.

    By kubeadm where it is there, else by openssl with the same contents. What was there is kept in
    quarantine. A running etcd takes them with its next handshake.
    """

    name = "issue_certificates"
    args_type = IssueArgs

    def check(self, ctx: Context, args: IssueArgs) -> None:
        config = current_config(ctx)
        if not args.roles:
            raise PreconditionFailed("no certificate was named", next="fab renew-certificates HOST")
        for role in args.roles:
            files_of(config, ctx.platform, role)
        authority = require_authority(ctx)
        if authority.not_after <= ctx.host.now() or authority.not_before > ctx.host.now():
            raise PreconditionFailed(
                f"{authority.path}: {'; '.join(authority.problems)}",
                "what it issues would be as invalid as itself",
                "docs/certificates.md says how a CA is replaced",
            )
        if not find_openssl(ctx.host) and not ctx.host.which("kubeadm"):
            raise PreconditionFailed(
                f"{ctx.host.hostname()} has neither kubeadm nor openssl",
                "a certificate needs one of them for its key and its signature; the CA's key does "
                "not leave the host for it",
                "install the openssl package there, then run this again",
            )

    def is_done(self, ctx: Context, args: IssueArgs, undo: Optional[Data]) -> bool:
        if undo is None or any(file_hash(ctx.host, e["path"]) == e["sha256"] for e in undo["kept"]):
            return False
        return not _problems(ctx, current_config(ctx), args.roles)

    def prepare(self, ctx: Context, args: IssueArgs) -> Data:
        config = current_config(ctx)
        files = [files_of(config, ctx.platform, role) for role in args.roles]
        return {"kept": keep(ctx, *(p for f in files for p in (f.cert, f.key)))}

    def act(self, ctx: Context, args: IssueArgs, undo: Data) -> Data:
        config, work = current_config(ctx), _work(ctx)
        wishes = [wanted(ctx.host, config, ctx.platform, role) for role in args.roles]
        ctx.host.makedirs(work)
        ctx.host.discard(work)  # of a run that was killed
        ctx.host.makedirs(work)
        try:
            made, by = _issue(ctx, config, wishes, work)
            _require_good(ctx, config, made, work)
            new, owner = {}, kind_of(ctx).owner(ctx)
            for want in wishes:
                certificate, key = made[want.role]
                new[ctx.host.realpath(want.files.cert)] = NewFile(certificate, 0o644, owner)
                new[ctx.host.realpath(want.files.key)] = NewFile(key, 0o600, owner)
            place(ctx, undo["kept"], new)
        finally:
            ctx.host.discard(work)
        return {"by": by, "until": _ends(ctx, config, args.roles)}

    def prove(self, ctx: Context, args: IssueArgs, undo: Data) -> None:
        problems = _problems(ctx, current_config(ctx), args.roles)
        if problems:
            raise StepFailed(f"the new certificates will not do: {'; '.join(problems)}")

    def undo(self, ctx: Context, args: IssueArgs, undo: Data) -> None:
        ctx.host.makedirs(_work(ctx))
        ctx.host.discard(_work(ctx))
        put_back(ctx, undo["kept"])


def _work(ctx: Context) -> str:
    return f"{STATE_DIR}/work/{ctx.plan}-{ctx.step}-certificates"


def _issue(
    ctx: Context, config: EtcdConfig, wishes: Sequence[Wanted], work: str
) -> tuple[dict[str, Pair], str]:
    """(role → certificate and key, by what): kubeadm's where it can, openssl's for the rest."""
    made: dict[str, Pair] = {}
    by: list[str] = []
    # kubespray's hosts have a kubeadm too, which did not make these.
    kubeadm = ctx.host.which("kubeadm") if ctx.platform.definition_kind == "manifest" else ""
    if kubeadm:
        try:
            issuer = KubeadmIssuer(ctx.host, kubeadm, config, ctx.platform)
            made = issuer.issue([w for w in wishes if issuer.can_issue(w)], work)
            by = [f"kubeadm {issuer.version}"] if made else []
        except (RescueError, OSError) as error:
            told = explain(error) if isinstance(error, RescueError) else str(error)
            ctx.say(f"kubeadm does not make them, so openssl does: {told}")
    rest = [w for w in wishes if w.role not in made]
    openssl = find_openssl(ctx.host)
    if rest and not openssl:
        raise StepFailed(f"kubeadm makes no {rest[0].role} certificate, and there is no openssl")
    if rest and openssl:
        signer = OpensslIssuer(ctx.host, openssl, ctx.platform.ca, ctx.platform.ca_key, work)
        made.update({w.role: signer.issue(w, ctx.host.now()) for w in rest})
        by.append("openssl")
    return made, ", ".join(by)


def _require_good(ctx: Context, config: EtcdConfig, made: dict[str, Pair], work: str) -> None:
    """Hold new certificates against all that a survey looks for, while the old are in place."""
    trial, clients = config, []
    for role, (certificate, key) in made.items():
        cert_path, key_path = f"{work}/{role}.crt", f"{work}/{role}.key"
        ctx.host.write_atomic(cert_path, certificate)
        ctx.host.write_atomic(key_path, key)
        if role == "server":
            trial = replace(
                trial, server_tls=replace(trial.server_tls, cert=cert_path, key=key_path)
            )
        elif role == "peer":
            trial = replace(trial, peer_tls=replace(trial.peer_tls, cert=cert_path, key=key_path))
        else:
            clients.append((role, cert_path, key_path))
    platform = replace(ctx.platform, clients=tuple(clients))
    found = read_certificates(ctx.host, trial, ctx.host.now(), platform)
    said = [f"{c.role}: {p}" for c in found if c.path.startswith(work) for p in c.problems]
    if said:
        raise StepFailed(
            f"what was issued will not do: {'; '.join(said)}",
            "the old files are still in place",
            "fab survey",
        )


def _of(ctx: Context, config: EtcdConfig, roles: Sequence[str]) -> list[Certificate]:
    found = read_certificates(ctx.host, config, ctx.host.now(), ctx.platform)
    return [c for c in found if c.role in roles]


def _problems(ctx: Context, config: EtcdConfig, roles: Sequence[str]) -> list[str]:
    return [
        f"{c.path}: {problem}"
        for c in _of(ctx, config, roles)
        for problem in c.problems
        if not problem.startswith("warning: ")
    ]


def _ends(ctx: Context, config: EtcdConfig, roles: Sequence[str]) -> float:
    return min((c.not_after for c in _of(ctx, config, roles)), default=0.0)


# ---- the CA --------------------------------------------------------------------------------------


def require_authority(ctx: Context) -> Certificate:
    """The CA of etcd on this host. Raises PreconditionFailed unless its own key is beside it."""
    platform = ctx.platform
    here = TlsFiles(ca=platform.ca)
    config = EtcdConfig("", "", "", "", server_tls=here)
    found = read_certificates(ctx.host, config, ctx.host.now(), platform)
    authority = next((c for c in found if c.path == platform.ca), None) if platform.ca_key else None
    if authority is None or authority.key != "present":
        why = {"missing": "is not here", "other": "does not belong to it"}
        said = why.get(authority.key if authority else "", "is not known on this platform")
        raise PreconditionFailed(
            f"{platform.ca or 'the CA of etcd'}: its key {platform.ca_key} {said}",
            "without the CA's key no certificate can be issued here",
            f"fab renew-certificates {ctx.host.hostname()}   (brings it from another host)",
        )
    return authority


@dataclass(frozen=True)
class LendArgs:
    """fingerprint: sha256 of the CA certificate that is meant, hex."""

    fingerprint: str


class CheckAuthority(Action[LendArgs]):
    """See that this host has the CA that is meant, and its key."""

    name = "check_authority"
    args_type = LendArgs

    def is_done(self, ctx: Context, args: LendArgs, undo: Optional[Data]) -> bool:
        return False  # it is there to look again

    def act(self, ctx: Context, args: LendArgs, undo: Data) -> Data:
        authority = require_authority(ctx)
        if authority.fingerprint != args.fingerprint:
            raise PreconditionFailed(
                f"{authority.path} is not the CA that was surveyed",
                "somebody replaced it since",
                "make a new plan: fab plan",
            )
        return {"until": authority.not_after}


@dataclass(frozen=True)
class AuthorityArgs:
    """source: the host whose CA it is; fingerprint: sha256 of its certificate, hex."""

    source: str
    fingerprint: str


class InstallAuthority(Action[AuthorityArgs]):
    """Put the CA of etcd in place: certificate and key, as another host of the cluster has them.

    They come with the request, out of the coordinator's memory: never in the plan, never in the
    journal (which has hashes), never in an argument list.
    """

    name = "install_authority"
    args_type = AuthorityArgs

    def check(self, ctx: Context, args: AuthorityArgs) -> None:
        if not ctx.platform.ca_key:
            raise PreconditionFailed(
                f"where {ctx.platform.title} keeps its CA is not known", next="docs/certificates.md"
            )
        self._brought(ctx, args)

    def _brought(self, ctx: Context, args: AuthorityArgs) -> Pair:
        certificate = ctx.secrets.get("certificate", "").encode()
        key = ctx.secrets.get("key", "").encode()
        if not certificate or not key:
            raise PreconditionFailed(
                f"the CA of {args.source} did not come with this request",
                "it is handed from host to host by the coordinator, and kept nowhere in between",
                "fab resume   (brings it again)",
            )
        return certificate, key

    def is_done(self, ctx: Context, args: AuthorityArgs, undo: Optional[Data]) -> bool:
        return undo is not None and _has(ctx, args.fingerprint)

    def prepare(self, ctx: Context, args: AuthorityArgs) -> Data:
        return {"kept": keep(ctx, ctx.platform.ca, ctx.platform.ca_key)}

    def act(self, ctx: Context, args: AuthorityArgs, undo: Data) -> Data:
        certificate, key = self._brought(ctx, args)
        self._require_meant(ctx, args, certificate, key)
        new = {
            ctx.host.realpath(ctx.platform.ca): NewFile(certificate, 0o644),
            ctx.host.realpath(ctx.platform.ca_key): NewFile(key, 0o600),
        }
        place(ctx, undo["kept"], new)
        return {"from": args.source, "key_sha256": sha256(key).hexdigest()}

    def _require_meant(
        self, ctx: Context, args: AuthorityArgs, certificate: bytes, key: bytes
    ) -> None:
        """Raise PreconditionFailed unless it is the CA that was surveyed, with its own key."""
        work = _work(ctx)
        ctx.host.makedirs(work)
        try:
            ctx.host.write_atomic(f"{work}/ca.crt", certificate)
            ctx.host.write_atomic(f"{work}/ca.key", key)
            read = load_certificate(ctx.host, f"{work}/ca.crt")
            told = sha256(read.dump()).hexdigest() if read is not None else "no certificate"
            problem = why_no_pair(ctx.host.real(f"{work}/ca.crt"), ctx.host.real(f"{work}/ca.key"))
        finally:
            ctx.host.discard(work)
        if told != args.fingerprint or problem:
            raise PreconditionFailed(
                f"what {args.source} gave is not the CA that was surveyed: "
                f"{problem or told[:16] + ' instead of ' + args.fingerprint[:16]}",
                "a wrong CA would cut this host off from the others",
                "fab diagnose",
            )

    def prove(self, ctx: Context, args: AuthorityArgs, undo: Data) -> None:
        if not _has(ctx, args.fingerprint):
            raise StepFailed(f"{ctx.platform.ca} is not the CA that was to be put there")

    def undo(self, ctx: Context, args: AuthorityArgs, undo: Data) -> None:
        put_back(ctx, undo["kept"])


def _has(ctx: Context, fingerprint: str) -> bool:
    try:
        return require_authority(ctx).fingerprint == fingerprint
    except PreconditionFailed:
        return False


def lend_authority(ctx: Context) -> dict[str, Any]:
    """The CA's certificate and key as texts, for a coordinator that takes them to another host."""
    require_authority(ctx)
    return {
        "certificate": ctx.host.read_text(ctx.platform.ca),
        "key": ctx.host.read_text(ctx.platform.ca_key),
    }
