package config

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

const role = "arn:aws:iam::000000000000:role/app"

func TestRolesAreRead(t *testing.T) {
	file, err := Parse([]byte(`
roles:
- arn: ` + role + `
  static: {accessKeyId: AKIA, secretAccessKey: hush, sessionToken: token}
- arn: arn:aws:iam::000000000000:role/team/other
  command: {args: [/usr/bin/give, --role, other], timeout: 5s}
- arn: arn:aws:iam::000000000000:role/*
  assume:
    roleArn: arn:aws:iam::123456789012:role/real
    endpoint: https://sts.example.com
    region: eu-west-1
    externalId: x
    sessionTags: false
    profile: ops
`))
	require.NoError(t, err)
	no := false
	require.Equal(t, []Role{
		{ARN: role, Static: &KeyPair{"AKIA", "hush", "token"}},
		{ARN: "arn:aws:iam::000000000000:role/team/other", Command: &Command{[]string{"/usr/bin/give", "--role", "other"}, 5 * time.Second}},
		{ARN: "arn:aws:iam::000000000000:role/*", Assume: &Assume{
			RoleARN: "arn:aws:iam::123456789012:role/real", Endpoint: "https://sts.example.com", Region: "eu-west-1",
			ExternalID: "x", SessionTags: &no, Profile: "ops",
		}},
	}, file.Roles)

	file, err = Parse([]byte("roles: [{arn: " + role + ", command: {args: [x]}}]"))
	require.NoError(t, err)
	require.Equal(t, DefaultCommandTimeout, file.Roles[0].Command.Timeout)
}

func TestRolesThatSayTooLittleOrTooMuchAreRefused(t *testing.T) {
	const static = "static: {accessKeyId: a, secretAccessKey: b}"
	for text, want := range map[string]string{
		"{arn: x, " + static + "}":                                                              "roles[0]: arn is",
		"{arn: '*', " + static + "}":                                                            "roles[0]: arn is",
		"{arn: 'arn:aws:iam::*:role/*', " + static + "}":                                        "roles[0]: arn is",
		"{arn: '" + role + "*', " + static + "}":                                                "roles[0]: arn is",
		"{arn: " + role + "}":                                                                   "one of static, command and assume",
		"{arn: " + role + ", " + static + ", assume: {}}":                                       "one of static, command and assume",
		"{arn: " + role + ", static: {accessKeyId: a}}":                                         "secretAccessKey",
		"{arn: " + role + ", command: {}}":                                                      "args is empty",
		"{arn: " + role + ", command: {args: ['']}}":                                            "args is empty",
		"{arn: " + role + ", command: {args: [a], timeout: 1h}}":                                "timeout",
		"{arn: " + role + ", command: {args: [a], timeout: -1s}}":                               "timeout",
		"{arn: " + role + ", assume: {roleArn: x}}":                                             "roleArn",
		"{arn: " + role + ", assume: {endpoint: ftp://x}}":                                      "endpoint",
		"{arn: " + role + ", assume: {keys: {}}}":                                               "keys: accessKeyId",
		"{arn: " + role + ", assume: {profile: p, keys: {accessKeyId: a, secretAccessKey: b}}}": "exclude each other",
		"{arn: " + role + ", " + static + "}, {arn: " + role + ", " + static + "}":              "has an entry already",
	} {
		_, err := Parse([]byte("roles: [" + text + "]"))
		require.ErrorContains(t, err, want, text)
		require.ErrorContains(t, err, "line 1: roles[", text)
	}
}

func TestErrorsQuoteNoSecret(t *testing.T) {
	for _, text := range []string{
		"roles:\n- arn: " + role + "\n  static:\n    accessKeyId: a\n    secretAccesKey: hush-hush\n",
		"roles:\n- arn: " + role + "\n  static:\n    accessKeyId: a\n    secretAccessKey: hush-hush\n    more: 1\n",
		"roles:\n- arn: " + role + "\n  static:\n    secretAccessKey: [hush-hush]\n",
		"roles:\n- arn: " + role + "\n  static: hush-hush\n",
		"roles:\n- secretAccessKey: hush-hush\n\t- x\n",
		"roles:\n- arn: " + role + "\n  static:\n    secretAccessKey: \"hush-hush\n",
	} {
		_, err := Parse([]byte(text))
		require.Error(t, err, text)
		require.NotContains(t, err.Error(), "hush", text)
	}
}

func TestTheRolesInTheDocumentationAreRight(t *testing.T) {
	page, err := os.ReadFile("../../docs/identity.md")
	require.NoError(t, err)
	_, rest, found := strings.Cut(string(page), "```yaml\n")
	require.True(t, found)
	example, _, found := strings.Cut(rest, "```")
	require.True(t, found)
	file, err := Parse([]byte(example))
	require.NoError(t, err)
	require.Len(t, file.Roles, 4)
	require.NotNil(t, file.Roles[0].Static)
	require.NotNil(t, file.Roles[1].Command)
	require.Equal(t, "arn:aws:iam::123456789012:role/app", file.Roles[2].Assume.RoleARN)
	require.NotNil(t, file.Roles[3].Assume)
}
