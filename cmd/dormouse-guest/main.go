// Command dormouse-guest is PID 1 of every microVM: it sets the machine up, runs the app as a container and serves the host.
package main

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

func main() {
	if len(os.Args) > 0 && os.Args[0] == containerInitName {
		containerInit()
	}
	if len(os.Args) > 0 && os.Args[0] == execInitName {
		execInit()
	}
	if os.Getpid() != 1 {
		fmt.Fprintln(os.Stderr, "dormouse-guest runs as PID 1 of a microVM")
		os.Exit(2)
	}
	tuneRuntime()
	// When PID 1 ends, the kernel panics and the VMM exits: a machine that could not be set up
	// fails at once, with the reason on the serial console. A panic of the agent does the same.
	fmt.Fprintln(os.Stderr, "dormouse-guest:", run())
	os.Exit(1)
}

// tuneRuntime starts the agent again with a Go runtime that does not interrupt long runs by signals and
// does not look for new CPUs: while code is cold every run is long, and both make it longer. The
// settings are read at the start only, and (the first being for debugging) not from the source.
func tuneRuntime() {
	const variable, setting = "GODEBUG", "asyncpreemptoff=1,updatemaxprocs=0"
	if os.Getenv(variable) == "" {
		err := unix.Exec("/init", os.Args, []string{variable + "=" + setting})
		fmt.Fprintln(os.Stderr, "dormouse-guest: restart:", err)
	}
}

// run sets the machine up and serves the host for as long as the machine lives; it returns only what failed.
func run() error {
	if err := setUpMachine(); err != nil {
		return err
	}
	secret, err := secretFromCommandLine()
	if err != nil {
		return err
	}
	identity, err := openIdentity()
	if err != nil {
		return err
	}
	server, err := newServer(secret, identity)
	if err != nil {
		return err
	}
	if err := quietSysmon(); err != nil {
		fmt.Fprintln(os.Stderr, "dormouse-guest: restores will be slower:", err)
	}
	go server.app.reap()
	return server.serve()
}
