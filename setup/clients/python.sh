#!/usr/bin/env bash
# Prints a folder with the packages of a requirements file beside this script (the AWS CLI and boto3
# unless another is named), a virtual environment in the cache, named after what is in it. When it is
# there already, that takes no time.
set -euo pipefail
cd "$(dirname "$0")"
requirements=${1:-requirements.txt}

fail() {
	printf '%s\n' "$1" >&2
	exit 1
}

command -v python3 >/dev/null || fail 'no Python 3'
content=$(python3 -c 'import sys; print(sys.prefix, sys.version)' | cat - "$requirements" | sha256sum)
folder=${XDG_CACHE_HOME:-$HOME/.cache}/dormouse/clients/python-${content:0:16}
mkdir -p "$folder"
exec 9>"$folder/lock"
flock 9 # several may want it at once
if [[ ! -e $folder/complete ]]; then
	{
		python3 -m venv --clear "$folder/env"
		"$folder/env/bin/pip" install --quiet --no-deps --require-hashes --requirement "$requirements"
	} >"$folder/log" 2>&1 || fail "PyPI: $(tail -n 1 "$folder/log")"
	touch "$folder/complete"
fi
printf '%s\n' "$folder/env"
