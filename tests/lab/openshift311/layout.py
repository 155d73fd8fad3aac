"""The hosts of an OpenShift 3.11: masters as openshift-ansible leaves them, and a load balancer."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from tests.lab import manifests, names, pki, units
from tests.lab.disk import Disk
from tests.lab.etcd_versions import VERSIONS, etcd_image

CONF = "/etc/etcd/etcd.conf"
PODS = "/etc/origin/node/pods"
MASTER = "/etc/origin/master"
HAPROXY = "/etc/haproxy/haproxy.cfg"
_STANDINS = Path(__file__).parent / "standins"
_UNIT = "/etc/systemd/system"
_COMMENTED = ("#ETCD_CORS=", "#ETCD_DISCOVERY=", '#ETCD_STRICT_RECONFIG_CHECK="false"')


def kind_of(conf: str, index: int) -> str:
    """How a host runs etcd: pod or unit; `conf` has one for all, or several for them in turn."""
    kinds = conf.split(",")
    return kinds[index % len(kinds)]


def write_master(
    disk: Disk, authorities: pki.Authorities, conf: str, etcd: str, number: str
) -> None:
    """Give a master its etcd, its API and controllers, and what lies around them."""
    index = disk.index
    _certificates(disk, authorities)
    disk.put_golden(CONF, etcd_conf(index, etcd), 0o644)
    if kind_of(conf, index) == "pod":
        disk.put_golden(f"{PODS}/etcd.yaml", _etcd_pod(number), 0o600)
    else:
        _unit(disk)
    disk.put_golden(f"{PODS}/apiserver.yaml", _python_pod("api", 8443, index, number), 0o600)
    text = _python_pod("controllers", 8444, index, number)
    disk.put_golden(f"{PODS}/controller.yaml", text, 0o600)
    disk.put_golden("/etc/origin/node/node-config.yaml", _NODE_CONFIG)
    disk.put_golden("/etc/lab-kubelet-directory", f"{PODS}\n")
    disk.link_golden(f"{_UNIT}/origin-node.service", f"{_UNIT}/kubelet.service")
    _master_files(disk)
    for name, place in (("oc", "/usr/bin/oc"), ("master-restart", "/usr/local/bin/master-restart")):
        disk.put_golden(place, (_STANDINS / name).read_text(), 0o755)
    disk.put_golden("/opt/lab-api/api.py", (_STANDINS / "api").read_text())
    shell = disk.golden_folder("/opt/lab-shell")
    for name in ("bash", "sh", "python3"):
        source = "python3" if name == "python3" else "bash"
        shutil.copy2((disk.base / "usr/bin" / source).resolve(), shell / name)
    disk.put_golden("/etc/sysconfig/flanneld", flanneld())
    disk.put_golden(f"{_UNIT}/flanneld.service", _FLANNELD)
    disk.link_golden(
        f"{_UNIT}/multi-user.target.wants/flanneld.service", f"{_UNIT}/flanneld.service"
    )


def write_lb(disk: Disk) -> None:
    """Give the load balancer its haproxy."""
    disk.put_golden(HAPROXY, haproxy_cfg())
    unit = (disk.base / "usr/lib/systemd/system/haproxy.service").read_text()
    disk.put_golden(f"{_UNIT}/haproxy.service", unit)
    disk.link_golden(f"{_UNIT}/multi-user.target.wants/haproxy.service", f"{_UNIT}/haproxy.service")


def etcd_conf(index: int, etcd: str) -> str:
    """/etc/etcd/etcd.conf as openshift-ansible writes it: sections, and commented settings."""
    flags = dict(f[2:].split("=", 1) for f in manifests.etcd_flags(index, VERSIONS[etcd]))
    address = names.host_address(index)
    flags["listen-client-urls"] = f"https://{address}:2379"
    flags["enable-v2"] = "true"
    for flag, value in flags.items():
        if value.startswith("/etc/kubernetes/pki/etcd/"):
            flags[flag] = f"/etc/etcd/{value.rpartition('/')[2]}"
    lines = []
    for number, (flag, value) in enumerate(flags.items()):
        quoted = value if "url" in flag or flag in ("name", "initial-cluster") else f'"{value}"'
        lines.append(f"ETCD_{flag.upper().replace('-', '_')}={quoted}")
        if number % 6 == 0 and number // 6 < len(_COMMENTED):
            lines += [_COMMENTED[number // 6], "", "#[cluster]"]
    return "\n".join(lines) + "\n"


def _certificates(disk: Disk, authorities: pki.Authorities) -> None:
    made, etcd = disk.pki, disk.golden_folder("/etc/etcd")
    for stem in ("server", "peer"):
        for kind in ("crt", "key"):
            shutil.copy2(made / f"etcd/{stem}.{kind}", etcd / f"{stem}.{kind}")
    shutil.copy2(made / "etcd/ca.crt", etcd / "ca.crt")
    master = disk.golden_folder(MASTER)
    for kind in ("crt", "key"):
        shutil.copy2(made / f"apiserver-etcd-client.{kind}", master / f"master.etcd-client.{kind}")
        shutil.copy2(made / f"ca.{kind}", master / f"ca.{kind}")
    shutil.copy2(made / "etcd/ca.crt", master / "master.etcd-ca.crt")
    authorities.write_api_server(master / "master.server", disk.index)
    if disk.index == 0:  # the first master keeps what the installer issues with
        disk.put_golden(f"{MASTER}/ca.serial.txt", "0F\n")
        authority = disk.golden_folder("/etc/etcd/ca")
        for kind in ("crt", "key"):
            shutil.copy2(made / f"etcd/ca.{kind}", authority / f"ca.{kind}")
        disk.put_golden("/etc/etcd/ca/serial", "04\n")
        disk.put_golden("/etc/etcd/ca/openssl.cnf", "[ etcd_ca ]\n")
        disk.put_golden("/etc/etcd/generated_certs/etcd-master-1/peer.crt", "made for master-1\n")


def _master_files(disk: Disk) -> None:
    urls = "".join(f"  - https://{names.host_address(i)}:2379\n" for i in range(3))
    disk.put_golden(f"{MASTER}/master-config.yaml", _MASTER_CONFIG.format(urls=urls))
    server = f"https://{names.host_name(names.LB_INDEX)}:8443"
    disk.put_golden(f"{MASTER}/admin.kubeconfig", _KUBECONFIG.format(server=server), 0o600)
    disk.put_golden(f"{MASTER}/htpasswd", "admin:$apr1$lab\n", 0o600)
    disk.put_golden("/etc/sysconfig/docker", "OPTIONS='--log-driver=journald'\n")
    disk.put_golden("/etc/dnsmasq.conf", "conf-dir=/etc/dnsmasq.d\n")
    disk.put_golden("/etc/dnsmasq.d/origin-dns.conf", "no-resolv\n")
    disk.put_golden("/etc/pki/ca-trust/source/anchors/registry-ca.crt", "a CA of the site\n")


def _unit(disk: Disk) -> None:
    disk.put_golden("/usr/lib/systemd/system/etcd.service", _ETCD_UNIT)
    link = f"{_UNIT}/multi-user.target.wants/etcd.service"
    disk.link_golden(link, "/usr/lib/systemd/system/etcd.service")
    for name in ("etcd", "etcdctl", "etcdutl"):
        disk.link_golden(f"/usr/bin/{name}", f"{units.PROGRAMS}/{name}")
    for name, line in (
        ("passwd", f"etcd:x:{units.ETCD_UID}:{units.ETCD_UID}::/var/lib/etcd:/bin/false\n"),
        ("group", f"etcd:x:{units.ETCD_UID}:\n"),
    ):
        disk.put_golden(f"/etc/{name}", (disk.base / "etc" / name).read_text() + line)
    for path in sorted((disk.golden / "etc/etcd").iterdir()):
        os.chown(path, units.ETCD_UID, units.ETCD_UID)


def flanneld() -> str:
    """/etc/sysconfig/flanneld with every master's etcd."""
    urls = ",".join(f"https://{names.host_name(i)}:2379" for i in range(3))
    return f"# Flanneld configuration options\n\nFLANNEL_ETCD_ENDPOINTS={urls}\n" \
           'FLANNEL_ETCD_PREFIX="/openshift.com/network"\n'  # fmt: skip


