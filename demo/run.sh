#!/usr/bin/env bash
# Runs the demo: `make demo`, or demo/run.sh [--data-dir DIR] [--keep] [--clean].
set -euo pipefail
cd "$(dirname "$0")/.."
command -v python3 >/dev/null || { echo 'demo: python3 is missing: run `make setup`' >&2; exit 1; }
exec python3 -B demo/demo.py "$@"
