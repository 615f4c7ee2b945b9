#!/usr/bin/env bash
# Prints a folder with the packages of FOLDER/package-lock.json and the programs beside it, a copy in
# the cache, named after what is in it. When it is there already, that takes no time.
set -euo pipefail
source=$(realpath "${1:?usage: node.sh FOLDER}")

fail() {
	printf '%s\n' "$1" >&2
	exit 1
}

command -v node >/dev/null || fail 'no Node'
command -v npm >/dev/null || fail 'no npm'
content=$(cd "$source" && cat -- package-lock.json *.mjs | sha256sum)
folder=${XDG_CACHE_HOME:-$HOME/.cache}/dormouse/clients/node-${content:0:16}
mkdir -p "$folder"
exec 9>"$folder/lock"
flock 9 # several may want it at once
if [[ ! -e $folder/complete ]]; then
	cp "$source"/package.json "$source"/package-lock.json "$source"/*.mjs "$folder"
	(cd "$folder" && npm ci --ignore-scripts --no-audit --no-fund) >"$folder/log" 2>&1 || fail "npm: $(tail -n 1 "$folder/log")"
	touch "$folder/complete"
fi
printf '%s\n' "$folder"
