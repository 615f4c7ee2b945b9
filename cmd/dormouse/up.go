package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/dormouse-dev/dormouse/cmd/dormouse/connection"
	"github.com/dormouse-dev/dormouse/cmd/dormouse/terminal"
)

func upCommand() *cobra.Command {
	var o serveOptions
	cmd := &cobra.Command{
		Use:   "up",
		Short: "Start the daemon in the background, unless it runs",
		Long: `Start the daemon in the background and wait until it is ready. It logs to daemon.log in the data folder. A
first start makes the snapshot that builds start from, which takes a while. The flags are those of dormouse serve.`,
		Example: "  dormouse up\n  dormouse up --data-dir ./data --listen-api 127.0.0.1:8070",
		Args:    cobra.NoArgs,
	}
	o.add(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		dir, err := dataDir(cmd)
		if err != nil {
			return err
		}
		if _, _, err := o.limits.parse(); err != nil {
			return err
		}
		if _, err := o.addresses.settled(); err != nil {
			return err
		}
		b := &background{dir: dir, screen: screenOf(cmd)}
		return b.up(cmd.Context(), serveArguments(cmd, dir))
	}
	return cmd
}

func (b *background) up(ctx context.Context, arguments []string) error {
	began := time.Now()
	progress := b.screen.Progress()
	defer progress.Close()
	running, err := b.settled(ctx, progress)
	if err != nil {
		return err
	}
	if running == 0 {
		progress.Say("Starting the daemon")
		if err := b.start(arguments); err != nil {
			return err
		}
	}
	daemon, err := b.awaitReady(ctx)
	if err != nil {
		return err
	}
	if err := b.awaitBuilder(ctx, progress, &daemon); err != nil {
		return err
	}
	progress.Close()
	if running != 0 {
		b.screen.Printf("the daemon runs already, process %d\n", daemon.PID)
		if flags := arguments[servePrefix:]; len(flags) > 0 {
			b.screen.Notef("dormouse: it keeps the flags it was started with; without effect: %s; dormouse down comes first", strings.Join(flags, " "))
		}
	} else {
		b.screen.Printf("the daemon is ready, process %d (%s)\n", daemon.PID, terminal.Seconds(time.Since(began)))
	}
	b.introduce(daemon)
	return nil
}

// settled waits for a daemon that starts or stops, and returns the process that serves, 0 if none does.
func (b *background) settled(ctx context.Context, progress *terminal.Progress) (pid int, err error) {
	waits := false
	err = poll(ctx, func() (bool, error) {
		if pid, err = b.pid(); err != nil || pid == 0 {
			return true, err
		}
		if daemon, err := connection.ReadDaemon(b.dir); err == nil && daemon.PID == pid {
			return true, nil
		}
		if !waits {
			progress.Say("Waiting for the daemon, process %d, which starts or stops", pid)
			waits = true
		}
		return false, nil
	})
	if ctx.Err() != nil {
		err = &interrupted{fmt.Sprintf("the daemon, process %d, goes on starting or stopping; its log is %s", pid, b.logFile())}
	}
	return pid, err
}

func (b *background) introduce(daemon connection.Daemon) {
	s3 := ""
	if daemon.S3 != "" {
		s3 = "http://" + daemon.S3
	}
	endpoints := "https://" + daemon.Endpoint
	if daemon.Names != "" {
		endpoints = fmt.Sprintf("https://%s (at %s)", daemon.Names, daemon.Endpoint)
	}
	b.screen.Card([][2]string{
		{"API", "http://" + daemon.API}, {"S3", s3}, {"endpoints", endpoints}, {"data", b.dir}, {"log", b.logFile()},
	})
	if daemon.Builder == connection.BuilderFailed {
		b.screen.Notef("dormouse: the snapshot that builds start from could not be made; builds will try again, the log says why")
	}
}

// awaitReady waits until the daemon that holds the lock has written where it listens.
func (b *background) awaitReady(ctx context.Context) (daemon connection.Daemon, err error) {
	err = poll(ctx, func() (bool, error) {
		if b.ended() { // it may have ended because another one was faster
			if b.serving, err = b.pid(); err != nil || b.serving == 0 {
				return false, orElseError(err, b.failedToStart)
			}
		}
		daemon, err = connection.ReadDaemon(b.dir)
		return err == nil && daemon.PID == b.serving, nil
	})
	if ctx.Err() != nil {
		err = &interrupted{"the daemon goes on starting; its log is " + b.logFile()}
	}
	return daemon, err
}

// awaitBuilder waits for the snapshot that builds start from.
func (b *background) awaitBuilder(ctx context.Context, progress *terminal.Progress, daemon *connection.Daemon) error {
	if daemon.Builder != connection.BuilderPreparing {
		return nil
	}
	progress.Say("Making the snapshot that builds start from (once, up to some minutes; the daemon serves already)")
	err := poll(ctx, func() (bool, error) {
		now, err := connection.ReadDaemon(b.dir)
		if err != nil {
			return false, err
		}
		if b.ended() {
			if pid, err := b.pid(); pid != daemon.PID {
				return false, orElseError(err, b.failedToStart)
			}
		}
		*daemon = now
		return now.Builder != connection.BuilderPreparing, nil
	})
	if ctx.Err() != nil {
		return &interrupted{fmt.Sprintf("the daemon serves and goes on making the snapshot; its log is %s", b.logFile())}
	}
	return err
}

func orElseError(err error, otherwise func() error) error {
	if err != nil {
		return err
	}
	return otherwise()
}

// servePrefix is how many arguments come before the flags that were typed.
const servePrefix = 3

// serveArguments are the arguments of the daemon: the flags that were typed. Those of the environment it reads itself.
func serveArguments(cmd *cobra.Command, dir string) []string {
	arguments := []string{"serve", "--data-dir", dir}
	cmd.Flags().Visit(func(flag *pflag.Flag) {
		_, fromOutside := flag.Annotations[ofEnvironment]
		switch list, isList := flag.Value.(pflag.SliceValue); {
		case flag.Name == "data-dir", fromOutside:
		case isList: // its String has brackets
			arguments = append(arguments, "--"+flag.Name+"="+strings.Join(list.GetSlice(), ","))
		default:
			arguments = append(arguments, "--"+flag.Name+"="+flag.Value.String())
		}
	})
	return arguments
}
