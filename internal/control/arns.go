package control

import (
	"errors"
	"strings"

	"github.com/dormouse-dev/dormouse/internal/arn"
	"github.com/dormouse-dev/dormouse/internal/awsapi"
)

// ownImage reads the identifier of one of the caller's images. action is the operation that asks.
func ownImage(c awsapi.Caller, identifier, action string) (arn.Image, error) {
	image, err := arn.ParseImage(identifier)
	var refused *arn.Error
	switch {
	case errors.As(err, &refused) && refused.Reason == arn.SlashForm:
		return arn.Image{}, denied(c, action, identifier)
	case err != nil:
		return arn.Image{}, awsapi.Validation("Invalid ARN format: %s", identifier)
	case image.Account != c.AccountID:
		// Refused before it is looked for: nobody learns what another account has (spec/api.md 1.6).
		return arn.Image{}, denied(c, action, identifier)
	case image.Region != c.Region:
		return arn.Image{}, imageNotFound(image)
	}
	return image, nil
}

// ownRole checks that a role, whose form was checked with the request, is the caller's: its credentials
// come from the configuration of its account. The text is AWS Lambda's.
func ownRole(c awsapi.Caller, role string) error {
	parts := strings.SplitN(role, ":", 6) // arn, partition, iam, "", account, role/name
	if len(parts) < 6 || parts[4] != c.AccountID {
		return awsapi.AccessDenied("Cross-account pass role is not allowed.")
	}
	return nil
}

// denied is the refusal of everything that belongs to another account.
func denied(c awsapi.Caller, action, resource string) error {
	return awsapi.AccessDenied("User: arn:aws:iam::%s:root is not authorized to perform: lambda:%s on resource: %s", c.AccountID, action, resource)
}

func imageNotFound(image arn.Image) *awsapi.Error {
	return awsapi.NotFound("MicroVMImage not found for MicroVMImageID: %s", image)
}

func versionNotFound(image arn.Image, version string) *awsapi.Error {
	return awsapi.NotFound("MicroVMImage not found for MicroVMImage: %s, Version: %s", image, version)
}
