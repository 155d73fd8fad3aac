"""A host's disk: an overlay over the base, its golden content, and the stores beside it."""

from __future__ import annotations

import compileall
import os
import shutil
import uuid
from dataclasses import dataclass, field
from pathlib import Path

import yaml
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from tests.lab import names, operator_home, pythons, recipe
from tests.lab import syscalls as sys_
from tests.lab.build import WITHOUT_GO
from tests.lab.commands import run
from tests.lab.paths import LAB_DIR, STATE_DIR

DATA_DIR = "/var/lib/etcd"
_DISK_POINT = "/mnt/disk"
_CORE_UID = 1000


@dataclass(frozen=True)
class DiskOptions:
    """How a host's disk differs from the usual: data directory, its size, its owner, its Python.

    python: one of pythons.KINDS.
    """

    data_dir_kind: str = "plain"
    data_dir_size: str = ""
    python: str = "host"
    data_owner: int = 0

    def __post_init__(self) -> None:
        if self.data_dir_kind not in ("plain", "mount", "symlink"):
            raise ValueError(f"data_dir_kind is plain, mount or symlink, not {self.data_dir_kind}")
        if self.python not in pythons.KINDS:
            raise ValueError(f"python is one of {', '.join(pythons.KINDS)}, not {self.python}")

    @property
    def volume_point(self) -> str:
        """Where the host has a file system of its own for etcd; empty where it has none."""
        if self.data_dir_kind == "symlink":
            return _DISK_POINT
        return DATA_DIR if self.data_dir_kind == "mount" or self.data_dir_size else ""


