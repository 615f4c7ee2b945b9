#!/usr/bin/env bash
# Makes this machine ready for Dormouse: the host's packages, Go, and the assets. Runs as `make setup`.
# It may be run at any time: what is there already is left alone.
set -euo pipefail
cd "$(dirname "$0")/.."
PATH=$PATH:/usr/sbin:/sbin # where Debian has mke2fs; ordinary users' PATH lacks it

readonly own_steps=2 all_steps=9 # the others are make-assets'
step_number=0

# step NAME FUNCTION: runs the function between the two halves of a progress line. On failure
# the function has called fail.
step() {
	local started=$SECONDS
	step_number=$((step_number + 1))
	printf '[%d/%d] %s … ' "$step_number" "$all_steps" "$1"
	"$2"
	printf 'done %ds\n' $((SECONDS - started))
}

# fail TEXT: ends with one line that says what is wrong and what to do.
fail() {
	printf 'failed\n'
	printf 'setup: %s\n' "$1" >&2
	exit 1
}

source setup/packages.sh
source setup/toolchain.sh

step packages ensure_packages
step go ensure_go
exec bin/make-assets -done "$own_steps"
