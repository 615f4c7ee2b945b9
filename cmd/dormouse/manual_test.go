package main

import (
	"cmp"
	"fmt"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"github.com/stretchr/testify/require"
)

// reference is the manual of the command line, made of the verbs themselves.
const referenceFile = "../../docs/cli.md"

// TestTheReferenceIsCurrent compares docs/cli.md with the verbs; `go generate ./cmd/dormouse` writes it.
func TestTheReferenceIsCurrent(t *testing.T) { goldenFile(t, referenceFile, manual(rootCommand())) }

func TestUsagesHaveNoBackQuotes(t *testing.T) { // pflag takes what is between them for the kind of value
	for _, verb := range rootCommand().Commands() {
		verb.Flags().VisitAll(func(f *pflag.Flag) { require.NotContains(t, f.Usage, "`", "%s --%s", verb.Name(), f.Name) })
	}
}

func manual(root *cobra.Command) string {
	var b strings.Builder
	fmt.Fprintf(&b, "# Command line\n\nWritten by `go generate ./cmd/dormouse` from the verbs themselves.\n\n%s\n", manualIntroduction)
	for _, row := range exitMeanings {
		fmt.Fprintf(&b, "| %d | %s |\n", row.status, row.meaning)
	}
	fmt.Fprintf(&b, "\n%s", manualJSON)
	for _, group := range append(root.Groups(), &cobra.Group{Title: "Other verbs:"}) {
		fmt.Fprintf(&b, "\n## %s\n", strings.TrimSuffix(group.Title, ":"))
		for _, verb := range root.Commands() {
			if verb.GroupID == group.ID && !verb.Hidden && verb.Name() != "help" {
				describe(&b, verb)
			}
		}
	}
	return b.String()
}

func describe(b *strings.Builder, verb *cobra.Command) {
	for _, part := range verb.Commands() {
		defer describe(b, part)
	}
	if !verb.Runnable() {
		return
	}
	fmt.Fprintf(b, "\n### %s\n\n%s\n\n```sh\n%s\n```\n", strings.TrimSuffix(verb.UseLine(), " [flags]"), cmp.Or(verb.Long, verb.Short+"."), unindent(verb.Example))
	flags := ""
	verb.NonInheritedFlags().VisitAll(func(f *pflag.Flag) { flags += describeFlag(f) })
	if verb.Name() == "up" {
		flags = "" // those of serve
	}
	if flags != "" {
		fmt.Fprintf(b, "\n| Flag | Meaning | Default |\n|---|---|---|\n%s", flags)
	}
}

func describeFlag(f *pflag.Flag) string {
	if f.Hidden || f.Name == "help" {
		return ""
	}
	kind, usage := pflag.UnquoteUsage(f)
	name := "--" + f.Name
	if f.Shorthand != "" {
		name = "-" + f.Shorthand + ", " + name
	}
	if kind != "" {
		name += " " + kind
	}
	value := f.DefValue
	if words := f.Annotations[portable]; words != nil {
		value = words[0]
	}
	if unset[value] {
		value = ""
	}
	return fmt.Sprintf("| `%s` | %s | %s |\n", strings.ReplaceAll(name, "|", `\|`), strings.NewReplacer("|", `\|`, "\n", " ").Replace(usage), value)
}

// unset are defaults that say nothing.
var unset = map[string]bool{"false": true, "[]": true, "0": true, "0s": true, "-1": true}

func unindent(example string) string {
	return strings.TrimPrefix(strings.ReplaceAll(example, "\n  ", "\n"), "  ")
}

const manualIntroduction = `## For all verbs

**Which daemon.** ` + "`--data-dir`" + ` where it is typed; else what ` + "`AWS_ENDPOINT_URL_LAMBDA_MICROVMS`" + ` (or ` + "`AWS_ENDPOINT_URL`" + `),
` + "`AWS_ENDPOINT_URL_S3`, `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, `AWS_REGION`, `AWS_ACCOUNT_ID`" + ` and ` + "`DORMOUSE_CA_BUNDLE`" + ` say, if an endpoint is set; else
the data folder (` + "`DORMOUSE_DATA_DIR`" + `, or its default). Keys without an endpoint, as for real AWS, are not used. The verbs talk to the
AWS API, signed like any client; events, logs and details come from [the extension API](extension-api.md).

**What to type for a microVM:** its id, the beginning of it (with or without ` + "`microvm-`" + `), or the name of an image that has exactly one
live microVM. **For an image:** its name or ARN, with ` + "`:VERSION`" + ` for one version (` + "`2`" + ` is ` + "`2.0`" + `). Where both are welcome, a name is that of
the image. What may mean several things is an error that lists them.

**Output.** Results go to standard output, progress and notes to standard error. Colours and moving lines appear on terminals only, no
colours with ` + "`NO_COLOR`" + `. What guests and strangers wrote has its control characters shown as escapes on a terminal.

**Exit status:**

| Status | Meaning |
|---|---|`

const manualJSON = `## JSON

With ` + "`--output json`" + ` a verb prints one JSON document, and failures as ever on standard error. Members are those of the API (camelCase, times in
seconds since 1970); members may be added, none is renamed or removed.

| Verb | Document |
|---|---|
| ` + "`run`" + ` | the answer of GetMicrovm (with ` + "`--wait`" + `) or RunMicrovm |
| ` + "`ps`, `suspend`, `resume`" + ` | an array of answers of GetMicrovm; of ` + "`suspend`" + ` and ` + "`resume`" + ` those that did not fail |
| ` + "`images`" + ` | an array of items of ListMicrovmImages, or of ListMicrovmImageVersions, newest first |
| ` + "`inspect MICROVM`" + ` | ` + "`microvm`" + ` (GetMicrovm), ` + "`details`" + ` (extension API, or null), ` + "`last`" + ` (array: events of its last launch, suspend and resume) |
| ` + "`inspect IMAGE`" + ` | ` + "`image`" + ` (GetMicrovmImage), ` + "`versions`" + ` (array), ` + "`build`" + ` (the last one, extension API, or null) |
| ` + "`build`" + ` | the build (extension API), also when it failed; with ` + "`--detach`" + ` only ` + "`imageArn`, `imageVersion`, `buildId`" + ` |
| ` + "`events`" + ` | an array of events (extension API), newest first |
| ` + "`token`" + ` | an object: header name to value |
| ` + "`account create`, `account list`" + ` | an account, an array of them: ` + "`accountId`, `name`, `createdAt` (RFC 3339)" + ` |
| ` + "`credentials create`, `credentials list`" + ` | a key, an array of them: ` + "`accountId`, `accessKeyId`, `createdAt` (RFC 3339), and once `secretAccessKey`" + ` |
| ` + "`credentials delete`" + ` | ` + "`accessKeyId`" + ` |
| ` + "`doctor`" + ` | an array of ` + "`name`, `status` (`ok`, `warn`, `fail`), `detail`, `fix`" + ` |
`
