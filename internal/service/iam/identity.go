package iam

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/mayflyhq/mayfly/internal/arn"
	"github.com/mayflyhq/mayfly/internal/authorize"
	"github.com/mayflyhq/mayfly/internal/aws/apierr"
	"github.com/mayflyhq/mayfly/internal/credential"
	"github.com/mayflyhq/mayfly/internal/kv"
	"github.com/mayflyhq/mayfly/internal/lang/iampolicy"
)

// store is the database, and counts what was written, so that what was compiled from it is known to be old.
type store struct {
	kv.DB
	generation atomic.Uint64
}

// Update counts before it returns: who reads the count afterwards sees the write.
func (s *store) Update(ctx context.Context, f func(kv.Tx) error) error {
	defer s.generation.Add(1)
	return s.DB.Update(ctx, f)
}

// compiled keeps what was made of the store's records at one generation, by ARN.
type compiled struct {
	mu         sync.RWMutex
	generation uint64
	identities map[string]*authorize.Identity // nil: does not exist
	policies   map[string]*iampolicy.Compiled
	arns       map[string]string          // by account, kind and name
	keys       map[string]*credential.Key // by access key id; nil: no active key
}

// maxCompiledEntries bounds each of the maps of compiled.
const maxCompiledEntries = 4096

// recall returns what is known under a key at the current generation.
func recall[T any](s *Service, pick func(*compiled) map[string]T, key string) (v T, ok bool) {
	s.compiled.mu.RLock()
	defer s.compiled.mu.RUnlock()
	if s.compiled.generation == s.db.generation.Load() {
		v, ok = pick(&s.compiled)[key]
	}
	return v, ok
}

// learn makes the value of a key and keeps it.
func learn[T any](s *Service, ctx context.Context, pick func(*compiled) map[string]T, key string, make func(kv.Reader) (T, error)) (v T, err error) {
	generation := s.db.generation.Load() // before what is read: a write in between makes it old
	err = s.db.View(ctx, func(r kv.Reader) (err error) {
		v, err = make(r)
		return err
	})
	if err != nil {
		return v, err
	}
	s.compiled.mu.Lock()
	defer s.compiled.mu.Unlock()
	switch c := &s.compiled; {
	case c.generation > generation:
		return v, nil // somebody was faster, with newer records
	case c.generation < generation:
		c.generation = generation
		c.clear()
	case len(pick(c)) >= maxCompiledEntries: // of this kind only: whoever makes up key ids costs nobody their policies
		clear(pick(c))
	}
	pick(&s.compiled)[key] = v
	return v, nil
}

func (c *compiled) clear() {
	c.identities, c.policies, c.arns = map[string]*authorize.Identity{}, map[string]*iampolicy.Compiled{}, map[string]string{}
	c.keys = map[string]*credential.Key{}
}

// Identity implements authorize.Identities.
func (s *Service) Identity(ctx context.Context, identityARN string) (*authorize.Identity, error) {
	pick := func(c *compiled) map[string]*authorize.Identity { return c.identities }
	if id, ok := recall(s, pick, identityARN); ok {
		return id, nil
	}
	return learn(s, ctx, pick, identityARN, func(r kv.Reader) (*authorize.Identity, error) { return readIdentity(r, identityARN) })
}

// ManagedPolicy implements authorize.Identities. The policies of AWS are those of every account.
func (s *Service) ManagedPolicy(ctx context.Context, policyARN string) (*iampolicy.Compiled, error) {
	pick := func(c *compiled) map[string]*iampolicy.Compiled { return c.policies }
	if p, ok := recall(s, pick, policyARN); ok {
		return p, nil
	}
	return learn(s, ctx, pick, policyARN, func(r kv.Reader) (*iampolicy.Compiled, error) {
		a, err := arn.Parse(policyARN)
		if err != nil {
			return nil, nil
		}
		return readManaged(r, a.Account, policyARN)
	})
}

// ARN implements authorize.Identities.
func (s *Service) ARN(ctx context.Context, account, kind, name string) (string, error) {
	pick := func(c *compiled) map[string]string { return c.arns }
	key := account + " " + kind + " " + name
	if known, ok := recall(s, pick, key); ok {
		return known, nil
	}
	return learn(s, ctx, pick, key, func(r kv.Reader) (string, error) {
		path, name := "/", name
		switch kind {
		case "role":
			rec, ok, err := kv.GetJSON[role](r, roleKey(account, name))
			if err != nil {
				return "", err
			}
			if ok {
				path, name = rec.Path, rec.Name
			}
		case "user":
			rec, ok, err := kv.GetJSON[user](r, userKey(account, name))
			if err != nil {
				return "", err
			}
			if ok {
				path, name = rec.Path, rec.Name
			}
		case "group":
			rec, ok, err := kv.GetJSON[group](r, groupKey(account, name))
			if err != nil {
				return "", err
			}
			if ok {
				path, name = rec.Path, rec.Name
			}
		case "instance-profile":
			rec, ok, err := kv.GetJSON[instanceProfile](r, profileKey(account, name))
			if err != nil {
				return "", err
			}
			if ok {
				path, name = rec.Path, rec.Name
			}
		}
		return entityARN(account, kind, path, name), nil
	})
}

