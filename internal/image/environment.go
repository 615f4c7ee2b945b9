package image

import (
	"maps"
	"slices"
	"strings"

	"github.com/dormouse-dev/dormouse/internal/arn"
	"github.com/dormouse-dev/dormouse/internal/store"
)

// defaultPath is what container runtimes set where an image sets none (moby's DefaultPathEnv).
const defaultPath = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// environment is what the app is started with, as KEY=VALUE: the container image's own
// variables, those of the image's configuration, and the platform's, of which later ones win
// (spec/behaviour.md 4.4).
func environment(container []string, i store.Image, v store.ImageVersion) []string {
	all := append([]string{defaultPath}, container...)
	for _, key := range slices.Sorted(maps.Keys(v.Config.Environment)) {
		all = append(all, key+"="+v.Config.Environment[key])
	}
	all = append(all,
		"AWS_LAMBDA_MICROVM_IMAGE_NAME="+i.Name,
		"AWS_LAMBDA_MICROVM_IMAGE_ARN="+imageARN(i),
		"AWS_LAMBDA_MICROVM_IMAGE_VERSION="+v.Version,
		"AWS_REGION="+i.Region,
	)
	return lastOfEach(all)
}

func imageARN(i store.Image) string {
	return arn.Image{Region: i.Region, Account: i.AccountID, Name: i.Name}.String()
}

// lastOfEach drops variables that are set again further on.
func lastOfEach(variables []string) []string {
	seen := map[string]bool{}
	var kept []string
	for _, variable := range slices.Backward(variables) {
		key, _, _ := strings.Cut(variable, "=")
		if !seen[key] {
			seen[key] = true
			kept = append(kept, variable)
		}
	}
	slices.Reverse(kept)
	return kept
}
