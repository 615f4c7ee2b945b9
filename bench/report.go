package main

import (
	"bytes"
	_ "embed"
	"fmt"
	"strings"
	"text/template"
)

//go:embed report.md.tmpl
var reportTemplate string

var report = template.Must(template.New("report").Funcs(template.FuncMap{
	"mib":   func(bytes int64) string { return fmt.Sprintf("%.1f MiB", float64(bytes)/mebibyte) },
	"times": func(r *float64) string { return orNothing(r, "%.2f ×") },
	"started": func(t *timing) string {
		return fmt.Sprintf("%v (%s)", *t.StartedFloor, orNothing(ratio(t.P50.float(), t.StartedFloor.float()), "%.2f ×"))
	},
	"verdict": verdict,
	"phases":  phasesMarkdown,
	// Differences of a few tenths need one digit more.
	"hundredths": func(d ms) string { return fmt.Sprintf("%.2f ms", d.float()) },
}).Parse(reportTemplate))

func orNothing(r *float64, format string) string {
	if r == nil {
		return "-"
	}
	return fmt.Sprintf(format, *r)
}

func verdict(g goal) string {
	if g.Met {
		return "met"
	}
	return "**not met**"
}

func missed(goals []goal) (n int) {
	for _, g := range goals {
		if !g.Met {
			n++
		}
	}
	return n
}

// markdown is docs/benchmarks.md.
func (r result) markdown() ([]byte, error) {
	var out bytes.Buffer
	err := report.Execute(&out, r)
	return out.Bytes(), err
}

// phasesMarkdown is the rows of a table: each phase, and the sum of the column that adds up.
func phasesMarkdown(total ms, phases []phaseRow) string {
	var out strings.Builder
	var sum ms
	for _, phase := range phases {
		sum += phase.Median
		fmt.Fprintf(&out, "| %s | %.1f | %.1f |\n", phase.Name, phase.P50.float(), phase.Median.float())
	}
	fmt.Fprintf(&out, "| **total** | **%.1f** | **%.1f** |", total.float(), sum.float())
	return out.String()
}

// print shows what was reached.
func (r result) print() {
	fmt.Println()
	for _, g := range r.Goals {
		mark := "met     "
		if !g.Met {
			mark = "NOT MET "
		}
		fmt.Printf("%s %-55s %-32s %s\n", mark, g.Name, g.Wanted, g.Reached)
	}
	fmt.Printf("bench: %d of %d goals met\n", len(r.Goals)-missed(r.Goals), len(r.Goals))
}
