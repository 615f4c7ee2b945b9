package main

import (
	"context"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/dormouse-dev/dormouse/cmd/dormouse/reference"
	"github.com/dormouse-dev/dormouse/cmd/dormouse/terminal"
	"github.com/dormouse-dev/dormouse/internal/awsapi"
	"github.com/dormouse-dev/dormouse/internal/extension"
)

// eventPage is the most the daemon gives at once.
const eventPage = 1000

func eventsCommand() *cobra.Command {
	var most int
	var phases bool
	cmd := &cobra.Command{
		Use:   "events [MICROVM|IMAGE]",
		Short: "List what happened to microVMs and images, newest first",
		Long: `List state changes, newest first: of a microVM, of an image, or of everything. Each says what caused it and
how long it took; its phases add up to that.`,
		Example: `  dormouse events
  dormouse events counter --phases
  dormouse events 0c5b7f6e --output json | jq '.[0].phases'`,
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: complete(anyNames, 1),
	}
	cmd.Flags().IntVarP(&most, "lines", "n", 50, "how many at most; 0 = all")
	cmd.Flags().BoolVar(&phases, "phases", false, "how long each phase took")
	output := outputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if most < 0 {
			return usagef("--lines %d: a number of lines is not negative", most)
		}
		s, err := connect(cmd)
		if err != nil {
			return err
		}
		subject := ""
		if len(args) > 0 {
			target, err := s.anyOrEnded(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			if subject = target.MicroVM; target.Image != nil {
				subject = target.Image.ARN
			}
		}
		events, err := s.events(cmd.Context(), subject, most)
		if err != nil {
			return err
		}
		if output.json() {
			return s.screen.JSON(awsapi.List[extension.Event](events))
		}
		printEvents(s.screen, events, phases, time.Local)
		return nil
	}
	return cmd
}

// events reads the newest events of a subject ("" = all), at most that many if most is not 0.
func (s *session) events(ctx context.Context, subject string, most int) (all []extension.Event, err error) {
	in := extension.EventsInput{Subject: subject, MaxResults: eventPage}
	for {
		if most > 0 {
			in.MaxResults = min(most-len(all), eventPage)
		}
		out, err := s.Extension.Events(ctx, in)
		if err != nil {
			return nil, err
		}
		all = append(all, out.Events...)
		if out.NextToken == nil || (most > 0 && len(all) >= most) {
			return all, nil
		}
		in.NextToken = *out.NextToken
	}
}

func printEvents(screen *terminal.Screen, events []extension.Event, phases bool, zone *time.Location) {
	if len(events) == 0 {
		screen.Notef("Nothing has happened yet.")
		return
	}
	rows := make([][]string, len(events))
	for i, e := range events {
		took, detail := "", terminal.SafeLine(sizes.ReplaceAllStringFunc(e.Detail, sizeInWords))
		if len(e.Phases) > 0 {
			took = terminal.Total(phasesOf(e))
		}
		if phases {
			detail = terminal.PhaseWords(phasesOf(e))
		}
		rows[i] = []string{
			screen.Paint(terminal.Faint, e.At.In(zone).Format("Jan 02 15:04:05.000")), screen.Paint(terminal.Strong, subjectWords(e.Subject)),
			terminal.SafeLine(e.Operation), change(screen, e), took, terminal.SafeLine(e.Cause), detail,
		}
	}
	last := map[bool]string{false: "DETAIL", true: "PHASES"}[phases]
	screen.Table([]string{"TIME", "OF", "WHAT", "STATE", "TOOK", "CAUSE", last}, rows)
}

// sizes are those that the daemon tells in bytes.
var sizes = regexp.MustCompile(`\b[0-9]{1,18} bytes\b`)

func sizeInWords(size string) string {
	n, err := strconv.ParseInt(strings.TrimSuffix(size, " bytes"), 10, 64)
	if err != nil {
		return size
	}
	return terminal.Bytes(n)
}

func change(screen *terminal.Screen, e extension.Event) string {
	switch {
	case e.From == e.To || e.From == "":
		return screen.State(e.To)
	case e.To == "":
		return e.From + " → gone"
	}
	return screen.Paint(terminal.Faint, e.From+" →") + " " + screen.State(e.To)
}

func subjectWords(subject string) string {
	if reference.IsID(subject) {
		return shortID(subject)
	}
	return terminal.SafeLine(reference.ImageName(subject))
}

func phasesOf(e extension.Event) []terminal.Phase { return timed(e.Phases) }

func timed(phases []extension.Phase) []terminal.Phase {
	out := make([]terminal.Phase, len(phases))
	for i, p := range phases {
		out[i] = terminal.Phase{Name: p.Name, Spent: time.Duration(p.Seconds * float64(time.Second))}
	}
	return out
}