// readIdentity reads a role with its policies.
func readIdentity(r kv.Reader, identityARN string) (*authorize.Identity, error) {
	a, err := arn.Parse(identityARN)
	kind, rest, _ := strings.Cut(a.Resource, "/")
	if err != nil || a.Service != "iam" || rest == "" {
		return nil, nil
	}
	name := rest[strings.LastIndexByte(rest, '/')+1:]
	switch kind {
	case "role":
		rec, ok, err := kv.GetJSON[role](r, roleKey(a.Account, name))
		if err != nil || !ok || entityARN(a.Account, kind, rec.Path, rec.Name) != identityARN {
			return nil, err
		}
		id := &authorize.Identity{ARN: identityARN, ID: rec.ID, Trust: compile(rec.Trust, iampolicy.Trust, identityARN), Tags: tagMap(rec.Tags)}
		if id.Policies, err = readPolicies(r, a.Account, rec.Inline, rec.Attached); err != nil {
			return nil, err
		}
		id.Boundary, err = readBoundary(r, a.Account, rec.Boundary)
		return id, err
	case "user":
		rec, ok, err := kv.GetJSON[user](r, userKey(a.Account, name))
		if err != nil || !ok || entityARN(a.Account, kind, rec.Path, rec.Name) != identityARN {
			return nil, err
		}
		id := &authorize.Identity{ARN: identityARN, ID: rec.ID, Tags: tagMap(rec.Tags)}
		if id.Policies, err = readPolicies(r, a.Account, rec.Inline, rec.Attached); err != nil {
			return nil, err
		}
		for _, name := range rec.Groups {
			g, err := getGroup(r, a.Account, name)
			if err != nil {
				return nil, err
			}
			more, err := readPolicies(r, a.Account, g.Inline, g.Attached)
			if err != nil {
				return nil, err
			}
			id.Policies = append(id.Policies, more...)
		}
		id.Boundary, err = readBoundary(r, a.Account, rec.Boundary)
		return id, err
	}
	return nil, nil
}

func readBoundary(r kv.Reader, account, policyARN string) (*iampolicy.Compiled, error) {
	if policyARN == "" {
		return nil, nil
	}
	c, err := readManaged(r, account, policyARN)
	if c == nil { // it cannot be deleted while it is in use
		c = &iampolicy.Compiled{}
	}
	return c, err
}

// readPolicies compiles inline and attached policies.
func readPolicies(r kv.Reader, account string, inline map[string]string, attached []string) (all []*iampolicy.Compiled, err error) {
	for name, document := range inline {
		all = append(all, compile(document, iampolicy.Identity, name))
	}
	for _, policyARN := range attached {
		c, err := readManaged(r, account, policyARN)
		if err != nil {
			return nil, err
		}
		if c != nil {
			all = append(all, c)
		}
	}
	return all, nil
}

// readManaged compiles the default version of a managed policy; nil if there is none.
func readManaged(r kv.Reader, account, policyARN string) (*iampolicy.Compiled, error) {
	p, _, err := findPolicy(r, account, policyARN)
	if _, coded := errors.AsType[*apierr.Error](err); coded {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	v, ok := p.version(versionName(p.Default))
	if !ok {
		return nil, nil
	}
	return compile(v.Document, iampolicy.Identity, policyARN), nil
}

// compile makes a stored document ready. It was checked when it was stored; one that an older release took and this one does not
// allows nothing.
func compile(document string, kind iampolicy.Kind, id string) *iampolicy.Compiled {
	p, err := iampolicy.Parse(document, kind)
	if err != nil {
		return &iampolicy.Compiled{}
	}
	return iampolicy.Compile(p, id)
}

func tagMap(tags []tag) map[string]string {
	m := make(map[string]string, len(tags))
	for _, t := range tags {
		m[t.Key] = t.Value
	}
	return m
}

// Policy implements authorize.Resources: what IAM owns has no policies but the trust policies of roles.
func (s *Service) Policy(context.Context, string) (*iampolicy.Compiled, error) { return nil, nil }

// Tags implements authorize.Resources for managed policies, instance profiles and OpenID Connect providers. Those of users and roles are in
// their Identity.
func (s *Service) Tags(ctx context.Context, resourceARN string) (map[string]string, error) {
	a, err := arn.Parse(resourceARN)
	kind, rest, _ := strings.Cut(a.Resource, "/")
	if err != nil || rest == "" {
		return nil, nil
	}
	var tags []tag
	err = s.db.View(ctx, func(r kv.Reader) error {
		switch kind {
		case "policy":
			p, _, err := findPolicy(r, a.Account, resourceARN)
			if err != nil {
				return err
			}
			tags = p.Tags
		case "instance-profile":
			p, err := getProfile(r, a.Account, rest[strings.LastIndexByte(rest, '/')+1:])
			if err != nil {
				return err
			}
			tags = p.Tags
		case "oidc-provider":
			p, err := getProvider(r, a.Account, resourceARN)
			if err != nil {
				return err
			}
			tags = p.Tags
		}
		return nil
	})
	if isNoSuchEntity(err) {
		return nil, nil
	}
	return tagMap(tags), err
}

var (
	_ authorize.Identities = (*Service)(nil)
	_ authorize.Resources  = (*Service)(nil)
)
