# mmdebstrap runs this before it installs packages; $1 is the new root.
set -eu
# /bin, /lib and /sbin are links into /usr. The package usr-is-merged says so and checks it; left
# alone, apt prefers usrmerge, which makes the links with the help of all of perl.
for dir in bin sbin lib lib64; do
	mkdir -p "$1/usr/$dir"
	ln -s "usr/$dir" "$1/$dir"
done
mkdir -p "$1/etc/apt/preferences.d"
printf 'Package: usrmerge\nPin: release *\nPin-Priority: -1\n' >"$1/etc/apt/preferences.d/no-usrmerge"
# Installing a package must not start its services, neither now nor in a build on top of the image.
printf '#!/bin/sh\nexit 101\n' >"$1/usr/sbin/policy-rc.d"
chmod 755 "$1/usr/sbin/policy-rc.d"
