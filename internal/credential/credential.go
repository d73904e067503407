// Package credential makes and finds access keys: the root key of an installation, kept in its data directory, and the
// temporary credentials of roles and users, which need no storage because their session token says all.
package credential

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"

	"github.com/mayflyhq/mayfly/internal/arn"
	"github.com/mayflyhq/mayfly/internal/call"
)

// The account and region of an installation that chose none.
const (
	DefaultAccount = "000000000000"
	DefaultRegion  = "us-east-1"
)

// FileName is the file in the data directory that holds the root credentials, mode 0600.
const FileName = "credentials"

// Errors of finding a key. A caller turns them into the error of its protocol.
var (
	ErrUnknownKey   = errors.New("credential: no such access key")
	ErrInvalidToken = errors.New("credential: invalid session token")
	ErrExpiredToken = errors.New("credential: expired session token")
)

// Key is what an access key id stands for.
type Key struct {
	Secret    string
	Account   string
	Principal call.Principal
}

// Finder finds access keys. A Finder is safe for concurrent use.
type Finder interface {
	// Find returns the key with an id. The token is that of temporary credentials, else empty. It fails with ErrUnknownKey,
	// ErrInvalidToken, ErrExpiredToken, or an error of the store.
	Find(ctx context.Context, accessKeyID, token string) (Key, error)
}

// Finders asks one after the other until one knows the key.
type Finders []Finder

// Find implements Finder.
func (f Finders) Find(ctx context.Context, accessKeyID, token string) (Key, error) {
	for _, finder := range f {
		if k, err := finder.Find(ctx, accessKeyID, token); !errors.Is(err, ErrUnknownKey) {
			return k, err
		}
	}
	return Key{}, ErrUnknownKey
}

// Root is the identity of an installation: its account, its root access key, and the key from which those of role
// sessions are derived. It is immutable, and itself a Finder that knows the root key only.
type Root struct {
	Account         string `json:"account"` // twelve digits
	Region          string `json:"region"`  // the default of clients that state none
	AccessKeyID     string `json:"accessKeyId"`
	SecretAccessKey string `json:"secretAccessKey"`
	SessionKey      []byte `json:"sessionKey"` // 32 bytes; see NewIssuer
}

// New makes new root credentials for the default account and region, kept nowhere: those of an ephemeral installation.
func New() *Root {
	r := &Root{Account: DefaultAccount, Region: DefaultRegion, AccessKeyID: NewKeyID("AKIA", DefaultAccount), SecretAccessKey: NewSecret(), SessionKey: make([]byte, sessionKeySize)}
	rand.Read(r.SessionKey)
	return r
}

// Load reads the root credentials from a data directory. The error is fs.ErrNotExist, wrapped, if there are none.
func Load(dir string) (*Root, error) {
	path := filepath.Join(dir, FileName)
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("credential: %w", err)
	}
	r := new(Root)
	if err := json.Unmarshal(b, r); err != nil {
		return nil, fmt.Errorf("credential: %s: %w", path, err)
	}
	if err := r.validate(); err != nil {
		return nil, fmt.Errorf("credential: %s: %w", path, err)
	}
	return r, nil
}

// LoadOrCreate reads the root credentials from a data directory, or makes them there, durable before it returns. Of several
// that create at the same time all return the credentials of one.
func LoadOrCreate(dir string) (*Root, error) {
	r, err := Load(dir)
	if !errors.Is(err, fs.ErrNotExist) {
		return r, err
	}
	r = New()
	if err := r.save(dir); errors.Is(err, fs.ErrExist) {
		return Load(dir)
	} else if err != nil {
		return nil, fmt.Errorf("credential: %w", err)
	}
	return r, nil
}

// save writes the file so that it is there whole or not at all. It fails with fs.ErrExist if there is one.
func (r *Root) save(dir string) error {
	b, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	f, err := os.CreateTemp(dir, "."+FileName+"-*") // mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.Write(append(b, '\n'))
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Link(f.Name(), filepath.Join(dir, FileName)) // unlike a rename it never replaces
	}
	if err != nil {
		return err
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

var (
	accountForm = regexp.MustCompile(`^[0-9]{12}$`)
	keyIDForm   = regexp.MustCompile(`^[A-Za-z0-9]{16,128}$`)
)

func (r *Root) validate() error {
	switch {
	case !accountForm.MatchString(r.Account):
		return fmt.Errorf("account is %q, not twelve digits", r.Account)
	case r.Region == "":
		return errors.New("region is missing")
	case !keyIDForm.MatchString(r.AccessKeyID):
		return fmt.Errorf("accessKeyId is %q, not 16 to 128 letters and digits", r.AccessKeyID)
	case len(r.SecretAccessKey) < 16:
		return errors.New("secretAccessKey is missing or shorter than 16 characters")
	case len(r.SessionKey) != sessionKeySize:
		return fmt.Errorf("sessionKey has %d bytes, not %d", len(r.SessionKey), sessionKeySize)
	}
	return nil
}

// Find implements Finder.
func (r *Root) Find(_ context.Context, accessKeyID, token string) (Key, error) {
	if accessKeyID != r.AccessKeyID {
		return Key{}, ErrUnknownKey
	}
	if token != "" { // a long-lived key comes without
		return Key{}, ErrInvalidToken
	}
	return Key{Secret: r.SecretAccessKey, Account: r.Account, Principal: r.Principal()}, nil
}

// Principal is the root user of the account.
func (r *Root) Principal() call.Principal { return RootPrincipal(r.Account, r.AccessKeyID) }

// RootPrincipal is the root user of any account.
func RootPrincipal(account, accessKeyID string) call.Principal {
	return call.Principal{Type: call.Root, ARN: arn.New("iam", "", account, "root").String(), UserID: account, AccessKeyID: accessKeyID}
}

var (
	_ Finder = (*Root)(nil)
	_ Finder = (*Issuer)(nil)
	_ Finder = Finders(nil)
)
