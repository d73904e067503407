package credential_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/mayflyhq/mayfly/internal/call"
	"github.com/mayflyhq/mayfly/internal/credential"
)

func TestRoot(t *testing.T) {
	dir := t.TempDir()
	if _, err := credential.Load(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("Load of an empty directory: %v", err)
	}
	r, err := credential.LoadOrCreate(dir)
	if err != nil {
		t.Fatal(err)
	}
	if !regexp.MustCompile(`^AKIA[A-Z2-7]{16}$`).MatchString(r.AccessKeyID) || len(r.SecretAccessKey) != 40 || r.Account != "000000000000" || r.Region != "us-east-1" {
		t.Errorf("created %+v", r)
	}
	info, err := os.Stat(filepath.Join(dir, credential.FileName))
	if err != nil || info.Mode() != 0o600 {
		t.Errorf("file: %v, %v", info, err)
	}
	again, err := credential.LoadOrCreate(dir)
	if err != nil || !cmp.Equal(r, again) {
		t.Errorf("second LoadOrCreate: %+v, %v", again, err)
	}
	if entries, _ := os.ReadDir(dir); len(entries) != 1 {
		t.Errorf("left behind: %v", entries)
	}
	if other := credential.New(); other.AccessKeyID == r.AccessKeyID || other.SecretAccessKey == r.SecretAccessKey {
		t.Error("two installations have the same key")
	}
}

func TestConcurrentCreation(t *testing.T) {
	dir := t.TempDir()
	got := make([]*credential.Root, 8)
	var wg sync.WaitGroup
	for i := range got {
		wg.Go(func() {
			var err error
			if got[i], err = credential.LoadOrCreate(dir); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	for _, r := range got[1:] {
		if !cmp.Equal(r, got[0]) {
			t.Fatal("two creators got different credentials")
		}
	}
}

func TestLoadRejects(t *testing.T) {
	good, _ := json.Marshal(credential.New())
	for name, c := range map[string]struct{ old, new, want string }{
		"account":  {`"000000000000"`, `"12"`, "twelve digits"},
		"region":   {`"us-east-1"`, `""`, "region is missing"},
		"key":      {`"accessKeyId":"AKIA`, `"accessKeyId":"!`, "accessKeyId is"},
		"secret":   {`"secretAccessKey"`, `"other"`, "secretAccessKey is missing"},
		"session":  {`"sessionKey":"`, `"sessionKey":"AAAA`, "sessionKey has 35 bytes"},
		"not JSON": {`{`, `[`, "invalid character"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			os.WriteFile(filepath.Join(dir, credential.FileName), []byte(strings.Replace(string(good), c.old, c.new, 1)), 0o600)
			for _, load := range []func(string) (*credential.Root, error){credential.Load, credential.LoadOrCreate} {
				if _, err := load(dir); err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), dir) {
					t.Errorf("error %v, want %q and the path in it", err, c.want)
				}
			}
		})
	}
}

func TestCreateFails(t *testing.T) {
	if _, err := credential.LoadOrCreate(filepath.Join(t.TempDir(), "missing")); err == nil {
		t.Error("no error for a directory that does not exist")
	}
}

var role = credential.Role{ARN: "arn:aws:iam::123456789012:role/service/app", ID: "AROAEXAMPLE"}

// hello is a session of role that holds for an hour.
func hello() call.Principal {
	now := time.Now().UTC()
	p, err := role.Assumed("hello", call.Session{Issued: now, Expires: now.Add(time.Hour)})
	if err != nil {
		panic(err)
	}
	return p
}

