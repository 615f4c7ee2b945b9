package guest

import (
	"encoding/hex"
	"strconv"
	"strings"
)

// SecretOption carries the agent's first secret on the kernel command line, as hex digits. Boot replaces it.
const SecretOption = "dormouse.secret="

// CommandLine is the kernel command line of a microVM. tscKHz is the host's TSC frequency when the
// guest runs without hardware virtualization, else 0.
func CommandLine(secret [SecretSize]byte, tscKHz int) string {
	options := []string{
		// A kernel panic, which the end of the agent is too, ends the VMM (-no-reboot).
		"console=ttyS0", "quiet", "reboot=t", "panic=-1",
		// No security module has a policy here, and nobody reads pressure statistics or waits for the
		// lock-up detector: they would only lengthen every system call and every switch.
		"lsm=", "psi=0", "nowatchdog",
	}
	if tscKHz > 0 {
		options = append(options,
			// The machine has no timer to calibrate against; a boot that tries can hang.
			"tsc_early_khz="+strconv.Itoa(tscKHz),
			// Without it the kernel compares the TSC with its own late ticks, distrusts it and falls
			// back to jiffies: 4 ms resolution, and 250 timer interrupts a second in an idle guest.
			"tsc=reliable",
			// An emulator does not execute the instructions the mitigations count on, only pays for them.
			"mitigations=off")
	}
	return strings.Join(append(options, SecretOption+hex.EncodeToString(secret[:])), " ")
}
