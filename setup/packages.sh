# What Dormouse needs from the host's distribution. Sourced by setup.sh.

missing=() # names of Debian packages

# need PACKAGE COMMAND…: notes the package unless the command succeeds. Looking for what a package
# brings, not for the package, accepts a Node or QEMU that came another way.
need() {
	local package=$1
	shift
	"$@" >/dev/null 2>&1 || missing+=("$package")
}

find_missing() {
	local keyring=/usr/share/keyrings/debian-archive-keyring.gpg
	missing=()
	[[ $(uname -m) == x86_64 ]] || fail "Dormouse runs on x86_64, not yet on $(uname -m)"
	need qemu-system-x86 command -v qemu-system-x86_64
	need e2fsprogs command -v mke2fs                                  # disks of VMs
	need mmdebstrap command -v mmdebstrap                             # base images
	need uidmap command -v newuidmap                                  # mmdebstrap without root
	need debian-archive-keyring test -e "$keyring"                    # their signatures
	need ca-certificates test -e /etc/ssl/certs/ca-certificates.crt   # Go modules over HTTPS
	need gcc command -v gcc                                           # runc; the race detector
	need libc6-dev test -e /usr/include/stdio.h
	need pkg-config command -v pkg-config
	need libseccomp-dev test -e /usr/include/seccomp.h
	need git command -v git                                           # version of the binary
	need nodejs command -v node                                       # AWS SDK of tests and demo
	need npm command -v npm
	need python3-venv python3 -c 'import ensurepip, venv'             # AWS CLI of the demo
}

ensure_packages() {
	command -v apt-get >/dev/null || fail "this needs Debian's apt; on other distributions run it in a Debian 12 container or VM"
	find_missing
	if ((${#missing[@]})); then
		install_missing
	fi
	if ((EUID != 0)); then
		check_user_namespaces
	fi
}

install_missing() {
	local install="apt-get install --yes --no-install-recommends ${missing[*]}"
	if ((EUID != 0)); then
		fail "packages are missing; as root run: $install"
	fi
	local log
	log=$(mktemp)
	export DEBIAN_FRONTEND=noninteractive
	# A third-party source that does not answer must not stop us: the install says whether all is there.
	apt-get update >"$log" 2>&1 || true
	if ! $install >>"$log" 2>&1; then
		fail "could not install ${missing[*]}: $(grep -m1 '^E:' "$log" || tail -n1 "$log") (log: $log); check the network and /etc/apt/sources.list, then run make setup again"
	fi
	rm -f "$log"
	find_missing
	if ((${#missing[@]})); then
		fail "still missing after their installation: ${missing[*]}"
	fi
}

# mmdebstrap without root maps a range of subordinate uids into a user namespace.
check_user_namespaces() {
	local user
	user=$(id -un)
	if ! grep -qs "^$user:" /etc/subuid || ! grep -qs "^$user:" /etc/subgid; then
		local first last
		first=$(awk -F: '{ end = $2 + $3; if (end > free) free = end } END { print (free > 100000) ? free : 100000 }' /etc/subuid /etc/subgid)
		last=$((first + 65535))
		fail "$user has no subordinate uids; as root run: usermod --add-subuids $first-$last --add-subgids $first-$last $user"
	fi
	if ! unshare --user --map-auto --map-root-user true 2>/dev/null; then
		local name switches=()
		for name in kernel.unprivileged_userns_clone=1 kernel.apparmor_restrict_unprivileged_userns=0 user.max_user_namespaces=10000; do
			local file=/proc/sys/${name%=*}
			[[ -e ${file//./\/} ]] && switches+=("$name")
		done
		fail "user namespaces are off for ordinary users; as root run: sysctl -w ${switches[*]}"
	fi
}
