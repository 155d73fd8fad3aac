"""Start: `python -m tests.faults matrix`, or `python -m tests.lab enclose -- … soak`."""

from __future__ import annotations

import sys

from tests.faults.matrix import main

sys.exit(main(sys.argv[1:]))