func TestSessions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		root := credential.New()
		issuer, err := credential.NewIssuer(root.SessionKey)
		if err != nil {
			t.Fatal(err)
		}
		s, err := issuer.Issue(hello())
		if err != nil {
			t.Fatal(err)
		}
		if !regexp.MustCompile(`^ASIA[A-Z2-7]{16}$`).MatchString(s.AccessKeyID) || len(s.SecretAccessKey) != 40 || !s.Expiration.Equal(time.Now().Add(time.Hour)) {
			t.Errorf("issued %+v", s)
		}
		finders := credential.Finders{root, issuer}
		find := func(id, token string) (credential.Key, error) { return finders.Find(context.Background(), id, token) }

		want := credential.Key{Secret: s.SecretAccessKey, Account: "123456789012", Principal: call.Principal{
			Type: call.AssumedRole, ARN: "arn:aws:sts::123456789012:assumed-role/app/hello", UserID: "AROAEXAMPLE:hello", AccessKeyID: s.AccessKeyID,
			Session: &call.Session{Issuer: role.ARN, Issued: time.Now().UTC(), Expires: time.Now().UTC().Add(time.Hour)}}}
		if k, err := find(s.AccessKeyID, s.SessionToken); err != nil || !cmp.Equal(k, want) || !cmp.Equal(k.Principal, s.Principal) {
			t.Errorf("found %+v, %v; want %+v", k, err, want)
		}
		want = credential.Key{Secret: root.SecretAccessKey, Account: root.Account, Principal: call.Principal{
			Type: call.Root, ARN: "arn:aws:iam::000000000000:root", UserID: "000000000000", AccessKeyID: root.AccessKeyID}}
		if k, err := find(root.AccessKeyID, ""); err != nil || !cmp.Equal(k, want) {
			t.Errorf("found %+v, %v; want %+v", k, err, want)
		}

		// Another process with the same key knows the session, one with another key does not.
		same, _ := credential.NewIssuer(root.SessionKey)
		if k, err := same.Find(t.Context(), s.AccessKeyID, s.SessionToken); err != nil || k.Secret != s.SecretAccessKey {
			t.Errorf("after a restart: %v", err)
		}
		other, _ := credential.NewIssuer(credential.New().SessionKey)
		if _, err := other.Find(t.Context(), s.AccessKeyID, s.SessionToken); err != credential.ErrInvalidToken {
			t.Errorf("under another key: %v", err)
		}

		other2, _ := issuer.Issue(hello())
		for _, c := range []struct {
			id, token string
			want      error
		}{
			{"AKIAUNKNOWN", "", credential.ErrUnknownKey},
			{root.AccessKeyID, s.SessionToken, credential.ErrInvalidToken},
			{s.AccessKeyID, "", credential.ErrInvalidToken},
			{s.AccessKeyID, "x", credential.ErrInvalidToken},
			{s.AccessKeyID, "AQ==", credential.ErrInvalidToken},
			{s.AccessKeyID, s.SessionToken[:len(s.SessionToken)-4], credential.ErrInvalidToken},
			{other2.AccessKeyID, s.SessionToken, credential.ErrInvalidToken}, // a token belongs to its key id
		} {
			if _, err := find(c.id, c.token); err != c.want {
				t.Errorf("Find(%q, %.10q…) = %v, want %v", c.id, c.token, err, c.want)
			}
		}
		time.Sleep(time.Hour - 1)
		if _, err := find(s.AccessKeyID, s.SessionToken); err != nil {
			t.Errorf("just before it expires: %v", err)
		}
		time.Sleep(1)
		if _, err := find(s.AccessKeyID, s.SessionToken); err != credential.ErrExpiredToken {
			t.Errorf("when it expired: %v", err)
		}
	})
}

// A session that was issued before the clock was set back holds at once, and until the clock says that it expires, however often it is set.
func TestClockSetBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		issuer, err := credential.NewIssuer(credential.New().SessionKey)
		if err != nil {
			t.Fatal(err)
		}
		before := time.Now().Add(time.Hour) // what the clock said
		p, err := role.Assumed("hello", call.Session{Issued: before, Expires: before.Add(time.Hour)})
		if err != nil {
			t.Fatal(err)
		}
		s, err := issuer.Issue(p)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range []struct {
			wait time.Duration
			want error
		}{{0, nil}, {time.Hour, nil}, {time.Hour - 1, nil}, {1, credential.ErrExpiredToken}} {
			time.Sleep(c.wait)
			if _, err := issuer.Find(t.Context(), s.AccessKeyID, s.SessionToken); err != c.want {
				t.Errorf("%v before it expires: %v, want %v", time.Until(s.Expiration), err, c.want)
			}
		}
	})
}

func TestIssueRejects(t *testing.T) {
	if _, err := credential.NewIssuer([]byte("short")); err == nil {
		t.Error("a short key is accepted")
	}
	issuer, _ := credential.NewIssuer(credential.New().SessionKey)
	for _, bad := range []string{"", "role", "arn:aws:iam::123456789012:user/x", "arn:aws:iam:::role/x", "arn:aws:lambda:r:1:role/x"} {
		if _, err := (credential.Role{ARN: bad}).Assumed("s", call.Session{}); err == nil {
			t.Errorf("a session of %q is made", bad)
		}
	}
	large := hello()
	large.Session.Policies = []string{strings.Repeat("x", 64<<10)}
	for _, bad := range []call.Principal{{}, {ARN: "arn:aws:iam::123456789012:user/x"}, {ARN: "arn:aws:iam:::user/x", Session: &call.Session{}}, large} {
		if _, err := issuer.Issue(bad); err == nil {
			t.Errorf("credentials of %q are issued", bad.ARN)
		}
	}
}

// everything is a session in which nothing is missing.
func everything() call.Principal {
	return call.Principal{Type: call.FederatedUser, ARN: "arn:aws:sts::123456789012:federated-user/bob", UserID: "123456789012:bob", Session: &call.Session{
		Issuer: "arn:aws:iam::123456789012:user/a/alice", Issued: time.Now().UTC().Truncate(time.Second), Expires: time.Now().UTC().Truncate(time.Second).Add(time.Hour),
		Provider: "arn:aws:iam::123456789012:oidc-provider/example.com", Subject: "42",
		Policies: []string{`{"Version":"2012-10-17"}`, ""}, PolicyARNs: []string{"arn:aws:iam::aws:policy/ReadOnlyAccess"},
		Tags: map[string]string{"a": "1", "b": "", "Ü": "ü"}, TransitiveTags: []string{"b", "a"}, SourceIdentity: "alice", MFA: true,
		Function: "arn:aws:lambda:us-east-1:123456789012:function:f",
	}}
}

