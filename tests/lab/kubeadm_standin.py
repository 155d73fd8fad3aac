#!/usr/bin/env python3
"""Stands in for kubeadm where there is no API server: joins only, and fails on any other word.

Options and output are those of kubeadm 1.31: init phase upload-certs, token create, config print,
and join.
"""

import re
import sys

KEY = "8f" * 32
TOKEN = "abcdef.0123456789abcdef"
HASH = "sha256:" + "1a" * 32
ENDPOINT = "10.0.0.10:6443"
CONFIG = "--kubeconfig=/etc/kubernetes/admin.conf"
RECORD = "/root/joined.yaml"
API = "kubeadm.k8s.io/v1beta4"
CONFIG_GIVEN = f"""apiVersion: {API}
kind: JoinConfiguration
discovery:
  bootstrapToken:
    apiServerEndpoint: {ENDPOINT}
    token: {TOKEN}
    caCertHashes:
    - {HASH}
controlPlane:
  certificateKey: {KEY}
"""


def main(words: list[str]) -> int:
    """Answer these commands, exactly as they are written."""
    if words == ["init", "phase", "upload-certs", "--upload-certs", CONFIG]:
        print('[upload-certs] Storing the certificates in Secret "kubeadm-certs" in the '
              '"kube-system" Namespace\n[upload-certs] Using certificate key:\n' + KEY)  # fmt: skip
        return 0
    if words == ["token", "create", "--print-join-command", CONFIG]:
        print(f"kubeadm join {ENDPOINT} --token {TOKEN} --discovery-token-ca-cert-hash {HASH} ")
        return 0
    if words == ["config", "print", "join-defaults"]:
        print(f"apiVersion: {API}\nkind: JoinConfiguration")
        return 0
    if words[:2] == ["join", "--config"] and len(words) == 3:
        with open(words[2]) as file:
            given = file.read()
        if given == CONFIG_GIVEN:
            with open(RECORD, "w") as file:
                file.write(given)
            return 0
    print("unknown command or flag: " + re.sub(r"\s+", " ", " ".join(words)), file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
