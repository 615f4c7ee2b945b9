package main

import (
	"archive/zip"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/dormouse-dev/dormouse/bench/floor"
	"github.com/dormouse-dev/dormouse/internal/awsapi"
)

const (
	buildLimit    = 15 * time.Minute // the first build also makes the builder's snapshot
	memoryClass   = 512              // MiB, the smallest
	hookPort      = 9000             // examples/counter/README.md
	buildHookTime = 120              // seconds
	hookTime      = 30               // seconds
)

// build makes an image of the uploaded app and returns its ARN. Its hooks at build time are on;
// those that are called at each launch, suspend and wake are the app's own code, and a choice.
func (p *product) build(ctx context.Context, name string, runtimeHooks awsapi.HookState) (string, error) {
	on := awsapi.HookStateEnabled
	out, err := p.api.CreateMicrovmImage(ctx, &awsapi.CreateMicrovmImageInput{
		Name:         name,
		BaseImageArn: "arn:aws:lambda:" + p.env["AWS_REGION"] + ":aws:microvm-image:al2023-1",
		BuildRoleArn: "arn:aws:iam::000000000000:role/bench",
		CodeArtifact: awsapi.CodeArtifact{Uri: aws.String("s3://bench/app.zip")},
		Resources:    []awsapi.Resources{{MinimumMemoryInMiB: memoryClass}},
		Hooks: &awsapi.Hooks{
			Port: aws.Int32(hookPort),
			MicrovmImageHooks: &awsapi.MicrovmImageHooks{
				Ready: &on, ReadyTimeoutInSeconds: aws.Int32(buildHookTime),
				Validate: &on, ValidateTimeoutInSeconds: aws.Int32(buildHookTime),
			},
			MicrovmHooks: &awsapi.MicrovmHooks{
				Run: &runtimeHooks, RunTimeoutInSeconds: aws.Int32(hookTime),
				Resume: &runtimeHooks, ResumeTimeoutInSeconds: aws.Int32(hookTime),
				Suspend: &runtimeHooks, SuspendTimeoutInSeconds: aws.Int32(hookTime),
				Terminate: &runtimeHooks, TerminateTimeoutInSeconds: aws.Int32(hookTime),
			},
		},
	})
	if err != nil {
		return "", fmt.Errorf("create the image: %w", err)
	}
	if err := p.awaitBuild(ctx, out.ImageArn, out.ImageVersion); err != nil {
		return "", fmt.Errorf("build the image: %w", err)
	}
	return out.ImageArn, nil
}

// upload puts a zip of a folder's files into a new bucket.
func (p *product) upload(ctx context.Context, dir, bucket, key string) error {
	var archive bytes.Buffer
	code := zip.NewWriter(&archive)
	if err := code.AddFS(os.DirFS(dir)); err != nil {
		return err
	}
	if err := code.Close(); err != nil {
		return err
	}
	objects := s3.New(s3.Options{
		BaseEndpoint: aws.String(p.env["AWS_ENDPOINT_URL_S3"]), UsePathStyle: true, Region: p.env["AWS_REGION"],
		Credentials: credentials.NewStaticCredentialsProvider(p.env["AWS_ACCESS_KEY_ID"], p.env["AWS_SECRET_ACCESS_KEY"], ""),
	})
	if _, err := objects.CreateBucket(ctx, &s3.CreateBucketInput{Bucket: &bucket}); err != nil {
		return err
	}
	_, err := objects.PutObject(ctx, &s3.PutObjectInput{Bucket: &bucket, Key: &key, Body: bytes.NewReader(archive.Bytes())})
	return err
}

func (p *product) awaitBuild(ctx context.Context, arn, version string) error {
	ctx, cancel := context.WithTimeout(ctx, buildLimit)
	defer cancel()
	for {
		out, err := p.api.GetMicrovmImageVersion(ctx, &awsapi.GetMicrovmImageVersionInput{ImageIdentifier: arn, ImageVersion: version})
		if err != nil {
			return err
		}
		switch out.State {
		case awsapi.MicrovmImageVersionStateSuccessful:
			return nil
		case awsapi.MicrovmImageVersionStateFailed:
			return fmt.Errorf("it failed: %s\n%s", aws.ToString(out.StateReason), p.daemon.logTail())
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// findSnapshot finds the only image snapshot in the data folder and what machine it was made on:
// the floor restores the very same files.
func findSnapshot(dataDir string) (floor.Snapshot, error) {
	found, err := filepath.Glob(filepath.Join(dataDir, "images", "*", "*", "manifest.json"))
	if err != nil {
		return floor.Snapshot{}, err
	}
	if len(found) != 1 {
		return floor.Snapshot{}, fmt.Errorf("%d image snapshots are in %s, not one", len(found), dataDir)
	}
	text, err := os.ReadFile(found[0])
	if err != nil {
		return floor.Snapshot{}, err
	}
	var manifest struct {
		Machine struct {
			VMM       string `json:"vmm"` // "qemu 7.2.22 (…), microvm devices 2, tcg, cpu max,-erms"
			CPUs      int    `json:"cpus"`
			MemoryMiB int    `json:"memoryMiB"`
		} `json:"machine"`
	}
	if err := json.Unmarshal(text, &manifest); err != nil {
		return floor.Snapshot{}, fmt.Errorf("read %s: %w", found[0], err)
	}
	machine := vmmIdentity.FindStringSubmatch(manifest.Machine.VMM)
	if machine == nil {
		return floor.Snapshot{}, fmt.Errorf("%s was made by %q, which the floor cannot do", found[0], manifest.Machine.VMM)
	}
	dir, err := filepath.EvalSymlinks(filepath.Dir(found[0]))
	return floor.Snapshot{
		Dir: dir, CPUs: manifest.Machine.CPUs, MemoryMiB: manifest.Machine.MemoryMiB,
		Accel: machine[1], CPU: machine[2],
	}, err
}

// vmmIdentity finds accelerator and CPU model in what a snapshot says of its VMM.
var vmmIdentity = regexp.MustCompile(`^qemu .*, (tcg|kvm), cpu (\S+)$`)
