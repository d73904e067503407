package sts

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// The bounds of what is asked of an issuer.
const (
	fetchTimeout  = 5 * time.Second
	maxDocument   = 1 << 20 // bytes
	keysHold      = time.Hour
	fetchInterval = 10 * time.Second // the least time between two fetches for keys that are not known
	maxIssuers    = 1000             // remembered
)

// keySets fetches the keys of issuers and remembers them. Its methods may be called concurrently.
type keySets struct {
	client *http.Client

	mu  sync.Mutex
	all map[string]*keySet // by URL of the issuer
}

// keySet is the keys of one issuer. Its mutex is held while they are fetched: whoever needs them waits.
type keySet struct {
	mu      sync.Mutex
	keys    jose.JSONWebKeySet
	fetched time.Time
	tried   time.Time
	err     error // of the last try
}

func newKeySets() *keySets {
	return &keySets{all: map[string]*keySet{}, client: &http.Client{
		Timeout: fetchTimeout,
		// An issuer's answer is its own: it sends nobody elsewhere.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// find returns the keys of an issuer with an id, or all if the id is empty. Keys are fetched anew after an hour, and for an id that is not known,
// but not more often than every ten seconds.
func (k *keySets) find(ctx context.Context, issuer, id string) ([]jose.JSONWebKey, error) {
	k.mu.Lock()
	set := k.all[issuer]
	if set == nil {
		if len(k.all) >= maxIssuers {
			clear(k.all)
		}
		set = &keySet{}
		k.all[issuer] = set
	}
	k.mu.Unlock()

	set.mu.Lock()
	defer set.mu.Unlock()
	now := time.Now()
	found := set.find(id)
	stale := now.Sub(set.fetched) >= keysHold
	if (stale || len(found) == 0) && now.Sub(set.tried) >= fetchInterval {
		set.tried = now
		var keys jose.JSONWebKeySet
		// One caller who goes away must not spoil it for the others.
		if keys, set.err = k.fetch(context.WithoutCancel(ctx), issuer); set.err == nil {
			set.keys, set.fetched = keys, now
			found = set.find(id)
		} else if stale {
			found = nil
		}
	}
	if len(found) == 0 {
		return nil, errors.Join(fmt.Errorf("issuer %s has no key %q", issuer, id), set.err)
	}
	return found, nil
}

func (s *keySet) find(id string) []jose.JSONWebKey {
	if id == "" {
		return s.keys.Keys
	}
	return s.keys.Key(id)
}

// fetch reads the issuer's configuration, and the keys from where that says.
func (k *keySets) fetch(ctx context.Context, issuer string) (keys jose.JSONWebKeySet, err error) {
	var configuration struct {
		Issuer string `json:"issuer"`
		Keys   string `json:"jwks_uri"`
	}
	if err := k.get(ctx, strings.TrimSuffix(issuer, "/")+"/.well-known/openid-configuration", &configuration); err != nil {
		return keys, err
	}
	if configuration.Issuer != issuer {
		return keys, fmt.Errorf("the configuration of %s is that of %s", issuer, configuration.Issuer)
	}
	if !mayHaveKeysAt(issuer, configuration.Keys) {
		return keys, fmt.Errorf("issuer %s has its keys at %q", issuer, configuration.Keys)
	}
	err = k.get(ctx, configuration.Keys, &keys)
	return keys, err
}

// mayHaveKeysAt reports whether an issuer may send the server to a URL for its keys: with TLS to any with TLS, without, as a user may
// have named one on loopback, to itself only.
func mayHaveKeysAt(issuer, keys string) bool {
	from, err1 := url.Parse(issuer)
	to, err2 := url.Parse(keys)
	return err1 == nil && err2 == nil && from.Scheme == to.Scheme && (from.Scheme == "https" || from.Host == to.Host)
}

func (k *keySets) get(ctx context.Context, at string, out any) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, at, nil)
	if err != nil {
		return err
	}
	r.Header.Set("Accept", "application/json")
	res, err := k.client.Do(r)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("GET %s: %s", at, res.Status)
	}
	b, err := io.ReadAll(io.LimitReader(res.Body, maxDocument+1))
	if err != nil {
		return err
	}
	if len(b) > maxDocument {
		return fmt.Errorf("GET %s: more than %d bytes", at, maxDocument)
	}
	return json.Unmarshal(b, out)
}
