"""Start: `python -m tests.lab enclose -- python -m tests.faults matrix|soak`."""

from __future__ import annotations

import sys

from tests.faults.matrix import main

sys.exit(main(sys.argv[1:]))
