#!/usr/bin/env bash
# Prints the path of Chromium, which is installed first where it is missing, with certutil, which
# puts a CA into its certificate store.
set -euo pipefail

fail() {
	printf '%s\n' "$1" >&2
	exit 1
}

if ! command -v chromium >/dev/null || ! command -v certutil >/dev/null; then
	install='apt-get install --yes --no-install-recommends chromium libnss3-tools'
	((EUID == 0)) || fail "as root run: $install"
	command -v apt-get >/dev/null || fail 'no Chromium, and no apt to install it with'
	log=$(mktemp)
	export DEBIAN_FRONTEND=noninteractive
	apt-get update >"$log" 2>&1 || true
	$install >>"$log" 2>&1 || fail "could not install Chromium: $(tail -n 1 "$log")"
	rm -f "$log"
fi
command -v chromium
