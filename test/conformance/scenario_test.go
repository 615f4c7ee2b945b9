package conformance

import (
	"encoding/json"
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// given are the variables a runner begins with.
var given = []string{
	"client", "region", "account", "accessKey", "artifact", "missingArtifact",
	"strangerKey", "strangerSecret", "limitedAPI", "limitedAccount", "limitedKey", "limitedSecret",
}

func TestEveryStepNeedsOnlyWhatEarlierOnesKept(t *testing.T) {
	vars := variables{}
	for _, name := range given {
		vars[name] = "x"
	}
	for _, s := range allSteps() {
		_, err := vars.expand(s)
		require.NoError(t, err, "%s: %s", s.operation, s.promise)
		for name := range s.keep {
			vars[name] = "x"
		}
	}
}

func TestStepsThatMayBeTakenAtOnceKeepNothing(t *testing.T) {
	for _, c := range scenario {
		for _, s := range c.steps {
			require.False(t, c.independent && s.keep != nil, s.promise)
		}
	}
}

func TestEveryErrorAStepWantsHasAStatus(t *testing.T) {
	for _, s := range allSteps() {
		if s.refusal != nil {
			require.Contains(t, statuses, s.refusal.name, s.promise)
		}
	}
}

// TestEveryOperationAndMemberOfTheModelIsUsed reads the service model, so that what is added to it is missed here.
func TestEveryOperationAndMemberOfTheModelIsUsed(t *testing.T) {
	text, err := os.ReadFile("../../spec/model.json")
	require.NoError(t, err)
	var model struct {
		Operations        map[string]struct{ Input map[string]any }
		CompanionServices map[string]struct {
			Operations map[string]struct{ Input string }
			Shapes     map[string]struct{ Members map[string]any }
		}
	}
	require.NoError(t, json.Unmarshal(text, &model))
	used := map[string]map[string]bool{}
	for _, s := range allSteps() {
		if used[s.operation] == nil {
			used[s.operation] = map[string]bool{}
		}
		for name := range s.input {
			used[s.operation][name] = true
		}
		if s.pageSize > 0 { // paginators fill these in
			for _, name := range []string{"maxResults", "nextToken", "MaxItems", "Marker"} {
				used[s.operation][name] = true
			}
		}
	}
	for operation, o := range model.Operations {
		for member := range o.Input {
			require.True(t, used[operation][member], "no step gives %s to %s", member, operation)
		}
	}
	core := model.CompanionServices[lambdaCore]
	for operation, o := range core.Operations {
		for member := range core.Shapes[o.Input].Members {
			require.True(t, used[operation][member], "no step gives %s to %s", member, operation)
		}
	}
}

// TestEveryErrorOfTheModelIsProvoked but those that the report names.
func TestEveryErrorOfTheModelIsProvoked(t *testing.T) {
	text, err := os.ReadFile("../../spec/model.json")
	require.NoError(t, err)
	var model struct {
		Errors            map[string]any
		CompanionServices map[string]struct {
			Shapes map[string]struct{ Exception bool }
		}
	}
	require.NoError(t, json.Unmarshal(text, &model))
	declared := model.Errors
	for name, shape := range model.CompanionServices[lambdaCore].Shapes {
		if shape.Exception {
			declared[name] = nil
		}
	}
	for _, s := range allSteps() {
		if s.refusal != nil {
			delete(declared, s.refusal.name)
		}
	}
	for name := range declared {
		require.Contains(t, reportText, name)
	}
	require.Len(t, declared, 4)
}

func TestStepsWaitForVariables(t *testing.T) {
	vars := variables{"image": "arn:x", "n": 7.0}
	s, err := vars.expand(step{input: object{"id": "${image}", "list": list{"a-${image}", "${n}"}}, until: nil})
	require.NoError(t, err)
	require.Equal(t, object{"id": "arn:x", "list": list{"a-arn:x", 7.0}}, s.input)
	require.Nil(t, s.until)

	_, err = vars.expand(step{want: members{"a": "${vm}", "b": object{"c": "${build}"}}})
	var missing unset
	require.ErrorAs(t, err, &missing)
	require.Equal(t, unset{"build", "vm"}, missing)
	require.True(t, missing.within(map[string]bool{"vm": true, "build": true}))
	require.False(t, missing.within(map[string]bool{"vm": true}))
}

func TestSummaryTellsWhetherAllIsWell(t *testing.T) {
	good := ClientResult{Name: "a", Steps: []StepResult{{Outcome: Passed}, {Outcome: Inexpressible}}}
	bad := ClientResult{Name: "b", Steps: []StepResult{{Outcome: Failed}, {Outcome: NotRun}}}
	absent := ClientResult{Name: "c", NotRun: "no npm"}
	for name, c := range map[string]struct {
		results []ClientResult
		line    string
		ok      bool
	}{
		"all passed":     {[]ClientResult{good, absent}, "1 of 2 clients ran: 1 steps passed, 0 failed, 1 not expressible", true},
		"one failed":     {[]ClientResult{good, bad}, "2 of 2 clients ran: 1 steps passed, 2 failed, 1 not expressible", false},
		"no client runs": {[]ClientResult{absent}, "0 of 1 clients ran: 0 steps passed, 0 failed, 0 not expressible", false},
	} {
		t.Run(name, func(t *testing.T) {
			line, ok := Summary(c.results)
			require.Equal(t, "conformance: "+c.line, line)
			require.Equal(t, c.ok, ok)
		})
	}
}

func TestTheReportShowsWhatFailed(t *testing.T) {
	path := t.TempDir() + "/report.md"
	require.NoError(t, Write(path, []ClientResult{
		{Name: "A", Origin: "PyPI", NotRun: "no Python"},
		{Name: "B", Origin: "npm", Version: "1", Steps: []StepResult{
			{Promise: "first", Operation: "RunMicrovm", Outcome: Passed},
			{Promise: "second", Operation: "RunMicrovm", Outcome: Failed, Reason: "a | b\nc"},
			{Promise: "third", Operation: "ListTags", Error: notFound, Outcome: Passed},
		}},
	}))
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	for _, line := range []string{
		"| A | | PyPI | not run: no Python | | |", "| B | 1 | npm | 2 | **1**, and 0 not run | 0 |",
		"| RunMicrovm | – | **1 of 2** |", "| ListTags | – | 1 |", "| ResourceNotFoundException | 404 | – | 1 |",
		`| B | RunMicrovm | second | a \| b c |`,
	} {
		require.Contains(t, strings.Split(string(text), "\n"), line)
	}
}

func TestJudgeTellsClientRefusalsFromErrors(t *testing.T) {
	wanted := step{refusal: refused(notFound, "gone")}
	require.NoError(t, judge(wanted, nil, sdkError(notFound, 404, "it is gone")))
	require.NoError(t, judge(wanted, nil, sdkError(notFound, -1, "it is gone")))
	require.ErrorContains(t, judge(wanted, nil, sdkError(notFound, 400, "it is gone")), "HTTP status 400 instead of 404")
	require.ErrorContains(t, judge(wanted, nil, sdkError(notFound, 404, "no")), "lacks")
	require.ErrorContains(t, judge(wanted, nil, sdkError(conflict, 409, "it is gone")), "instead of ResourceNotFoundException")
	require.ErrorContains(t, judge(wanted, object{}, nil), "it succeeded")
	var unsent *unsentError
	require.ErrorAs(t, judge(wanted, nil, sdkError("ParamValidationError", 0, "no")), &unsent)
	require.ErrorContains(t, judge(step{}, nil, errors.New("the driver has ended")), "the driver has ended")
	require.ErrorContains(t, judge(step{want: members{"a": "b"}}, object{"a": "c"}, nil), `a: "c" instead of "b"`)
}
