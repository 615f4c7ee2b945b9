package main

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// defaultCapabilities is the standard set of containers, spec/behaviour.md section 11: chown, dac_override,
// fowner, fsetid, kill, setgid, setuid, setpcap, net_bind_service, net_raw, sys_chroot, mknod,
// audit_write, setfcap.
const defaultCapabilities uint64 = 0xa80425fb

// becomeUser takes on the app's ids and capabilities. no_new_privs stays off: sudo works in containers.
func becomeUser(user account, all bool) error {
	capabilities := defaultCapabilities
	if all {
		capabilities = 1<<(unix.CAP_LAST_CAP+1) - 1
	}
	for c := uintptr(0); c <= unix.CAP_LAST_CAP; c++ {
		if capabilities&(1<<c) != 0 {
			continue
		}
		// EINVAL: an older kernel that does not know this capability.
		if err := unix.Prctl(unix.PR_CAPBSET_DROP, c, 0, 0, 0); err != nil && err != unix.EINVAL {
			return fmt.Errorf("drop capability %d: %w", c, err)
		}
	}
	// The app may open /dev/stdout and /dev/stderr again, which checks the owner of the pipe.
	for _, fd := range []int{1, 2} {
		if err := unix.Fchown(fd, int(user.UID), int(user.GID)); err != nil {
			return fmt.Errorf("give stdio to the user: %w", err)
		}
	}
	if err := unix.Prctl(unix.PR_SET_KEEPCAPS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("keep capabilities: %w", err)
	}
	if err := setIDs(user); err != nil {
		return fmt.Errorf("become uid %d gid %d: %w", user.UID, user.GID, err)
	}
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	low, high := uint32(capabilities), uint32(capabilities>>32)
	data := [2]unix.CapUserData{
		{Effective: low, Permitted: low, Inheritable: low},
		{Effective: high, Permitted: high, Inheritable: high},
	}
	if err := unix.Capset(&header, &data[0]); err != nil {
		return fmt.Errorf("set capabilities: %w", err)
	}
	return nil
}

// setIDs changes the ids of the calling thread, which is the one that becomes the app.
func setIDs(user account) error {
	groups := make([]int, len(user.Groups))
	for i, gid := range user.Groups {
		groups[i] = int(gid)
	}
	if err := unix.Setgroups(groups); err != nil {
		return err
	}
	gid, uid := int(user.GID), int(user.UID)
	if err := unix.Setresgid(gid, gid, gid); err != nil {
		return err
	}
	return unix.Setresuid(uid, uid, uid)
}
