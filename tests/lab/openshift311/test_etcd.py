"""etcd on OpenShift 3.11, as a static pod that sources etcd.conf and as a unit: every recipe."""

from __future__ import annotations

from collections.abc import Callable

from tests.lab.lab import Lab
from tests.lab.story import play

MakeLab = Callable[..., Lab]
LAYOUT = {"hosts": 3, "etcd": "3.4", "layout": "openshift311", "conf": "pod,unit,pod"}


def test_the_whole_story(make_lab: MakeLab) -> None:
    play(make_lab(**LAYOUT))
