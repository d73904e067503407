package iam

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mayflyhq/mayfly/internal/aws/api/iamapi"
	"github.com/mayflyhq/mayfly/internal/call"
	"github.com/mayflyhq/mayfly/internal/credential"
	"github.com/mayflyhq/mayfly/internal/kv"
)

const maxKeys = 2 // of a user

func noSuchKey(id string) error {
	return iamapi.ErrNoSuchEntityException("The Access Key with id %s cannot be found.", id)
}

func getKey(r kv.Reader, id string) (*accessKey, error) {
	rec, ok, err := kv.GetJSON[accessKey](r, accessKeyKey(id))
	if err != nil || !ok {
		return nil, err
	}
	return &rec, nil
}

func changeKey(tx kv.Tx, id string, f func(k *accessKey)) error {
	k, err := getKey(tx, id)
	if err != nil {
		return err
	}
	if k == nil {
		return noSuchKey(id)
	}
	f(k)
	return kv.SetJSON(tx, accessKeyKey(id), k)
}

func (k *accessKey) status() *string {
	if k.Active {
		return new(iamapi.StatusTypeActive)
	}
	return new(iamapi.StatusTypeInactive)
}

// createAccessKey is the only answer that holds the secret.
func (s *Service) createAccessKey(ctx context.Context, in *iamapi.CreateAccessKeyInput) (*iamapi.CreateAccessKeyOutput, error) {
	name, err := s.userName(ctx, in.UserName)
	if err != nil {
		return nil, err
	}
	k := &accessKey{ID: credential.NewKeyID("AKIA", account(ctx)), Secret: credential.NewSecret(), Account: account(ctx), Active: true, Created: now()}
	_, err = s.changeUser(ctx, name, func(tx kv.Tx, u *user) error {
		if len(u.Keys) >= maxKeys {
			return iamapi.ErrLimitExceededException("Cannot exceed quota for AccessKeysPerUser: %d", maxKeys)
		}
		k.User = u.Name
		u.Keys = append(u.Keys, k.ID)
		return kv.SetJSON(tx, accessKeyKey(k.ID), k)
	})
	if err != nil {
		return nil, err
	}
	return &iamapi.CreateAccessKeyOutput{AccessKey: &iamapi.AccessKey{
		UserName: &k.User, AccessKeyId: &k.ID, Status: k.status(), SecretAccessKey: &k.Secret, CreateDate: &k.Created,
	}}, nil
}

