#!/bin/sh
# ENTRYPOINT of the builder microVM. The agent has mounted /proc, /sys, /dev and a writable cgroup2
# tree, and /var/lib/buildkit lies on the disk itself, where overlayfs can have its layers.
set -eu
# runc and containerd keep sockets and state in /run; neither folder may be on an overlay.
mount -t tmpfs -o mode=755 tmpfs /run
mount -t tmpfs -o mode=1777 tmpfs /tmp
exec buildkitd --config /etc/buildkit/buildkitd.toml
