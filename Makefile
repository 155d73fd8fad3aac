# etcd-rescue. Two commands do all the set-up on a fresh Debian 12 machine as root:
#   make demo    a real cluster loses its quorum and is brought back
#   make test    format, lint, types, unit tests, and the tests on the lab's real hosts
SHELL := /bin/bash
PY    := .venv/bin/python
N     ?= 200
# Tests wait too: one more at a time than the two cores of the machine in mind.
JOBS  ?= 3
# Whole hosts want their time: what is slow for want of it is not what the tests are about.
LAB_JOBS ?= 2
# Hundreds of processes start here, each of which would compile all of the sources.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test check unit lab-test reliability lab-versions lab-reach lab-pythons lab-consoles lab-openshift4 lab kubeadm bench faults soak fuzz agent bundle image runtime runtime-lock format clean

demo: .venv/ready lab
	@$(PY) -m tests.lab enclose -- $(PY) -m tests.demo

test: check unit lab-test
	@$(PY) -m tests.reliability --check

# docs/reliability.md anew, from the last `make test` and what faults, soak and fuzz left in build/.
reliability: .venv/ready
	$(PY) -m tests.reliability

check: .venv/ready
	.venv/bin/ruff format --check .
	.venv/bin/ruff check .
	.venv/bin/mypy

unit: .venv/ready lab
	.venv/bin/pytest tests/unit -q -n $(JOBS) --dist worksteal

lab-test: .venv/ready lab
	@$(PY) -m tests.lab test --jobs $(LAB_JOBS)

# A real kubeadm, built once where Go is: the tests that compare with one then run in make test too.
kubeadm: .venv/ready lab
	@$(PY) -m tests.lab.kubeadm_build

# A long fuzzing run, N inputs for each reader; guided by coverage where atheris is for this Python.
fuzz: N = 20000
fuzz: .venv/ready lab
	@$(PY) -c 'import atheris' 2>/dev/null || .venv/bin/pip install -q atheris==3.0.0 || true
	@$(PY) -m tests.fuzz -n $(N) --jobs $(JOBS)

# Every recipe on every etcd (3.4, 3.5, 3.6) in every layout; `make lab-test` has a covering set.
lab-versions: .venv/ready lab
	@$(PY) -m tests.lab build --etcd 3.5.16
	LAB_VERSIONS=all .venv/bin/pytest tests/lab/test_versions.py -q --durations=0

# Rescues by consoles and a stick alone: one member too; `make lab-test` has the lost quorum.
lab-consoles: .venv/ready lab
	LAB_CONSOLE=all .venv/bin/pytest tests/lab/reach/test_console.py -q --durations=0

# Every recipe on hosts without Python and with every other one; `make lab-test` has a sample.
lab-pythons: .venv/ready lab
	LAB_PYTHONS=all .venv/bin/pytest tests/lab/reach/test_runtime.py -q --durations=0

# OpenShift 4 whole: every fault of the API on every step, and the long stories on its hosts.
lab-openshift4: .venv/ready lab
	LAB_OPENSHIFT4=all LAB_API_FAULTS=all .venv/bin/pytest tests/lab/openshift4 -q --durations=0

# Plans that go on by themselves, in every way they can be left alone.
lab-reach: .venv/ready lab
	LAB_REACH=all .venv/bin/pytest tests/lab/reach/test_unattended.py -q --durations=0

# All figures, or one part: make bench PART=restore.
bench: .venv/ready lab
	@$(PY) -m tests.lab enclose -- $(PY) -m bench $(PART)

# Kills, cuts and power losses at every point of every recipe, in sweeps: hours. A part: make faults
# RECIPE=reseed KIND=agent-kill FROM=1 TO=20 (or EVERY=10). COUNT=1: only how many there are.
# TURNS=32 MINUTES=60 NEW=1: evenly over all of it, for an hour. docs/faults.md says more.
# JOBS=3: that many labs at once.
faults: JOBS = 1
faults: .venv/ready lab
	@JOBS=$(JOBS) $(PY) -m tests.faults matrix

# Random pairs of fault and step: make soak N=200; SEED= repeats a run.
soak: .venv/ready lab
	@$(PY) -m tests.lab enclose -- $(PY) -m tests.faults soak

# Installs the lab's packages and makes its root file system, once; quick when all is there.
lab: .venv/ready
	@if [ "$$(id -u)" = 0 ]; then tests/lab/setup.sh; else echo "lab: needs root; its tests will say so"; fi
	@$(PY) -m bundle.wheels

agent: .venv/ready
	$(PY) -m coordinator.agent_file

# One archive for a machine without a network: make bundle, or make bundle SIGN=KEY to sign it.
bundle: .venv/ready runtime image
	.venv/bin/fab bundle $(if $(SIGN),--sign $(SIGN))

# The debug-pod image as one file, with no container engine: make image, or MACHINES=all.
image: .venv/ready
	$(PY) -m images.oci_image $(MACHINES)

# The interpreter for hosts that have none: make runtime, or MACHINES=all (x86_64 and aarch64).
runtime: .venv/ready
	$(PY) -m images.runtime $(MACHINES)

# Which packages it is made of, to the bit: those that the mirror has now.
runtime-lock: .venv/ready
	$(PY) -m images.runtime --lock

format: .venv/ready
	.venv/bin/ruff format .
	.venv/bin/ruff check --fix .

.venv/ready: constraints.txt pyproject.toml
	tools/make-venv
	@touch $@

clean:
	rm -rf .venv dist build .mypy_cache .ruff_cache .pytest_cache
