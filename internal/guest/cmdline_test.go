package guest

import "testing"

func TestCommandLineIsWhatTheAgentNeeds(t *testing.T) {
	secret := [SecretSize]byte{0: 0xab, 31: 0x01}
	want := "console=ttyS0 quiet reboot=t panic=-1 lsm= psi=0 nowatchdog " +
		"tsc_early_khz=2596152 tsc=reliable mitigations=off " +
		"dormouse.secret=ab00000000000000000000000000000000000000000000000000000000000001"
	if got := CommandLine(secret, 2596152); got != want {
		t.Errorf("CommandLine = %q, want %q", got, want)
	}
}