func TestSessionCarriesEverything(t *testing.T) {
	issuer, _ := credential.NewIssuer(credential.New().SessionKey)
	small, large := everything(), everything()
	for i := range 300 {
		large.Session.Policies = append(large.Session.Policies, fmt.Sprintf("policy %d of many", i))
	}
	for name, p := range map[string]call.Principal{"small": small, "large": large} {
		s, err := issuer.Issue(p)
		if err != nil {
			t.Fatal(err)
		}
		k, err := issuer.Find(t.Context(), s.AccessKeyID, s.SessionToken)
		p.AccessKeyID = s.AccessKeyID
		if diff := cmp.Diff(p, k.Principal); err != nil || diff != "" {
			t.Errorf("%s: %v\n%s", name, err, diff)
		}
		if len(s.SessionToken) > 3000 {
			t.Errorf("%s: the token has %d bytes", name, len(s.SessionToken))
		}
	}
}

// A token that a server of version 1 issued.
func TestOldToken(t *testing.T) {
	issuer, _ := credential.NewIssuer(bytes.Repeat([]byte{7}, 32))
	k, err := issuer.Find(t.Context(), "ASIAOVTVNOJHS5LYWDTP",
		"AW/Nvxpk4e4wz1JNY/4oMlolsQoi+QWj3sqLXEwhbjF0QQ3vPjGcdOHW9NHVL1glg5Z8lNLDJ4h/JAgxO3IRaf96j9OWDabJe9Y0FBX3W/PDkQ52cn5KEMibRqLur9s=")
	want := credential.Key{Secret: "nIKueT3yB3eFuI5O0iIQIOVPT/MS95lljCULbWuW", Account: "123456789012", Principal: call.Principal{
		Type: call.AssumedRole, ARN: "arn:aws:sts::123456789012:assumed-role/app/hello", UserID: "AROAEXAMPLE:hello", AccessKeyID: "ASIAOVTVNOJHS5LYWDTP",
		Session: &call.Session{Issuer: role.ARN, Expires: time.Date(2125, 12, 8, 0, 0, 0, 0, time.UTC)}}}
	if diff := cmp.Diff(want, k); err != nil || diff != "" {
		t.Errorf("%v\n%s", err, diff)
	}
}

func TestKeyIDs(t *testing.T) {
	for _, account := range []string{"000000000000", "123456789012", "999999999999"} {
		id := credential.NewKeyID("AKIA", account)
		if got, ok := credential.AccountOf(id); !ok || got != account || len(id) != 20 || id == credential.NewKeyID("AKIA", account) {
			t.Errorf("%s: %s is of %s", account, id, got)
		}
	}
	// The key of AWS's published example of the layout.
	if got, ok := credential.AccountOf("ASIAQNZGKIQY56JQ7WML"); !ok || got != "029608264753" {
		t.Errorf("AWS's key is of %s", got)
	}
	for _, bad := range []string{"", "AKIA", "AKIAIOSFODNN7EXAMPLE", "AKIA0000000000000000", "AKIAQAAAAAAAAAAAAAAAA", "AKIA7777777777777777"} {
		if got, ok := credential.AccountOf(bad); ok {
			t.Errorf("%q is of %s", bad, got)
		}
	}
}

func FuzzFind(f *testing.F) {
	issuer, _ := credential.NewIssuer(make([]byte, 32))
	f.Add("ASIAAAAAAAAAAAAAAAAA", "AQ==")
	s, _ := issuer.Issue(hello())
	f.Add(s.AccessKeyID, s.SessionToken[:20])
	f.Fuzz(func(t *testing.T, id, token string) {
		k, err := issuer.Find(context.Background(), id, token)
		if err == nil && k.Secret == s.SecretAccessKey && (id != s.AccessKeyID || token != s.SessionToken) {
			t.Errorf("found a forged session: %q %q", id, token)
		}
	})
}

func BenchmarkFindSession(b *testing.B) {
	large := everything()
	large.Session.Policies = []string{strings.Repeat(`{"Effect":"Allow","Action":"s3:GetObject","Resource":"*"},`, 30)}
	for name, p := range map[string]call.Principal{"function": hello(), "large": large} {
		b.Run(name, func(b *testing.B) { benchmarkFind(b, p) })
	}
}

func benchmarkFind(b *testing.B, p call.Principal) {
	issuer, _ := credential.NewIssuer(make([]byte, 32))
	s, _ := issuer.Issue(p)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := issuer.Find(b.Context(), s.AccessKeyID, s.SessionToken); err != nil {
			b.Fatal(err)
		}
	}
}
