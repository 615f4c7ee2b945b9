# mmdebstrap runs this after debian-after.sh; $1 is the new root.
# The python images of public registries have python in /usr/local/bin, and a pip that installs
# into the system; Debian forbids that to protect its own tools, of which there are none here.
set -eu
ln -s /usr/bin/python3 "$1/usr/local/bin/python3"
ln -s /usr/bin/python3 "$1/usr/local/bin/python"
rm "$1"/usr/lib/python3.*/EXTERNALLY-MANAGED