func (s *Service) listAccessKeys(ctx context.Context, in *iamapi.ListAccessKeysInput) (*iamapi.ListAccessKeysOutput, error) {
	name, err := s.userName(ctx, in.UserName)
	if err != nil {
		return nil, err
	}
	keys := []iamapi.AccessKeyMetadata{}
	err = s.db.View(ctx, func(r kv.Reader) error {
		u, err := getUser(r, account(ctx), name)
		if err != nil {
			return err
		}
		for _, id := range slices.Sorted(slices.Values(u.Keys)) {
			k, err := getKey(r, id)
			if err != nil || k == nil {
				return err
			}
			keys = append(keys, iamapi.AccessKeyMetadata{UserName: &u.Name, AccessKeyId: &k.ID, Status: k.status(), CreateDate: &k.Created})
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	out := &iamapi.ListAccessKeysOutput{}
	out.AccessKeyMetadata, out.IsTruncated, out.Marker = page(keys, func(k iamapi.AccessKeyMetadata) string { return *k.AccessKeyId }, in.Marker, in.MaxItems)
	return out, nil
}

func (s *Service) updateAccessKey(ctx context.Context, in *iamapi.UpdateAccessKeyInput) (*iamapi.UpdateAccessKeyOutput, error) {
	return nil, s.changeUserKey(ctx, in.UserName, *in.AccessKeyId, func(tx kv.Tx, _ *user) error {
		return changeKey(tx, *in.AccessKeyId, func(k *accessKey) { k.Active = *in.Status == iamapi.StatusTypeActive })
	})
}

func (s *Service) deleteAccessKey(ctx context.Context, in *iamapi.DeleteAccessKeyInput) (*iamapi.DeleteAccessKeyOutput, error) {
	return nil, s.changeUserKey(ctx, in.UserName, *in.AccessKeyId, func(tx kv.Tx, u *user) error {
		u.Keys = slices.DeleteFunc(u.Keys, func(id string) bool { return id == *in.AccessKeyId })
		tx.Delete(accessKeyKey(*in.AccessKeyId))
		return nil
	})
}

// changeUserKey lets f change a key of a user, and the user.
func (s *Service) changeUserKey(ctx context.Context, userName *string, id string, f func(tx kv.Tx, u *user) error) error {
	name, err := s.userName(ctx, userName)
	if err != nil {
		return err
	}
	_, err = s.changeUser(ctx, name, func(tx kv.Tx, u *user) error {
		if !slices.Contains(u.Keys, id) {
			return noSuchKey(id)
		}
		return f(tx, u)
	})
	return err
}

func (s *Service) getAccessKeyLastUsed(ctx context.Context, in *iamapi.GetAccessKeyLastUsedInput) (*iamapi.GetAccessKeyLastUsedOutput, error) {
	var k *accessKey
	err := s.db.View(ctx, func(r kv.Reader) (err error) {
		k, err = getKey(r, *in.AccessKeyId)
		return err
	})
	if err != nil {
		return nil, err
	}
	if k == nil || k.Account != account(ctx) {
		return nil, noSuchKey(*in.AccessKeyId)
	}
	out := &iamapi.GetAccessKeyLastUsedOutput{UserName: &k.User, AccessKeyLastUsed: &iamapi.AccessKeyLastUsed{ServiceName: new("N/A"), Region: new("N/A")}}
	if at := s.used.last(k.ID); !at.IsZero() {
		out.AccessKeyLastUsed.LastUsedDate = &at
	}
	return out, nil
}

// uses remembers when keys were used last, since the start, to the minute. Calls with one key in one minute only read.
type uses struct{ minutes sync.Map } // of *atomic.Int64, minutes since 1970, by key id

func (u *uses) note(id string) {
	minute := time.Now().Unix() / 60
	known, ok := u.minutes.Load(id)
	if !ok {
		known, _ = u.minutes.LoadOrStore(id, new(atomic.Int64))
	}
	if at := known.(*atomic.Int64); at.Load() != minute {
		at.Store(minute)
	}
}

func (u *uses) last(id string) time.Time {
	known, ok := u.minutes.Load(id)
	if !ok {
		return time.Time{}
	}
	return time.Unix(known.(*atomic.Int64).Load()*60, 0).UTC()
}

// Find implements credential.Finder for the access keys of users. Known keys are answered from memory.
func (s *Service) Find(ctx context.Context, accessKeyID, token string) (credential.Key, error) {
	if _, ok := credential.AccountOf(accessKeyID); !ok {
		return credential.Key{}, credential.ErrUnknownKey
	}
	pick := func(c *compiled) map[string]*credential.Key { return c.keys }
	k, ok := recall(s, pick, accessKeyID)
	if !ok {
		var err error
		k, err = learn(s, ctx, pick, accessKeyID, func(r kv.Reader) (*credential.Key, error) { return readKey(r, accessKeyID) })
		if err != nil {
			return credential.Key{}, err
		}
	}
	switch {
	case k == nil:
		return credential.Key{}, credential.ErrUnknownKey
	case token != "": // a long-lived key comes without
		return credential.Key{}, credential.ErrInvalidToken
	}
	s.used.note(accessKeyID)
	return *k, nil
}

// readKey reads an active key, and its user as policies see it; nil if there is none.
func readKey(r kv.Reader, id string) (*credential.Key, error) {
	k, err := getKey(r, id)
	if err != nil || k == nil || !k.Active {
		return nil, err
	}
	u, err := getUser(r, k.Account, k.User)
	if isNoSuchEntity(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return &credential.Key{Secret: k.Secret, Account: k.Account, Principal: call.Principal{
		Type: call.User, ARN: entityARN(k.Account, "user", u.Path, u.Name), UserID: u.ID, AccessKeyID: k.ID,
	}}, nil
}

var _ credential.Finder = (*Service)(nil)