def haproxy_cfg() -> str:
    """/etc/haproxy/haproxy.cfg as openshift-ansible's load balancer has it, commented by hand."""
    servers = "".join(
        f"    server      {names.host_name(i)} {names.host_address(i)}:8443 check inter 500\n"
        for i in range(3)
    )
    return _HAPROXY.format(servers=servers)


def _etcd_pod(number: str) -> str:
    return _ETCD_POD.format(image=etcd_image(number), mounts=_MOUNTS, volumes=_VOLUMES)


def _python_pod(component: str, port: int, index: int, number: str) -> str:
    return _PYTHON_POD.format(
        component=component, port=port, address=names.host_address(index),
        image=etcd_image(number), mounts=_MOUNTS, volumes=_VOLUMES,
    )  # fmt: skip


# The lab's image has no shell and no Python: the host's are mounted where an image has them.
_MOUNTS = """\
     - mountPath: /bin
       name: lab-shell
     - mountPath: /lib
       name: lab-lib
     - mountPath: /usr/lib
       name: lab-lib
     - mountPath: /lib64
       name: lab-lib64
"""
_VOLUMES = """\
  - name: lab-shell
    hostPath:
      path: /opt/lab-shell
  - name: lab-lib
    hostPath:
      path: /usr/lib
  - name: lab-lib64
    hostPath:
      path: /usr/lib64
"""
_ETCD_POD = """\
kind: Pod
apiVersion: v1
metadata:
  name: master-etcd
  namespace: kube-system
  labels:
    openshift.io/control-plane: "true"
    openshift.io/component: etcd
spec:
  restartPolicy: Always
  hostNetwork: true
  containers:
  - name: etcd
    image: {image}
    workingDir: /var/lib/etcd
    command: ["/bin/sh", "-c"]
    args:
    - |
      #!/bin/sh
      set -o allexport
      source /etc/etcd/etcd.conf
      exec etcd
    securityContext:
      privileged: true
    volumeMounts:
     - mountPath: /etc/etcd/
       name: master-config
       readOnly: true
     - mountPath: /var/lib/etcd/
       name: master-data
{mounts}    livenessProbe:
      tcpSocket:
        port: 2379
  volumes:
  - name: master-config
    hostPath:
      path: /etc/etcd/
  - name: master-data
    hostPath:
      path: /var/lib/etcd
{volumes}"""
_PYTHON_POD = """\
kind: Pod
apiVersion: v1
metadata:
  name: master-{component}
  namespace: kube-system
  labels:
    openshift.io/control-plane: "true"
    openshift.io/component: {component}
spec:
  restartPolicy: Always
  hostNetwork: true
  terminationGracePeriodSeconds: 1
  containers:
  - name: {component}
    image: {image}
    command: ["/bin/bash", "-c"]
    args:
    - |
      #!/bin/bash
      set -euo pipefail
      exec /bin/python3 /opt/lab-api/api.py {port} {address}
    volumeMounts:
     - mountPath: /etc/origin/master/
       name: master-config
     - mountPath: /opt/lab-api
       name: lab-api
{mounts}  volumes:
  - name: master-config
    hostPath:
      path: /etc/origin/master/
  - name: lab-api
    hostPath:
      path: /opt/lab-api
{volumes}"""
_NODE_CONFIG = """\
apiVersion: v1
kind: NodeConfig
kubeletArguments:
  pod-manifest-path:
  - /etc/origin/node/pods
"""
_MASTER_CONFIG = """\
apiVersion: v1
kind: MasterConfig
etcdClientInfo:
  ca: master.etcd-ca.crt
  certFile: master.etcd-client.crt
  keyFile: master.etcd-client.key
  urls:
{urls}servingInfo:
  bindAddress: 0.0.0.0:8443
"""
_KUBECONFIG = """\
apiVersion: v1
kind: Config
clusters:
- cluster:
    certificate-authority: ca.crt
    server: {server}
  name: lab
"""
_ETCD_UNIT = """\
[Unit]
Description=Etcd Server
After=network.target

[Service]
Type=notify
WorkingDirectory=/var/lib/etcd/
EnvironmentFile=-/etc/etcd/etcd.conf
User=etcd
ExecStart=/bin/bash -c "GOMAXPROCS=$(nproc) /usr/bin/etcd"
Restart=on-failure
RestartSec=1s
LimitNOFILE=65536

[Install]
WantedBy=multi-user.target
"""
_FLANNELD = """\
[Unit]
Description=flanneld (records what it was started with)

[Service]
EnvironmentFile=/etc/sysconfig/flanneld
ExecStart=/bin/sh -c 'echo "$FLANNEL_ETCD_ENDPOINTS" >> /var/log/flanneld.log; exec sleep infinity'

[Install]
WantedBy=multi-user.target
"""
_HAPROXY = """\
# Global settings
global
    maxconn     200
    log         /dev/log local0 info
    user        haproxy
    group       haproxy
    daemon

defaults
    mode                    http
    log                     global
    option                  dontlognull
#    option http-server-close
    retries                 3
    timeout connect         10s
    timeout client          300s
    timeout server          300s

listen stats
    bind :9000
    mode http
    stats enable
    stats uri /

frontend  atomic-openshift-api
    bind *:8443
    default_backend atomic-openshift-api
    mode tcp

backend atomic-openshift-api
    balance source
    mode tcp
    # the masters; master-0 is the oldest
{servers}
# mgmt8443: asked by the monitoring (keep!)
backend mgmt8443
    mode tcp
{servers}"""
