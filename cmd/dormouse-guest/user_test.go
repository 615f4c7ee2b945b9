package main

import (
	"reflect"
	"strings"
	"testing"
)

const (
	testPasswd = "root:x:0:0:root:/root:/bin/sh\nbroken line\napp:x:1000:1001:App:/home/app:/bin/sh\n1234:x:77:78::/odd:\nbad:x:-1:0::/:\n" +
		"huge:x:4294967295:0::/:\nrelative:x:5:5::home:/bin/sh\n"
	testGroup = "root:x:0:\nstaff:x:50:app,other\naudio:x:51:other,app\nodd:x:x:app\n2000:x:60:\n"
)

func TestLookUpUserFollowsContainerRuntimes(t *testing.T) {
	for _, test := range []struct {
		user string
		want account
		fail string
	}{
		{user: "", want: account{Home: "/root"}},
		{user: "root", want: account{Home: "/root"}},
		{user: "app", want: account{UID: 1000, GID: 1001, Groups: []uint32{50, 51}, Home: "/home/app"}},
		{user: "1000", want: account{UID: 1000, GID: 1001, Groups: []uint32{50, 51}, Home: "/home/app"}},
		{user: "app:staff", want: account{UID: 1000, GID: 50, Home: "/home/app"}},
		{user: "app:7", want: account{UID: 1000, GID: 7, Home: "/home/app"}},
		{user: "app:", want: account{UID: 1000, GID: 1001, Groups: []uint32{50, 51}, Home: "/home/app"}},
		{user: ":staff", want: account{GID: 50, Home: "/root"}},
		{user: "4242", want: account{UID: 4242, Home: "/"}},
		{user: "4242:4243", want: account{UID: 4242, GID: 4243, Home: "/"}},
		{user: "1234", want: account{UID: 77, GID: 78, Home: "/odd"}}, // a name goes before a number
		{user: "relative", want: account{UID: 5, GID: 5, Home: "/"}},
		{user: "nobody", fail: `user "nobody" is not in the image's /etc/passwd`},
		{user: "bad", fail: `user "bad" is not`},
		{user: "huge", fail: `user "huge" is not`},
		{user: "4294967295", fail: `user "4294967295" is not`},
		{user: "app:nogroup", fail: `group "nogroup" is not`},
		{user: "app:2000", want: account{UID: 1000, GID: 60, Home: "/home/app"}},
	} {
		got, err := lookUpUser(testPasswd, testGroup, test.user)
		if test.fail != "" {
			if err == nil || !strings.Contains(err.Error(), test.fail) {
				t.Errorf("user %q: %+v, %v, want error %q", test.user, got, err, test.fail)
			}
		} else if err != nil || !reflect.DeepEqual(got, test.want) {
			t.Errorf("user %q: %+v, %v, want %+v", test.user, got, err, test.want)
		}
	}
}

func TestNumbersNeedNoAccountFiles(t *testing.T) {
	if got, err := lookUpUser("", "", "65532:65532"); err != nil || got.UID != 65532 || got.GID != 65532 {
		t.Errorf("%+v, %v", got, err)
	}
}

func FuzzLookUpUser(f *testing.F) {
	f.Add(testPasswd, testGroup, "app:staff")
	f.Add("a:b:c:d:e:f:g", "a:b:c:d", "a")
	f.Fuzz(func(t *testing.T, passwd, group, user string) {
		got, err := lookUpUser(passwd, group, user)
		if err != nil {
			return
		}
		if got.UID > maxID || got.GID > maxID || len(got.Groups) > maxGroups || !strings.HasPrefix(got.Home, "/") {
			t.Fatalf("user %q: %+v", user, got)
		}
	})
}
