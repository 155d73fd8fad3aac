"""Every recipe on every etcd and in every layout: a covering set, or with LAB_VERSIONS=all, all."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.lab import story
from tests.lab.lab import Lab

MakeLab = Callable[..., Lab]
CONFS = ("etcd.env,config-file,drop-in", "etcd.conf,etcd.env,default")
COVERING = (
    ("kubeadm", "", "3.4"),
    ("systemd", CONFS[0], "3.6"),
    ("systemd", CONFS[1], "3.5"),
)
WITH_RESTORES = ("systemd", CONFS[0], "3.6")
"""The row of the covering set in which all is restored, twice."""

ALL = (
    *(
        (layout, conf, version)
        for version in ("3.4", "3.5", "3.6")
        for layout, conf in (("kubeadm", ""), *(("systemd", conf) for conf in CONFS))
    ),
    ("kubeadm", "", "3.5.1"),
    ("kubeadm", "", "3.5.16"),
    ("openshift311", "pod,unit,pod", "3.4"),
)
CHOSEN = ALL if os.environ.get("LAB_VERSIONS") == "all" else COVERING


@pytest.mark.parametrize(("layout", "conf", "version"), CHOSEN)
def test_every_recipe(
    make_lab: MakeLab, layout: str, conf: str, version: str, tmp_path: Path
) -> None:
    more = {"conf": conf} if conf else {}
    row = (layout, conf, version)
    backups = tmp_path if CHOSEN is ALL or row == WITH_RESTORES else None
    story.play(make_lab(hosts=3, etcd=version, layout=layout, **more), backups)
