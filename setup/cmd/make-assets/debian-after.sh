# mmdebstrap runs this when all packages are installed; $1 is the new root.
# What it leaves here is what people know from the debian images of public registries.
set -eu
rm "$1/etc/apt/preferences.d/no-usrmerge"
# These two are the host's; the runtime of a container writes its own.
rm -f "$1/etc/resolv.conf" "$1/etc/hostname"
# Downloaded packages would end in a layer. Dockerfiles with a cache mount remove a file of this name.
echo 'APT::Keep-Downloaded-Packages "false";' >"$1/etc/apt/apt.conf.d/docker-clean"
printf 'Acquire::Languages "none";\nAcquire::GzipIndexes "true";\n' >"$1/etc/apt/apt.conf.d/docker-small-lists"