@dataclass
class Disk:
    """The parts of one host's disk inside the enclosure.

    more_stores: mount point in the host → what it is a fresh copy of after each restore.
    """

    index: int
    base: Path
    store: Path
    options: DiskOptions = field(default_factory=DiskOptions)
    more_binds: dict[str, Path] = field(default_factory=dict)
    more_stores: dict[str, Path] = field(default_factory=dict)

    @property
    def top(self) -> Path:
        """Everything about this host."""
        return STATE_DIR / "hosts" / names.host_name(self.index)

    @property
    def root(self) -> Path:
        """The root file system, mounted whether the host is up or not."""
        return self.top / "root"

    @property
    def golden(self) -> Path:
        """What a fresh host has beyond the base."""
        return self.top / "golden"

    @property
    def golden_data(self) -> Path:
        """What a fresh member has in its data directory."""
        return self.top / "golden-data"

    @property
    def pki(self) -> Path:
        """This host's certificates as they were made, as kubeadm names them."""
        return self.top / "pki"

    def binds(self) -> dict[str, Path]:
        """Mount points inside the host, and what of the enclosure is mounted there."""
        found = {"/var/lib/containerd": self.top / "containerd", **self.more_binds}
        for number, point in enumerate(self.more_stores):
            found[point] = self.top / f"store-{number}"
        if self.options.volume_point:
            found[self.options.volume_point] = self.top / "volume"
        return found

    # Golden content

    def prepare(self) -> None:
        """Write the golden content that does not depend on the cluster."""
        name = names.host_name(self.index)
        self.golden.mkdir(parents=True)
        shutil.copystat(self.base, self.golden)
        self._put("etc/hostname", f"{name}\n")
        self._put("etc/hosts", names.hosts_file())
        self._put("etc/machine-id", f"{uuid.uuid4().hex}\n")
        keys = self.golden / self._put("home/core/.ssh/authorized_keys", operator_home.public_key())
        keys.chmod(0o600)
        os.chown(keys, _CORE_UID, _CORE_UID)
        self.put_golden("etc/sudoers.d/core", operator_home.sudoers_line(), 0o440)
        self._add_kubelet()
        pythons.write(self.options.python, self.base, self._folder)
        if self.options.data_dir_kind == "symlink":
            self._put("mnt/disk/.keep", "")
            (self._folder("var/lib") / "etcd").symlink_to(f"{_DISK_POINT}/etcd")
        else:
            self._folder("var/lib/etcd").chmod(0o700)
        self._folder("var/lib/containerd")
        if not self._kept_store.is_dir():
            self._kept_store.parent.mkdir(exist_ok=True)
            run(["cp", "-a", self.store, self._kept_store])

    def add_ssh_keys(self) -> list[bytes]:
        """Make the host's SSH keys; returns the public ones."""
        made: dict[str, operator_home.PrivateKey] = {
            "ed25519": ed25519.Ed25519PrivateKey.generate(),
            "ecdsa": ec.generate_private_key(ec.SECP256R1()),
        }
        for kind, key in made.items():
            file = f"etc/ssh/ssh_host_{kind}_key"
            private = operator_home.openssh_private(key).decode()
            (self.golden / self._put(file, private)).chmod(0o600)
            self._put(f"{file}.pub", operator_home.openssh_public(key).decode() + "\n")
        return [operator_home.openssh_public(key) for key in made.values()]

    def put_golden(self, path: str, text: str, mode: int = 0o644) -> None:
        """Add a file to the golden content."""
        (self.golden / self._put(path.lstrip("/"), text)).chmod(mode)

    def link_golden(self, path: str, target: str) -> None:
        """Add a symbolic link to the golden content."""
        (self._folder(str(Path(path.lstrip("/")).parent)) / Path(path).name).symlink_to(target)

    def golden_folder(self, path: str) -> Path:
        """A directory of the golden content, made where it is missing."""
        return self._folder(path.lstrip("/"))

    def _folder(self, relative: str) -> Path:
        """Make directories, looking like the base's where the base has them."""
        folder = self.golden
        for part in Path(relative).parts:
            folder /= part
            if folder.exists():
                continue
            folder.mkdir(mode=0o755)
            original = self.base / folder.relative_to(self.golden)
            if original.is_dir() and not original.is_symlink():
                shutil.copystat(original, folder)
                info = original.stat()
                os.chown(folder, info.st_uid, info.st_gid)
        return folder

    def _put(self, relative: str, text: str) -> str:
        self._folder(str(Path(relative).parent))
        (self.golden / relative).write_text(text)
        return relative

    def _add_kubelet(self) -> None:
        library = self._folder("opt/lab-kubelet/lib")
        shutil.copytree(_kubelet_library(), library, dirs_exist_ok=True)

    # The live disk

    def restore(self) -> None:
        """Bring the disk to its golden content. The host must be off."""
        if os.path.ismount(self.root):
            sys_.umount(str(self.root))
        for name in ("upper", "work", "containerd"):
            shutil.rmtree(self.top / name, ignore_errors=True)
        for name in ("root", "work"):
            (self.top / name).mkdir(exist_ok=True)
        run(["cp", "-a", self.golden, self.top / "upper"])
        self._restore_store()
        for number, source in enumerate(self.more_stores.values()):
            shutil.rmtree(self.top / f"store-{number}", ignore_errors=True)
            run(["cp", "-a", source, self.top / f"store-{number}"])
        self._restore_data()
        overlay = f"lowerdir={self.base},upperdir={self.top / 'upper'},workdir={self.top / 'work'}"
        sys_.mount("overlay", str(self.root), "overlay", 0, overlay)

    def _restore_store(self) -> None:
        """containerd's store: only its databases are ever written to, all else can be shared."""
        target = self.top / "containerd"
        run(["cp", "-al", self._kept_store, target])
        for database in target.rglob("*.db"):
            original = self._kept_store / database.relative_to(target)
            database.unlink()
            shutil.copy2(original, database)

    @property
    def _kept_store(self) -> Path:
        """The enclosure's own copy of the store: links do not reach across file systems."""
        return STATE_DIR / "stores" / self.store.parent.name

    def _restore_data(self) -> None:
        volume = self.top / "volume"
        if self.options.volume_point:
            volume.mkdir(exist_ok=True)
            if os.path.ismount(volume):
                sys_.umount(str(volume))
            size = f",size={self.options.data_dir_size}" if self.options.data_dir_size else ""
            sys_.mount("tmpfs", str(volume), "tmpfs", 0, f"mode=700{size}")
        if self.options.data_dir_kind == "symlink":
            target = volume / "etcd"
            target.mkdir(mode=0o700)
        else:
            target = volume if self.options.volume_point else self.top / "upper/var/lib/etcd"
        if self.golden_data.is_dir():
            run(["cp", "-a", "--sparse=always", f"{self.golden_data}/.", target])
        if self.options.data_owner:
            owner = f"{self.options.data_owner}:{self.options.data_owner}"
            run(["chown", "-R", owner, target])

    def remove(self) -> None:
        """Unmount what the disk has mounted; its files go with the lab's directory."""
        for mounted in (self.root, self.top / "volume"):
            if os.path.ismount(mounted):
                sys_.umount(str(mounted))

    def path(self, inside: str | Path) -> Path:
        """The path in the enclosure of a path in the host, symbolic links of the host followed."""
        pending = list(Path("/", inside).parts[1:])
        where = Path("/")
        for _ in range(1000):
            if not pending:
                break
            step = pending.pop(0)
            where = where.parent if step == ".." else where / step
            real = self._place(where)
            if real.is_symlink():
                target = real.readlink()
                where = Path("/") if target.is_absolute() else where.parent
                pending = [p for p in target.parts if p != "/"] + pending
        return self._place(where)

    def _place(self, inside: Path) -> Path:
        for point, source in self.binds().items():
            if inside.is_relative_to(point):
                return source / inside.relative_to(point)
        return self.root / inside.relative_to("/")


def _kubelet_library() -> Path:
    """The stand-in and its YAML, compiled once for all boots: a kubelet that starts sooner."""
    library = STATE_DIR / "kubelet-library"
    if not library.is_dir():
        only_python = shutil.ignore_patterns("__pycache__", "*.so")
        shutil.copytree(LAB_DIR / "kubelet", library / "kubelet", ignore=only_python)
        shutil.copytree(Path(yaml.__file__).parent, library / "yaml", ignore=only_python)
        compileall.compile_dir(library, quiet=2)
    return library


def base_root() -> Path:
    """The root file system under every host: with crictl, where that could be built."""
    return base_dir() / "root"


def base_dir() -> Path:
    """The base to use: the whole one, else the one without crictl."""
    is_whole = recipe.base_dir().is_dir() and not os.environ.get(WITHOUT_GO)
    return recipe.base_dir() if is_whole else recipe.bare_base_dir()
