package connection

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// Files of the data folder that tell clients what they need.
const (
	CredentialsFile = "credentials.json" // mode 0600: the default account's access key
	DaemonFile      = "daemon.json"      // where the daemon listens, as long as it does
)

// defaultAccount stands in names where the account is not known: the one a first start makes.
const defaultAccount = "000000000000"

// Daemon is what a running daemon writes into its data folder.
type Daemon struct {
	API      string `json:"api"`
	S3       string `json:"s3"` // "" where an external S3 is configured
	Endpoint string `json:"endpoint"`
	Names    string `json:"names"` // of microVMs at Endpoint, with a * for an endpoint id; "" where they have addresses
	Region   string `json:"region"`
	CABundle string `json:"caBundle"` // file; "" where the system's authorities vouch for the endpoints
	PID      int    `json:"pid"`
	// Builder is the state of the snapshot that builds start from.
	Builder BuilderState `json:"builder"`
}

// BuilderState is how far the builder's snapshot is.
type BuilderState string

// The states of the builder.
const (
	BuilderPreparing BuilderState = "preparing"
	BuilderReady     BuilderState = "ready"
	BuilderFailed    BuilderState = "failed" // the daemon's log says why; builds try again
)

// AccessKey is the content of CredentialsFile.
type AccessKey struct {
	AccountID       string `json:"accountId"`
	AccessKeyID     string `json:"accessKeyId"`
	SecretAccessKey string `json:"secretAccessKey"`
}

// Settings say where a server is and who calls it.
type Settings struct {
	API             string // URL
	S3              string // URL, "" if there is none
	Region          string
	AccountID       string
	AccessKeyID     string
	SecretAccessKey string
	CABundle        string // file; "" if the system's certificates are enough
	Endpoint        string // host:port of the endpoints' listener, "" if it is not known to be on this machine
}

// NoDaemonError says that no daemon serves from a folder.
type NoDaemonError struct{ Dir string }

func (e *NoDaemonError) Error() string { return "no daemon serves from " + e.Dir }

// Find takes the settings from the variables that every AWS client heeds, if they name an endpoint,
// and else from the data folder of a daemon. With dirChosen the folder comes first. Errors:
// *NoDaemonError, where the folder has none.
func Find(dir string, dirChosen bool, getenv func(string) string) (Settings, error) {
	if !dirChosen {
		if s, found, err := fromEnvironment(dir, getenv); found || err != nil {
			return s, err
		}
	}
	return FromDataDir(dir)
}

func fromEnvironment(dir string, getenv func(string) string) (s Settings, found bool, err error) {
	first := func(names ...string) string {
		for _, name := range names {
			if value := getenv(name); value != "" {
				return value
			}
		}
		return ""
	}
	s = Settings{
		API:         first("AWS_ENDPOINT_URL_LAMBDA_MICROVMS", "AWS_ENDPOINT_URL"),
		S3:          first("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"),
		Region:      first("AWS_REGION", "AWS_DEFAULT_REGION"),
		AccountID:   first("AWS_ACCOUNT_ID"),
		AccessKeyID: getenv("AWS_ACCESS_KEY_ID"), SecretAccessKey: getenv("AWS_SECRET_ACCESS_KEY"),
		CABundle: getenv("DORMOUSE_CA_BUNDLE"),
	}
	if s.API == "" {
		return Settings{}, false, nil
	}
	if s.AccountID == "" {
		s.AccountID = defaultAccount
	}
	if s.AccessKeyID == "" || s.SecretAccessKey == "" || s.Region == "" {
		return Settings{}, true, fmt.Errorf("the environment names the server %s, but not all of AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_REGION", s.API)
	}
	if local, err := WithoutKey(dir); err == nil && local.API == s.API {
		s.Endpoint = local.Endpoint
		s.CABundle = cmp.Or(s.CABundle, local.CABundle)
	}
	return s, true, nil
}

// FromDataDir takes the settings from the data folder of a daemon, with the key of the default account.
func FromDataDir(dir string) (Settings, error) {
	var key AccessKey
	if err := readJSON(dir, CredentialsFile, &key); err != nil {
		return Settings{}, err
	}
	s, err := WithoutKey(dir)
	s.AccountID, s.AccessKeyID, s.SecretAccessKey = key.AccountID, key.AccessKeyID, key.SecretAccessKey
	return s, err
}

// WithoutKey says where the daemon of a data folder is.
func WithoutKey(dir string) (Settings, error) {
	daemon, err := ReadDaemon(dir)
	if err != nil {
		return Settings{}, err
	}
	s := Settings{API: "http://" + daemon.API, Region: daemon.Region, CABundle: daemon.CABundle, Endpoint: daemon.Endpoint}
	if daemon.S3 != "" {
		s.S3 = "http://" + daemon.S3
	}
	return s, nil
}

// ReadDaemon reads where the daemon of a folder serves; one that was killed may have left it behind.
func ReadDaemon(dir string) (d Daemon, err error) { return d, readJSON(dir, DaemonFile, &d) }

func readJSON(dir, name string, value any) error {
	text, err := os.ReadFile(filepath.Join(dir, name))
	if errors.Is(err, fs.ErrNotExist) {
		return &NoDaemonError{dir}
	}
	if err != nil {
		return err
	}
	if err := json.Unmarshal(text, value); err != nil {
		return fmt.Errorf("read %s: %w", filepath.Join(dir, name), err)
	}
	return nil
}
