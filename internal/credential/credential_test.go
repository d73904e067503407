package credential_test

import (
	"context"
	"encoding/json"
	"errors"
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

func TestSessions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		root := credential.New()
		issuer, err := credential.NewIssuer(root.SessionKey)
		if err != nil {
			t.Fatal(err)
		}
		s, err := issuer.Issue(role, "hello", time.Now(), time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		if !regexp.MustCompile(`^ASIA[A-Z2-7]{16}$`).MatchString(s.AccessKeyID) || len(s.SecretAccessKey) != 40 || !s.Expiration.Equal(time.Now().Add(time.Hour)) {
			t.Errorf("issued %+v", s)
		}
		finders := credential.Finders{root, issuer}
		find := func(id, token string) (credential.Key, error) { return finders.Find(context.Background(), id, token) }

		want := credential.Key{Secret: s.SecretAccessKey, Account: "123456789012", Principal: call.Principal{
			Type: call.AssumedRole, ARN: "arn:aws:sts::123456789012:assumed-role/app/hello", UserID: "AROAEXAMPLE:hello", AccessKeyID: s.AccessKeyID}}
		if k, err := find(s.AccessKeyID, s.SessionToken); err != nil || k != want || k.Principal != s.Principal {
			t.Errorf("found %+v, %v; want %+v", k, err, want)
		}
		want = credential.Key{Secret: root.SecretAccessKey, Account: root.Account, Principal: call.Principal{
			Type: call.Root, ARN: "arn:aws:iam::000000000000:root", UserID: "000000000000", AccessKeyID: root.AccessKeyID}}
		if k, err := find(root.AccessKeyID, ""); err != nil || k != want {
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

		other2, _ := issuer.Issue(role, "hello", time.Now(), time.Hour)
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

func TestIssueRejects(t *testing.T) {
	if _, err := credential.NewIssuer([]byte("short")); err == nil {
		t.Error("a short key is accepted")
	}
	issuer, _ := credential.NewIssuer(credential.New().SessionKey)
	for _, bad := range []string{"", "role", "arn:aws:iam::123456789012:user/x", "arn:aws:iam:::role/x", "arn:aws:lambda:r:1:role/x"} {
		if _, err := issuer.Issue(credential.Role{ARN: bad}, "s", time.Now(), time.Hour); err == nil {
			t.Errorf("a session of %q is issued", bad)
		}
	}
}

func FuzzFind(f *testing.F) {
	issuer, _ := credential.NewIssuer(make([]byte, 32))
	f.Add("ASIAAAAAAAAAAAAAAAAA", "AQ==")
	s, _ := issuer.Issue(role, "s", time.Now(), time.Hour)
	f.Add(s.AccessKeyID, s.SessionToken[:20])
	f.Fuzz(func(t *testing.T, id, token string) {
		k, err := issuer.Find(context.Background(), id, token)
		if err == nil && k.Secret == s.SecretAccessKey && (id != s.AccessKeyID || token != s.SessionToken) {
			t.Errorf("found a forged session: %q %q", id, token)
		}
	})
}

func BenchmarkFindSession(b *testing.B) {
	issuer, _ := credential.NewIssuer(make([]byte, 32))
	s, _ := issuer.Issue(role, "s", time.Now(), time.Hour)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := issuer.Find(b.Context(), s.AccessKeyID, s.SessionToken); err != nil {
			b.Fatal(err)
		}
	}
}
