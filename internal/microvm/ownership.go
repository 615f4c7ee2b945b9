package microvm

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"

	"github.com/dormouse-dev/dormouse/internal/guest"
)

// ownerFile in a run folder says which microVM the VMM process there belongs to and how to talk
// to its agent. It is not synced: after a crash of the host there is no process either.
const ownerFile = "owner.json"

type ownership struct {
	MicroVM string `json:"microvm"` // "" for helpers, which nobody adopts
	Secret  []byte `json:"secret"`  // of the agent once it was told so
	Before  []byte `json:"before"`  // of the agent in the snapshot it started from
}

func writeOwner(run string, owner ownership) error {
	text, err := json.Marshal(owner)
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(run, ownerFile), text, 0o600); err != nil {
		return fmt.Errorf("note the owner of the VMM: %w", err)
	}
	return nil
}

func readOwner(run string) (owner ownership, err error) {
	text, err := os.ReadFile(filepath.Join(run, ownerFile))
	if err != nil {
		return owner, err
	}
	if err := json.Unmarshal(text, &owner); err != nil {
		return owner, fmt.Errorf("read the owner of the VMM: %w", err)
	}
	if len(owner.Secret) != guest.SecretSize || len(owner.Before) != guest.SecretSize {
		return owner, fmt.Errorf("read the owner of the VMM in %s: incomplete", run)
	}
	return owner, nil
}
