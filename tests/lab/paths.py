"""Where the lab keeps things on the machine and inside an enclosure."""

from pathlib import Path

LAB_DIR = Path(__file__).resolve().parent
REPO_DIR = LAB_DIR.parent.parent

# On the machine: what is built once.
CACHE_DIR = Path("/var/cache/etcd-rescue-lab")
# On the machine: who runs the persistent lab (`up`), and its log.
PERSISTENT_DIR = Path("/run/etcd-rescue-lab")

# Inside an enclosure, /run is a tmpfs of its own; everything below vanishes with it.
STATE_DIR = Path("/run/lab")
OPERATOR_HOME = STATE_DIR / "operator"
ENCLOSURE_MARK = STATE_DIR / "enclosed"

# Every control group of the lab starts with this, so that leftovers can be found.
CGROUP_PREFIX = "etcd-rescue-lab."
CGROUP_ROOT = Path("/sys/fs/cgroup")
