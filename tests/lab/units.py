"""etcd under systemd, in the ways that people have it: unit, settings, certificates, owner."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

from tests.lab import manifests, names
from tests.lab.disk import Disk
from tests.lab.etcd_versions import EtcdVersion

PROGRAMS = "/opt/etcd"
"""Where the hosts see the binaries of the lab's etcd; /usr/bin and /usr/local/bin lead there."""

ETCD_UID = 990
_PKI = "/etc/kubernetes/pki/etcd"
_ADMIN = "/etc/systemd/system/etcd.service"
_VENDOR = "/usr/lib/systemd/system/etcd.service"
_LINK = "/etc/systemd/system/multi-user.target.wants/etcd.service"
_COMMON = "[Unit]\nDescription=etcd\nAfter=network.target\n\n[Service]\nType=notify\n"
_INSTALL = "LimitNOFILE=40000\n\n[Install]\nWantedBy=multi-user.target\n"

Flags = Mapping[str, str]
Files = dict[str, str]


def _kubespray(flags: Flags) -> Files:
    """kubespray's /etc/etcd.env, and its unit."""
    env = "".join(f"{_variable(flag)}={value}\n" for flag, value in flags.items())
    unit = (
        f"{_COMMON}User=root\nEnvironmentFile=/etc/etcd.env\nExecStart=/usr/local/bin/etcd\n"
        f"NotifyAccess=all\nRestart=always\nRestartSec=1s\n{_INSTALL}"
    )
    return {_ADMIN: unit, "/etc/etcd.env": f"# Environment file for etcd\n{env}\n# CLI settings\n"
            "ETCDCTL_ENDPOINTS=https://127.0.0.1:2379\n"}  # fmt: skip


def _red_hat(flags: Flags) -> Files:
    """/etc/etcd/etcd.conf of CentOS and OpenShift 3, and their unit, which starts a shell."""
    lines = [f'{_variable(flag)}="{value}"\n' for flag, value in flags.items()]
    conf = "#[Member]\n" + "".join(lines[:5]) + '#ETCD_CORS=""\n#\n#[Clustering]\n'
    unit = (
        f"{_COMMON}WorkingDirectory=/var/lib/etcd/\nEnvironmentFile=-/etc/etcd/etcd.conf\n"
        'User=etcd\nExecStart=/bin/bash -c "GOMAXPROCS=$(nproc) /usr/bin/etcd"\n'
        f"Restart=on-failure\nRestartSec=1s\n{_INSTALL}"
    )
    return {_VENDOR: unit, "/etc/etcd/etcd.conf": conf + "".join(lines[5:])}


def _debian(flags: Flags) -> Files:
    """/etc/default/etcd, and Debian's unit, which gives the host's name to the member."""
    lines = [f'{_variable(f)}="{v}"\n' for f, v in flags.items() if f not in ("name", "data-dir")]
    unit = (
        f"{_COMMON}User=etcd\nPermissionsStartOnly=true\nEnvironment=ETCD_NAME=%H\n"
        "Environment=ETCD_DATA_DIR=/var/lib/etcd\nEnvironmentFile=-/etc/default/%p\n"
        f"ExecStart=/usr/bin/etcd $DAEMON_ARGS\nRestart=always\nRestartSec=1s\n{_INSTALL}"
    )
    return {_VENDOR: unit, "/etc/default/etcd": "## etcd(1) daemon options\n" + "".join(lines)}


def _config_file(flags: Flags) -> Files:
    """A YAML --config-file, which makes etcd ignore everything else."""
    sides = {"": "client-transport-security", "peer-": "peer-transport-security"}
    not_here = ("-file", "-cert-auth", "-interval")  # durations are numbers in this file
    plain = {f: v for f, v in flags.items() if not f.endswith(not_here)}
    text = "# This is the configuration file for the etcd server.\n\n"
    text += "".join(f"{flag}: {value}\n" for flag, value in plain.items())
    for prefix, section in sides.items():
        text += f"{section}:\n"
        for key in ("cert-file", "key-file", "trusted-ca-file"):
            text += f"  {key}: '{flags[prefix + key]}'\n"
        text += "  client-cert-auth: true\n"
    unit = (
        f"{_COMMON}ExecStart=/usr/local/bin/etcd --config-file /etc/etcd/etcd.conf.yml\n"
        f"Restart=on-failure\nRestartSec=1s\n{_INSTALL}"
    )
    return {_ADMIN: unit, "/etc/etcd/etcd.conf.yml": text}


