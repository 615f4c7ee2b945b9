package conformance

import (
	"bytes"
	_ "embed"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/template"

	"github.com/dormouse-dev/dormouse/internal/control"
)

//go:embed report.md.tmpl
var reportText string

// cell writes a text into a table, on one line and not too long.
func cell(text string) string {
	return strings.NewReplacer("|", `\|`, "<", `\<`).Replace(short(text))
}

// failures is the number of steps that went wrong, and of those that therefore did not run.
func failures(r ClientResult) string {
	if r.Broken() {
		return fmt.Sprintf("**%d**, and %d not run", r.Count(Failed), r.Count(NotRun))
	}
	return "0"
}

var reportTemplate = template.Must(template.New("report").Funcs(template.FuncMap{"cell": cell, "failures": failures}).Parse(reportText))

// row is a line of a table with a cell for each client.
type row struct {
	Name   string
	Status int
	Cells  []string
}

// remark is a step that has not passed with a client.
type remark struct{ Client, Operation, Promise, Reason string }

// Write writes the report to a file.
func Write(path string, results []ClientResult) error {
	var text bytes.Buffer
	err := reportTemplate.Execute(&text, map[string]any{
		"Clients": results, "Operations": operations(results), "Errors": provoked(results),
		"Failures": remarks(results, Failed, NotRun), "Inexpressible": remarks(results, Inexpressible),
		"Decisions": control.Decisions, "Differences": differences, "Promises": promises(),
	})
	if err != nil {
		return fmt.Errorf("write the report: %w", err)
	}
	temporary := filepath.Join(filepath.Dir(path), "."+filepath.Base(path))
	if err := os.WriteFile(temporary, text.Bytes(), 0o644); err != nil {
		return fmt.Errorf("write the report: %w", err)
	}
	return os.Rename(temporary, path)
}

// operations has a row for each operation of the scenario, and one for the endpoint.
func operations(results []ClientResult) []row {
	names := map[string]bool{}
	for _, s := range allSteps() {
		names[s.operation] = true
	}
	var rows []row
	for _, name := range slices.SortedFunc(maps.Keys(names), byService) {
		shown := name
		if name == "" {
			shown = "requests to the endpoint"
		}
		rows = append(rows, tally(shown, results, func(s StepResult) bool { return s.Operation == name }))
	}
	return rows
}

// byService sorts operations by service, then by name; requests to a VM come last.
func byService(a, b string) int {
	rank := func(name string) string {
		switch {
		case name == "":
			return "3"
		case serviceOf(name) == lambdaCore:
			return "2" + name
		}
		return "1" + name
	}
	return strings.Compare(rank(a), rank(b))
}

// provoked has a row for each error of the scenario.
func provoked(results []ClientResult) []row {
	names := map[string]bool{}
	for _, s := range allSteps() {
		if s.refusal != nil {
			names[s.refusal.name] = true
		}
	}
	var rows []row
	for _, name := range slices.Sorted(maps.Keys(names)) {
		r := tally(name, results, func(s StepResult) bool { return s.Error == name })
		r.Status = statuses[name]
		rows = append(rows, r)
	}
	return rows
}

// tally makes the row of some steps: how many there are, and how many of them pass if not all do.
// Those a client cannot express are no part of it.
func tally(name string, results []ClientResult, counts func(StepResult) bool) row {
	r := row{Name: name}
	for _, result := range results {
		var passed, all int
		for _, s := range result.Steps {
			if !counts(s) || s.Outcome == Inexpressible {
				continue
			}
			all++
			if s.Outcome == Passed {
				passed++
			}
		}
		switch {
		case all == 0:
			r.Cells = append(r.Cells, "–")
		case passed == all:
			r.Cells = append(r.Cells, fmt.Sprint(all))
		default:
			r.Cells = append(r.Cells, fmt.Sprintf("**%d of %d**", passed, all))
		}
	}
	return r
}

func remarks(results []ClientResult, outcomes ...Outcome) (found []remark) {
	for _, r := range results {
		for _, s := range r.Steps {
			if slices.Contains(outcomes, s.Outcome) {
				found = append(found, remark{r.Name, s.Operation, s.Promise, s.Reason})
			}
		}
	}
	return found
}

// promises are the chapters of the scenario, each with its promises.
func promises() (lines []string) {
	for _, c := range scenario {
		var all []string
		for _, s := range c.steps {
			if len(all) == 0 || all[len(all)-1] != s.promise {
				all = append(all, s.promise)
			}
		}
		lines = append(lines, "- **"+c.title+"**: "+strings.Join(all, "; "))
	}
	return lines
}

func allSteps() (all []step) {
	for _, c := range scenario {
		all = append(all, c.steps...)
	}
	return all
}

// Summary is one line on all results, and whether all is well: some client ran, and with none a step failed.
func Summary(results []ClientResult) (line string, ok bool) {
	var ran, passed, inexpressible, failed int
	for _, r := range results {
		if r.NotRun != "" {
			continue
		}
		ran++
		passed += r.Count(Passed)
		inexpressible += r.Count(Inexpressible)
		failed += r.Count(Failed) + r.Count(NotRun)
	}
	line = fmt.Sprintf("conformance: %d of %d clients ran: %d steps passed, %d failed, %d not expressible", ran, len(results), passed, failed, inexpressible)
	return line, ran > 0 && failed == 0
}
