"""Proves a certificate, its key and its CA by a TLS handshake in memory, as etcd's peers do it."""

from __future__ import annotations

import ssl
from dataclasses import dataclass

# Flags of OpenSSL (x509_vfy.h): validity is judged by the survey in its own words, and Go's
# verifier, unlike OpenSSL's, takes an intermediate in the CA file as a trust anchor.
_NO_CHECK_TIME = 0x200000
_PARTIAL_CHAIN = 0x80000
_INVALID_PURPOSE = 26
_SIGNATURE_FAILURE = 7


@dataclass(frozen=True)
class Proof:
    """What a handshake showed. Exactly one of the three is set where it did not succeed.

    pair: why certificate and key cannot be used together. chain: why the CA does not vouch for the
    certificate. other: anything else that OpenSSL disliked.
    """

    pair: str = ""
    chain: str = ""
    other: str = ""


def prove(cert: str, key: str, ca: str, as_server: bool, as_client: bool) -> Proof:
    """Let the certificate log in to a verifier that trusts the CA file. Paths as seen from here.

    as_server, as_client: in which roles it will be used; its extended key usage is judged
    elsewhere, so either role will do for the proof of the chain.
    """
    problem = why_no_pair(cert, key)
    if problem:
        return Proof(pair=problem)
    chain = ""
    for is_used, verify in ((as_server, _verify_server), (as_client, _verify_client)):
        if not is_used:
            continue
        try:
            verify(cert, key, ca)
        except ssl.SSLCertVerificationError as error:
            chain = chain or _chain_words(error)
            continue
        except (ssl.SSLError, OSError) as error:
            return Proof(other=_words(error))
        return Proof()
    return Proof(chain=chain)


def why_no_pair(cert: str, key: str) -> str:
    """Why a certificate and a key cannot be used together; empty where they can."""
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(cert, key, password="")
    except (ssl.SSLError, OSError) as error:
        return _words(error)
    return ""


def _verify_server(cert: str, key: str, ca: str) -> None:
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(cert, key, password="")
    _shake(_verifier(ssl.PROTOCOL_TLS_CLIENT, ca), server)


def _verify_client(cert: str, key: str, ca: str) -> None:
    server = _verifier(ssl.PROTOCOL_TLS_SERVER, ca)
    server.load_cert_chain(cert, key, password="")
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False
    client.verify_mode = ssl.CERT_NONE  # only the other side is on trial here
    client.load_cert_chain(cert, key, password="")
    _shake(client, server)


def _verifier(protocol: int, ca: str) -> ssl.SSLContext:
    context = ssl.SSLContext(protocol)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_REQUIRED
    context.verify_flags |= ssl.VerifyFlags(_NO_CHECK_TIME | _PARTIAL_CHAIN)
    context.load_verify_locations(ca)
    return context


def _shake(client_context: ssl.SSLContext, server_context: ssl.SSLContext) -> None:
    """Run both sides until both are content. Raises the ssl.SSLError of the side that is not."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = client_context.wrap_bio(to_client, to_server, server_side=False)
    server = server_context.wrap_bio(to_server, to_client, server_side=True)
    waiting = [client, server]
    for _ in range(10):  # TLS 1.3 needs two rounds, TLS 1.2 three
        for side in list(waiting):
            try:
                side.do_handshake()
                waiting.remove(side)
            except ssl.SSLWantReadError:
                continue
        if not waiting:
            return
    raise ssl.SSLError("the handshake did not come to an end")


def _chain_words(error: ssl.SSLCertVerificationError) -> str:
    if error.verify_code == _INVALID_PURPOSE:
        return ""  # extended key usage: named by whoever reads the certificate
    if error.verify_code == _SIGNATURE_FAILURE:
        return "the signature does not match the CA's key"
    return str(error.verify_message)


def _words(error: OSError) -> str:
    reason = error.reason if isinstance(error, ssl.SSLError) else error.strerror
    if reason == "KEY_VALUES_MISMATCH":
        return "the key does not belong to the certificate"
    return (reason or str(error)).replace("_", " ").lower()
