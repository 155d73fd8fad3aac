#!/bin/sh
# Makes everything the lab needs on this machine; a second run finds it all made.
set -eu
cd "$(dirname "$0")/../.."
exec "${PYTHON:-.venv/bin/python}" -m tests.lab build "$@"
