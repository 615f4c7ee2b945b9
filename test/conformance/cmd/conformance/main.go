// Command conformance takes real AWS clients through the whole API on real VMs, and writes what works with which of them.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/dormouse-dev/dormouse/test/conformance"
)

func main() {
	report := flag.String("report", "", "the file to write the table to, none if empty")
	only := flag.String("only", "", "run the clients only whose name holds this")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	results, err := conformance.Run(ctx, ".", os.Getenv("DORMOUSE_DATA_DIR"), *only, os.Stdout)
	if err == nil && *report != "" {
		err = conformance.Write(*report, results)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "conformance:", err)
		os.Exit(1)
	}
	summary, ok := conformance.Summary(results)
	fmt.Println(summary)
	if !ok {
		os.Exit(1)
	}
}