def _drop_in(flags: Flags) -> Files:
    """A package's unit with everything in a drop-in, some of it as flags."""
    as_flags = ("name", "data-dir", "initial-cluster", "initial-cluster-state")
    env = "".join(
        f'Environment="{_variable(f)}={v}"\n' for f, v in flags.items() if f not in as_flags
    )
    command = " \\\n  ".join(f"--{flag} {flags[flag]}" for flag in as_flags if flag in flags)
    unit = f"{_COMMON}ExecStart=/usr/bin/etcd\nRestart=always\nRestartSec=1s\n{_INSTALL}"
    more = f"[Service]\n# the members\n{env}ExecStart=\nExecStart=/usr/bin/etcd {command}\n"
    return {_VENDOR: unit, f"{_ADMIN}.d/10-cluster.conf": more}


CONFS: dict[str, Callable[[Flags], Files]] = {
    "etcd.env": _kubespray,
    "etcd.conf": _red_hat,
    "default": _debian,
    "config-file": _config_file,
    "drop-in": _drop_in,
}
"""Where the settings are; several, with commas between, for the hosts in turn."""

_OWN_USER = ("etcd.conf", "default")
_NAMES = {"ca": "ca", "server": "member-{}", "peer": "member-{}-peer",
          "healthcheck-client": "admin-{}"}  # fmt: skip


def conf_of(confs: str, index: int) -> str:
    """The way of one host. Raises ValueError for one that is not known."""
    listed = confs.split(",")
    conf = listed[index % len(listed)]
    if conf not in CONFS:
        raise ValueError(f"{conf} is none of {', '.join(CONFS)}")
    return conf


def owner_of(confs: str, index: int) -> int:
    """The user that etcd runs as on a host."""
    return ETCD_UID if conf_of(confs, index) in _OWN_USER else 0


def write(
    disk: Disk, pki: Path, confs: str, version: EtcdVersion, quota: int | None = None
) -> None:
    """Give a host its etcd under systemd. pki: its certificates, as kubeadm names them."""
    conf = conf_of(confs, disk.index)
    flags = dict(
        flag[2:].split("=", 1) for flag in manifests.etcd_flags(disk.index, version, quota)
    )
    places = _place_certificates(disk, pki, conf)
    flags = {flag: places.get(value, value) for flag, value in flags.items()}
    for path, text in CONFS[conf](flags).items():
        disk.put_golden(path, text, 0o644)
        if path in (_ADMIN, _VENDOR):
            disk.link_golden(_LINK, path)
    for name in ("etcd", "etcdctl", "etcdutl"):
        for folder in ("/usr/bin", "/usr/local/bin"):
            disk.link_golden(f"{folder}/{name}", f"{PROGRAMS}/{name}")
    if conf in _OWN_USER:
        for name, line in (("passwd", f"etcd:x:{ETCD_UID}:{ETCD_UID}::/var/lib/etcd:/bin/false\n"),
                           ("group", f"etcd:x:{ETCD_UID}:\n")):  # fmt: skip
            base = (disk.base / "etc" / name).read_text()
            disk.put_golden(f"/etc/{name}", base + line)


def _place_certificates(disk: Disk, pki: Path, conf: str) -> dict[str, str]:
    """Copy a host's certificates to where its way has them; kubeadm's path → that one."""
    is_kubespray = conf == "etcd.env"
    folder = "/etc/ssl/etcd/ssl" if is_kubespray else "/etc/etcd"
    target = disk.golden_folder(folder)
    found = {}
    for stem, pattern in _NAMES.items():
        for kind in ("crt", "key"):
            if stem == "healthcheck-client" and not is_kubespray:
                continue
            name = f"{stem}.{kind}"
            if is_kubespray:
                own = pattern.format(names.host_name(disk.index))
                name = f"{own}.pem" if kind == "crt" else f"{own}-key.pem"
            shutil.copy2(pki / f"etcd/{stem}.{kind}", target / name)
            os.chown(target / name, owner_of(conf, 0), owner_of(conf, 0))
            found[f"{_PKI}/{stem}.{kind}"] = f"{folder}/{name}"
    return found


def _variable(flag: str) -> str:
    return "ETCD_" + flag.upper().replace("-", "_")
