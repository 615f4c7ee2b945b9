package main

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strconv"
	"strings"
)

// account is who the app runs as.
type account struct {
	UID    uint32   `json:"uid"`
	GID    uint32   `json:"gid"`
	Groups []uint32 `json:"groups"` // supplementary
	Home   string   `json:"home"`
}

const (
	// maxAccountFile bounds /etc/passwd and /etc/group of an image, in bytes.
	maxAccountFile = 1 << 20
	// maxGroups is NGROUPS_MAX of Linux.
	maxGroups = 65536
	// maxID keeps (uid_t)-1 out, which setresuid(2) takes as "do not change".
	maxID = 1<<31 - 1
)

// resolveUser finds out who a Dockerfile's USER is ("", name, uid, name:group, uid:gid) in the image.
func resolveUser(root *imageRoot, user string) (account, error) {
	passwd, err := readAccountFile(root, "etc/passwd")
	if err != nil {
		return account{}, err
	}
	group, err := readAccountFile(root, "etc/group")
	if err != nil {
		return account{}, err
	}
	return lookUpUser(passwd, group, user)
}

// readAccountFile returns "" for a file the image does not have: numbers work without it.
func readAccountFile(root *imageRoot, path string) (string, error) {
	content, err := root.readFile(path, maxAccountFile)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	return string(content), err
}

// lookUpUser follows the rules of container runtimes: a number needs no entry, a name does; without an
// explicit group the user's own groups count; the default group of an unknown uid is 0.
func lookUpUser(passwd, group, user string) (account, error) {
	name, groupName, hasGroup := strings.Cut(user, ":")
	if name == "" {
		name = "0"
	}
	who := account{Home: "/"}
	login, known := findUser(passwd, name, &who)
	if !known {
		uid, err := parseID(name)
		if err != nil {
			return account{}, fmt.Errorf("user %q is not in the image's /etc/passwd", name)
		}
		who.UID = uid
	}
	if hasGroup && groupName != "" {
		gid, err := findGroup(group, groupName)
		if err != nil {
			return account{}, err
		}
		who.GID = gid
		return who, nil
	}
	if known {
		who.Groups = groupsOf(group, login)
	}
	return who, nil
}

// findUser looks for a name or a uid and fills who in from its line.
func findUser(passwd, name string, who *account) (login string, found bool) {
	for fields := range accountLines(passwd, 7) {
		if fields[0] != name && fields[2] != name {
			continue
		}
		uid, uidErr := parseID(fields[2])
		gid, gidErr := parseID(fields[3])
		if uidErr != nil || gidErr != nil {
			continue
		}
		who.UID, who.GID = uid, gid
		if strings.HasPrefix(fields[5], "/") {
			who.Home = fields[5]
		}
		return fields[0], true
	}
	return "", false
}

func findGroup(group, name string) (uint32, error) {
	for fields := range accountLines(group, 4) {
		if fields[0] == name {
			if gid, err := parseID(fields[2]); err == nil {
				return gid, nil
			}
		}
	}
	gid, err := parseID(name)
	if err != nil {
		return 0, fmt.Errorf("group %q is not in the image's /etc/group", name)
	}
	return gid, nil
}

// groupsOf lists the groups a user is a member of.
func groupsOf(group, login string) (gids []uint32) {
	for fields := range accountLines(group, 4) {
		if !slices.Contains(strings.Split(fields[3], ","), login) {
			continue
		}
		if gid, err := parseID(fields[2]); err == nil && len(gids) < maxGroups && !slices.Contains(gids, gid) {
			gids = append(gids, gid)
		}
	}
	return gids
}

// accountLines yields the lines that have the right number of fields.
func accountLines(content string, fields int) func(func([]string) bool) {
	return func(yield func([]string) bool) {
		for line := range strings.Lines(content) {
			parts := strings.Split(strings.TrimRight(line, "\r\n"), ":")
			if len(parts) == fields && parts[0] != "" && !yield(parts) {
				return
			}
		}
	}
}

func parseID(text string) (uint32, error) {
	id, err := strconv.ParseUint(text, 10, 32)
	if err != nil || id > maxID {
		return 0, errors.New("not a user or group number")
	}
	return uint32(id), nil
}
