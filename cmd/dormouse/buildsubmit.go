package main

import (
	"context"
	"fmt"
	"os"
	"regexp"

	"github.com/dormouse-dev/dormouse/cmd/dormouse/bundle"
	"github.com/dormouse-dev/dormouse/cmd/dormouse/reference"
	"github.com/dormouse-dev/dormouse/cmd/dormouse/terminal"
	"github.com/dormouse-dev/dormouse/internal/arn"
	"github.com/dormouse-dev/dormouse/internal/awsapi"
)

// baseImage is the only managed image there is (spec/api.md ListManagedMicrovmImages).
const baseImage = "al2023-1"

// keptZips is how many zips of an image stay in the bucket beside the newest: builds that have not
// fetched theirs yet may need them.
const keptZips = 2

// upload packs the folder into a temporary file and puts that into the bucket.
func (b *building) upload(ctx context.Context) (uri string, err error) {
	b.progress.Say("Packing %s", b.dir)
	file, err := os.CreateTemp("", "dormouse-*.zip")
	if err != nil {
		return "", err
	}
	defer file.Close()
	if err := os.Remove(file.Name()); err != nil { // without a name it is not packed itself, nor left behind
		return "", err
	}
	packed, err := bundle.Pack(ctx, b.dir, file)
	if err != nil {
		return "", err
	}
	for _, name := range packed.Skipped {
		b.screen.Notef("left out %s: neither file nor folder nor link", terminal.SafeLine(name))
	}
	if _, err := file.Seek(0, 0); err != nil {
		return "", err
	}
	if b.objects, err = b.Objects(); err != nil {
		return "", err
	}
	files := fmt.Sprintf("%d files", packed.Files)
	if packed.Files == 1 {
		files = "1 file"
	}
	b.progress.Say("Uploading %s, %s (%s packed)", files, terminal.Bytes(packed.Bytes), terminal.Bytes(packed.Zipped))
	b.bucket = orElse(b.flags.bucket, "dormouse-code-"+b.AccountID)
	if err := b.objects.MakeBucket(ctx, b.bucket); err != nil {
		return "", err
	}
	// Named after its content: the same folder takes its place in the bucket once.
	b.key = fmt.Sprintf("%s/%s.zip", b.name, packed.SHA256[:32])
	if err := b.objects.Put(ctx, b.bucket, b.key, b.progress.Counting(file, packed.Zipped), packed.Zipped, packed.SHA256); err != nil {
		return "", err
	}
	return "s3://" + b.bucket + "/" + b.key, ctx.Err()
}

// prune takes older zips of the image out of the bucket, which their builds have fetched long ago. What
// stays because that fails, the next build takes away.
func (b *building) prune(ctx context.Context) {
	zips := regexp.MustCompile(`\A` + regexp.QuoteMeta(b.name) + `/[0-9a-f]{32}\.zip\z`) // the bucket may be used for more
	_ = b.objects.Prune(ctx, b.bucket, b.name+"/", keptZips, func(key string) bool { return key != b.key && zips.MatchString(key) })
}

// submit creates the image, or its next version.
func (b *building) submit(ctx context.Context, uri string) error {
	call, cancel := uninterrupted(ctx)
	defer cancel()
	in := b.createInput(uri)
	images, err := reference.Images(ctx, b.API, b.name)
	if err != nil {
		return err
	}
	for _, i := range images {
		if i.Name == b.name {
			return b.update(call, i, in)
		}
	}
	out, err := b.API.CreateMicrovmImage(call, in)
	if err != nil {
		return err
	}
	return b.accepted(call, out.ImageArn, out.ImageVersion)
}

func (b *building) createInput(uri string) *awsapi.CreateMicrovmImageInput {
	in := &awsapi.CreateMicrovmImageInput{
		Name: b.name, BaseImageArn: arn.ManagedImage(b.Region, baseImage).String(),
		BuildRoleArn: "arn:aws:iam::" + b.AccountID + ":role/dormouse-build", CodeArtifact: awsapi.CodeArtifact{Uri: &uri},
		Hooks: b.request.hooks, EnvironmentVariables: b.request.env,
		EgressNetworkConnectors: b.egress,
	}
	if b.flags.memory != 0 {
		in.Resources = []awsapi.Resources{{MinimumMemoryInMiB: int32(b.flags.memory)}}
	}
	if b.flags.allCapabilities {
		in.AdditionalOsCapabilities = []awsapi.Capability{awsapi.CapabilityAll}
	}
	if b.flags.description != "" {
		in.Description = &b.flags.description
	}
	return in
}

func (b *building) update(ctx context.Context, i awsapi.MicrovmImageSummary, in *awsapi.CreateMicrovmImageInput) error {
	switch i.State {
	case awsapi.MicrovmImageStateCreating, awsapi.MicrovmImageStateUpdating:
		return &failure{fmt.Errorf("%s is being built already", b.name), "follow that build: " + b.command("logs --build -f %s", b.name)}
	case awsapi.MicrovmImageStateDeleting:
		return &failure{fmt.Errorf("%s is being deleted", b.name), "try again in a moment"}
	}
	out, err := b.API.UpdateMicrovmImage(ctx, &awsapi.UpdateMicrovmImageInput{
		ImageIdentifier: i.ImageArn, BaseImageArn: in.BaseImageArn, BuildRoleArn: in.BuildRoleArn, CodeArtifact: in.CodeArtifact,
		Hooks: in.Hooks, EnvironmentVariables: in.EnvironmentVariables, EgressNetworkConnectors: in.EgressNetworkConnectors,
		Resources: in.Resources, AdditionalOsCapabilities: in.AdditionalOsCapabilities, Description: in.Description,
	})
	if err != nil {
		return err
	}
	return b.accepted(ctx, out.ImageArn, out.ImageVersion)
}

// accepted finds the build that has begun.
func (b *building) accepted(ctx context.Context, imageARN, version string) error {
	b.arn, b.version = imageARN, version
	out, err := b.API.ListMicrovmImageBuilds(ctx, &awsapi.ListMicrovmImageBuildsInput{ImageIdentifier: imageARN, ImageVersion: version})
	if err != nil {
		return err
	}
	if len(out.Items) == 0 {
		return fmt.Errorf("the daemon tells of no build of %s:%s", b.name, version)
	}
	b.build = out.Items[0].BuildId
	return nil
}
