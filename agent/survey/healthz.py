"""The /healthz of a component of the control plane on this host."""

from __future__ import annotations

import http.client
import ssl


def healthy(port: int, path: str = "/healthz", timeout: float = 3.0) -> tuple[bool, str]:
    """(does it answer 200, what was seen), over HTTPS on loopback.

    The certificate is not verified, as a kubelet's own probe does not (kubernetes
    pkg/probe/http/http.go): nothing is sent but the path, and who listens here is root's already.
    """
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    connection = http.client.HTTPSConnection("127.0.0.1", port, timeout=timeout, context=context)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        said = answer.read(200).decode(errors="replace").strip()
    except (OSError, http.client.HTTPException) as error:
        return False, f"port {port}: {error or type(error).__name__}"
    finally:
        connection.close()
    return answer.status == 200, f"port {port} says {answer.status} {said[:60]}".strip()
