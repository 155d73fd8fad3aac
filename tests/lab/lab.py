"""A lab: hosts, their network and their etcd cluster, inside an enclosure."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from types import TracebackType

from tests.lab import (
    bootstrap,
    enclosure,
    manifests,
    names,
    network,
    operator_home,
    pki,
    recipe,
    setup,
    units,
)
from tests.lab.commands import run
from tests.lab.disk import Disk, DiskOptions, base_root
from tests.lab.etcd_client import EtcdClient, Member
from tests.lab.etcd_versions import VERSIONS
from tests.lab.host import Host, wait_until
from tests.lab.kubelet.timing import KubeletTiming
from tests.lab.openshift4 import api_on_hosts
from tests.lab.openshift4 import base as base4
from tests.lab.openshift4 import layout as layout4
from tests.lab.openshift4.credentials import ApiCredentials
from tests.lab.openshift311 import layout as layout311
from tests.lab.options import LabOptions
from tests.lab.paths import STATE_DIR
from tests.lab.reach import debian11

_OPTIONS_FILE = STATE_DIR / "lab.json"
MANIFEST = "/etc/kubernetes/manifests/etcd.yaml"


class Lab:
    """The hosts of one cluster. One lab per enclosure."""

    def __init__(self, options: LabOptions) -> None:
        self.options = options
        self.etcd_dir = recipe.etcd_dir(options.etcd)
        store = self.etcd_dir / "store"
        self.hosts: dict[str, Host] = {}
        base, stores = base_root(), {}
        if options.suite == "bullseye":
            base = debian11.root_dir()
        if options.layout == "openshift4":
            base, made = base4.root_dir(), base4.store_dir(self.etcd_dir)
            store, stores = made / "store", {base4.STORE: made / "containers"}
        for index in range(options.hosts):
            name = names.host_name(index)
            disk_options = options.disks.get(name, DiskOptions())
            binds = {}
            if self._runs_units(index):
                owner = units.owner_of(self._unit_conf(), index)
                disk_options = replace(disk_options, data_owner=owner)
                binds[units.PROGRAMS] = self.etcd_dir / "bin"
            if options.layout == "openshift4":
                binds.update(api_on_hosts.binds())
            self.hosts[name] = Host(Disk(index, base, store, disk_options, binds, stores))
        self.lb: Host | None = None
        if options.layout == "openshift311":
            self.lb = Host(Disk(names.LB_INDEX, base_root(), store))

    def _runs_units(self, index: int) -> bool:
        """Whether a host's etcd runs under systemd."""
        if self.options.layout == "openshift311":
            return layout311.kind_of(self.options.conf, index) == "unit"
        return self.options.layout == "systemd"

    def _unit_conf(self) -> str:
        return "etcd.conf" if self.options.layout == "openshift311" else self.options.conf

    @property
    def machines(self) -> list[Host]:
        """All that has power: the hosts, and the load balancer where there is one."""
        return [*self.hosts.values(), *([self.lb] if self.lb else [])]

    # Life

    @classmethod
    def start(
        cls,
        hosts: int = 3,
        etcd: str = "3.5",
        kubelet: KubeletTiming | None = None,
        *,
        data_dir_kind: Mapping[str, str] | None = None,
        data_dir_size: Mapping[str, str] | None = None,
        without_python: Iterable[str] = (),
        pythons: Mapping[str, str] | None = None,
        quota: int | None = None,
        layout: str = "kubeadm",
        conf: str = "etcd.env",
        suite: str = "bookworm",
        wait: bool = True,
    ) -> Lab:
        """Build and boot a lab in this enclosure; returns when the cluster is healthy.

        data_dir_kind: host -> plain, mount or symlink; data_dir_size: host -> size of a file system
        of its own for etcd (like 64m); without_python: hosts with no Python on PATH; pythons: host
        -> another than the usual (see pythons.KINDS); quota: etcd's --quota-backend-bytes. layout:
        kubeadm, or systemd with its settings where `conf` says (see units.CONFS). suite: Debian's,
        see LabOptions.
        """
        kinds, sizes = data_dir_kind or {}, data_dir_size or {}
        python = {**dict.fromkeys(without_python, "none"), **(pythons or {})}
        disks = {
            name: DiskOptions(
                kinds.get(name, "plain"), sizes.get(name, ""), python.get(name, "host")
            )
            for name in {*kinds, *sizes, *python}
        }
        timing = kubelet or KubeletTiming()
        options = LabOptions(hosts, etcd, timing, disks, quota, layout, conf, suite)
        return cls.start_with(options, wait=wait)

    @classmethod
    def start_with(cls, options: LabOptions, *, wait: bool = True) -> Lab:
        """Like start, with ready-made options."""
        if not enclosure.is_enclosed():
            raise RuntimeError("a lab runs inside an enclosure: python -m tests.lab enclose -- …")
        if _OPTIONS_FILE.exists():
            raise RuntimeError("this enclosure has a lab already")
        if options.layout != "systemd" and not setup.has_crictl():
            raise RuntimeError("these hosts have no crictl and so no static pods: layout=systemd")
        lab = cls(options)
        _OPTIONS_FILE.write_text(options.to_json())
        try:
            lab._build()
            lab._restore_and_boot(wait=wait)
        except BaseException:
            lab.stop()
            raise
        return lab

    @classmethod
    def attach(cls) -> Lab:
        """The lab that already runs in this enclosure."""
        return cls(LabOptions.from_json(_OPTIONS_FILE.read_text()))

    def __enter__(self) -> Lab:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """Power everything off and take the lab apart; another one may then start here."""
        self._each(Host.power_cut)
        for host in self.machines:
            network.remove(host.name)
            host.disk.remove()
        network.remove_bridge()
        shutil.rmtree(STATE_DIR / "hosts", ignore_errors=True)
        _OPTIONS_FILE.unlink(missing_ok=True)

    def reset(self, *, wait: bool = True) -> None:
        """Bring hosts, network and the operator's home back to how they were after start."""
        self._each(Host.power_cut)
        operator_home.restore()
        self._restore_and_boot(wait=wait)

    def _build(self) -> None:
        network.create_bridge()
        authorities = pki.Authorities.make()
        public_keys = {}
        for host in self.machines:
            host.disk.prepare()
            network.plug_in(host.name, host.address)
            public_keys[host.name] = host.disk.add_ssh_keys()
            if host is self.lb:
                layout311.write_lb(host.disk)
                continue
            authorities.write_host(host.disk.pki, host.index)
            host.disk.put_golden("/etc/lab-kubelet.yaml", self.options.kubelet.to_yaml())
        for host in self.hosts.values():
            self._write_etcd(host, authorities)
        operator_home.trust(public_keys)
        golden = bootstrap.ensure_golden_data(self.options.etcd, list(self.hosts.values()))
        for host in self.hosts.values():
            host.disk.golden_data.symlink_to(golden / host.name)

    @cached_property
    def _api(self) -> ApiCredentials:
        """Who may ask the API of hosts in OpenShift's layout."""
        return ApiCredentials.make()

    def _write_etcd(self, host: Host, authorities: pki.Authorities) -> None:
        """What makes etcd run on a host, and its certificates."""
        if self.options.layout == "openshift4":
            every = [each.disk.pki for each in self.hosts.values()]
            layout4.write_host(host.disk, every, len(every), self.options.quota)
            api_on_hosts.write(host.disk, self._api, len(every))
            return
        if self.options.layout == "openshift311":
            number = (self.etcd_dir / "number").read_text()
            asked = self.options
            layout311.write_master(host.disk, authorities, asked.conf, asked.etcd, number)
            return
        if self.options.layout == "systemd":
            version = VERSIONS[self.options.etcd]
            units.write(host.disk, host.disk.pki, self.options.conf, version, self.options.quota)
            return
        pki = host.disk.golden_folder("/etc/kubernetes/pki")
        shutil.copytree(host.disk.pki, pki, dirs_exist_ok=True)
        number = (self.etcd_dir / "number").read_text()
        version = VERSIONS[self.options.etcd]
        text = manifests.etcd_manifest(host.index, version, number, self.options.quota)
        host.disk.put_golden(MANIFEST, text, 0o600)

    def _restore_and_boot(self, *, wait: bool) -> None:
        def revive(host: Host) -> None:
            network.heal(host.name)
            host.disk.restore()
            host.boot(wait=False)

        self._each(revive)
        if wait:
            self._each(Host.wait_for_ssh)
            self.wait_healthy()

    def _each(self, action: Callable[[Host], None]) -> None:
        with ThreadPoolExecutor(len(self.machines)) as pool:
            list(pool.map(action, self.machines))

    # The cluster

    def client(self, host: str | Host, timeout: float = 5.0) -> EtcdClient:
        """A client of one member, over the lab's network."""
        found = self._host(host)
        return EtcdClient(found.address, self._pki(), timeout)

    def _host(self, host: str | Host) -> Host:
        return host if isinstance(host, Host) else self.hosts[host]

    def _pki(self) -> Path:
        """The certificates as they were made, whatever happened on the hosts since."""
        return self.hosts[names.host_name(0)].disk.pki / "etcd"

    def wait_healthy(
        self, hosts: Sequence[str | Host] | None = None, timeout: float = 60.0
    ) -> None:
        """Wait until every one of these members answers a linearizable read."""
        deadline = time.monotonic() + timeout
        for host in map(self._host, hosts or list(self.hosts)):
            client = self.client(host, timeout=1.0)
            left = max(0.0, deadline - time.monotonic())
            wait_until(client.is_healthy, left, f"etcd on {host.name} to serve reads")

    def is_healthy(self, host: str | Host) -> bool:
        """Whether a member answers a linearizable read now."""
        return self.client(host, timeout=1.5).is_healthy()

    def etcdctl(self, host: str | Host, *arguments: str, check: bool = True) -> str:
        """Run the real etcdctl of the lab's version, on the operator's side, against one member."""
        found = self._host(host)
        certificates = self._pki()
        words = [
            f"--endpoints=https://{names.url_host(found.address)}:2379",
            f"--cacert={certificates / 'ca.crt'}",
            f"--cert={certificates / 'healthcheck-client.crt'}",
            f"--key={certificates / 'healthcheck-client.key'}",
        ]
        program = self.etcd_dir / "bin/etcdctl"
        environment = {"ETCDCTL_API": "3", "PATH": "/usr/bin:/bin"}
        return run([program, *words, *arguments], check=check, env=environment).stdout

    def put_keys(
        self, count: int, prefix: str = "/registry/lab/", size: int = 64, host: str | None = None
    ) -> dict[str, bytes]:
        """Write numbered keys with values of one size; returns what was written."""
        pairs = {f"{prefix}{i:06d}": f"{i:06d}".encode().ljust(size, b".") for i in range(count)}
        self.client(host or names.host_name(0), timeout=30).put_many(pairs.items())
        return pairs

    def get_all(self, host: str | None = None, *, serializable: bool = False) -> dict[str, bytes]:
        """Every key of the cluster, read through a member."""
        client = self.client(host or names.host_name(0), timeout=30)
        return client.get_all(serializable=serializable)

    def members(self, host: str | Host) -> list[Member]:
        """The configured members, as one of them lists them."""
        return self.client(host).members()
