"""What hosts in OpenShift's layout have beyond the usual: podman, an etcd image with a shell."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from tests.lab import cache, debs, disk, etcd_build, images, recipe
from tests.lab.commands import run
from tests.lab.etcd_versions import PAUSE_IMAGE
from tests.lab.paths import CACHE_DIR, LAB_DIR

_PACKAGES = (
    "podman", "conmon", "crun", "golang-github-containers-common",
    "golang-github-containers-image", "libgpgme11", "libassuan0", "libsubid4", "libyajl2",
    "libdevmapper1.02.1", "libglib2.0-0",
)  # fmt: skip
"""podman of Debian and the libraries that a minimal system lacks."""

ETCD_IMAGE = "quay.io/openshift-release-dev/ocp-v4.0-art-dev:4.16-etcd"
STORE = "/var/lib/containers"
_SHELL = (
    "bash", "dash", "cat", "chmod", "cp", "date", "env", "grep", "head", "ionice", "ls", "mkdir",
    "mv", "nice", "rm", "sed", "sleep", "ss", "tr", "true",
)  # fmt: skip
"""Programs of the hosts' base that the pod's scripts use."""

_STORAGE = """\
[storage]
driver = "overlay"
runroot = "/run/containers/storage"
graphroot = "/var/lib/containers/storage"
"""
_STANDINS = Path(__file__).parent / "standins"


def _key() -> str:
    sources = [(LAB_DIR / name).read_text() for name in ("etcd_build.py", "images.py")]
    return recipe.digest(recipe.base_dir().name, Path(__file__).read_text(), sources, _STANDINS)


def made(*etcd: Path) -> list[Path]:
    """The cache directories of the recipe as it is now, for these etcd versions."""
    stores = [CACHE_DIR / f"openshift4-store-{_key()}-{each.name}" for each in etcd]
    return [CACHE_DIR / f"openshift4-base-{_key()}", *stores]


def root_dir() -> Path:
    """The root file system under these hosts, made where it is missing."""

    def build(target: Path) -> None:
        root = target / "root"
        run(["cp", "-a", disk.base_root(), root])
        with tempfile.TemporaryDirectory(prefix="lab-podman.") as name:
            debs.unpack_packages(recipe.SUITE, _PACKAGES, Path(name))
            for unwanted in ("usr/share/doc", "usr/share/locale", "usr/share/man"):
                shutil.rmtree(Path(name, unwanted), ignore_errors=True)
            # /lib and its like are links in the base.
            copy = 'tar -C "$1" -c . | tar -C "$2" -x --keep-directory-symlink'
            run(["sh", "-c", copy, "sh", name, root])
        (root / "etc/containers/storage.conf").write_text(_STORAGE)
        run(["chroot", root, "ldconfig"])

    return cache.ensure(made()[0], build) / "root"


def store_dir(etcd: Path) -> Path:
    """`store/` for containerd and `containers/` for podman, both with the image of that etcd.

    etcd: the cache directory of an etcd version.
    """

    def build(target: Path) -> None:
        archives = target / "archives"
        archives.mkdir()
        pause = {"Env": ["PATH=/"], "WorkingDir": "/", "Entrypoint": ["/pause"]}
        program = {"pause": images.pause_program()}
        images.write_image(archives / "pause.tar", PAUSE_IMAGE, program, pause)
        config = {"Env": ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"], "WorkingDir": "/"}
        files = _image_files(etcd / "bin", root_dir())
        images.write_image(archives / "etcd.tar", ETCD_IMAGE, files, config)
        etcd_build._import(root_dir(), target)
        _load(root_dir(), archives / "etcd.tar", target / "containers")
        shutil.rmtree(archives)

    return cache.ensure(made(etcd)[1], build)


def _image_files(bin_dir: Path, root: Path) -> dict[str, bytes]:
    """The image: etcd, a shell with what the pod's scripts call, and stand-ins for the rest."""
    files: dict[str, bytes] = {}
    for program in sorted(bin_dir.iterdir()):
        files[f"usr/bin/{program.name}"] = program.read_bytes()
        files.update(etcd_build._libraries(program, root))
    for name in _SHELL:
        found = next(root / f / name for f in ("usr/bin", "bin") if (root / f / name).exists())
        files[f"usr/bin/{name}"] = found.read_bytes()
        files.update(etcd_build._libraries(found, root))
    files["bin/sh"] = files["bin/bash"] = files["usr/bin/bash"]
    files |= {f"usr/bin/{path.name}": path.read_bytes() for path in _STANDINS.iterdir()}
    return files


def _load(root: Path, archive: Path, target: Path) -> None:
    """Have the hosts' own podman load an image into a store at `target`."""
    with tempfile.TemporaryDirectory(prefix="lab-podman.") as name:
        work = Path(name)
        for folder in ("root", "upper", "work"):
            (work / folder).mkdir()
        shutil.copy(archive, work / "upper/image.tar")
        target.mkdir()
        (work / "upper/var/lib/containers").mkdir(parents=True)
        script = (
            "set -e; cd $1; mount -t tmpfs none upper2; mkdir upper2/u upper2/w; "
            "cp -a upper/. upper2/u; mount -t overlay overlay root "
            "-o lowerdir=$2,upperdir=upper2/u,workdir=upper2/w; "
            "for d in proc sys dev; do mount --rbind /$d root/$d; done; "
            "for d in run dev/shm; do mount -t tmpfs none root/$d; done; "
            "mount --bind $3 root/var/lib/containers; "
            "chroot root podman load -q -i /image.tar"
        )
        (work / "upper2").mkdir()
        run(["unshare", "-m", "sh", "-c", script, "sh", work, root, target])
