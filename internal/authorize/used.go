package authorize

import (
	"context"
	"maps"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mayflyhq/mayfly/internal/kv"
)

// Bounds of what is remembered.
const (
	maxSubjects  = 10_000 // functions, roles and users that are watched
	maxActions   = 500    // distinct actions of one
	maxResources = 100    // distinct resources of an action; more of them become one pattern
	maxARN       = 1500   // bytes of a resource or subject, so that a key of the store can hold both; longer ones are not watched

	// unusedFor is how long a use is remembered after the last time, as AWS remembers what a role last used.
	unusedFor = 400 * 24 * time.Hour
)

// Use is one action on one resource that a function, role or user asked for.
type Use struct {
	Action   string    `json:"action"`
	Resource string    `json:"resource"`         // an ARN, or a pattern that stands for many
	Denied   bool      `json:"denied,omitempty"` // the last time
	First    time.Time `json:"first,omitzero"`
	Last     time.Time `json:"last,omitzero"` // to the hour
}

// used remembers what each function, role and user did. What is known already costs two look-ups.
type used struct {
	since    time.Time // when the watch began
	mu       sync.RWMutex
	subjects map[string]*subject
	dirty    map[dirty]bool
}

// subject is one function, role or user, by ARN.
type subject struct {
	account string
	actions map[string]*action
}

type action struct {
	resources map[string]*use
	patterns  []string // those of resources that end in a star and stand for many
}

type use struct {
	first, last atomic.Int64 // Unix seconds
	denied      atomic.Bool
}

// dirty names a use that is to be stored. With a resource of "" all of an action are stored anew.
type dirty struct{ account, subject, action, resource string }

// Keys: authorize/used/<account>/<ARN>/<action>/<resource> and authorize/since.

func useKey(d dirty) []byte {
	return kv.Key("authorize", "used", d.account, d.subject, d.action, d.resource)
}

func sinceKey() []byte { return kv.Key("authorize", "since") }

// useRecord is the value of a use.
type useRecord struct {
	Account, Subject, Action, Resource string
	First, Last                        int64
	Denied                             bool `json:",omitempty"`
}

func (u *used) init() {
	u.since, u.subjects, u.dirty = time.Now().UTC(), map[string]*subject{}, map[dirty]bool{}
}

// record notes a use. It does not allocate for what is known.
func (u *used) record(e *evaluation, name, actionName, resource string, allowed bool) {
	if len(resource) > maxARN || len(name) > maxARN {
		return
	}
	now := e.info.Time.Unix()
	u.mu.RLock()
	found := u.find(name, actionName, resource)
	u.mu.RUnlock()
	if found != nil {
		// Written again when an hour has passed or it went the other way.
		if now-found.last.Load() < 3600 && found.denied.Load() != allowed {
			return
		}
		found.last.Store(now)
		found.denied.Store(!allowed)
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	d := dirty{e.info.Account, strings.Clone(name), actionName, strings.Clone(resource)}
	if found == nil && !u.add(&d, now, !allowed) {
		return
	}
	u.dirty[d] = true
	e.a.wake()
}

func (u *used) find(name, actionName, resource string) *use {
	s := u.subjects[name]
	if s == nil {
		return nil
	}
	a := s.actions[actionName]
	if a == nil {
		return nil
	}
	if x := a.resources[resource]; x != nil {
		return x
	}
	for _, p := range a.patterns {
		if strings.HasPrefix(resource, p[:len(p)-1]) {
			return a.resources[p]
		}
	}
	return nil
}

// add makes a use. Of an action with too many resources, those that begin alike become one: the shortest of the changes is
// that the newest and the one that is most like it are replaced by what they have in common.
func (u *used) add(d *dirty, now int64, denied bool) bool {
	s := u.subjects[d.subject]
	if s == nil {
		if len(u.subjects) >= maxSubjects {
			return false
		}
		s = &subject{account: d.account, actions: map[string]*action{}}
		u.subjects[d.subject] = s
	}
	a := s.actions[d.action]
	if a == nil {
		if len(s.actions) >= maxActions {
			return false
		}
		a = &action{resources: map[string]*use{}}
		s.actions[d.action] = a
	}
	x := &use{}
	x.first.Store(now)
	x.last.Store(now)
	x.denied.Store(denied)
	if len(a.resources) < maxResources {
		a.put(d.resource, x)
		return true
	}
	common := a.likest(d.resource)
	for r, old := range a.resources {
		if strings.HasPrefix(r, common) {
			x.first.Store(min(x.first.Load(), old.first.Load()))
			delete(a.resources, r)
		}
	}
	a.patterns = nil
	a.put(common+"*", x)
	for r := range a.resources {
		if strings.HasSuffix(r, "*") && r != "*" && r != common+"*" {
			a.patterns = append(a.patterns, r)
		}
	}
	d.resource = "" // the whole action is stored anew
	return true
}

func (a *action) put(resource string, x *use) {
	a.resources[resource] = x
	if strings.HasSuffix(resource, "*") && resource != "*" {
		a.patterns = append(a.patterns, resource)
	}
}

// likest is the longest beginning that a resource has in common with a known one, cut at a separator.
func (a *action) likest(resource string) string {
	best := 0
	for r := range a.resources {
		n := 0
		for n < min(len(r), len(resource)) && r[n] == resource[n] {
			n++
		}
		best = max(best, n)
	}
	if i := strings.LastIndexAny(resource[:best], ":/"); i >= 0 {
		return resource[:i+1]
	}
	return ""
}

func (u *used) load(ctx context.Context, db kv.DB) error {
	var records []useRecord
	since := time.Now().UTC().Truncate(time.Second)
	err := db.Update(ctx, func(tx kv.Tx) error {
		records = nil
		s, ok, err := kv.GetJSON[time.Time](tx, sinceKey())
		if err != nil {
			return err
		}
		if ok {
			since = s
		} else if err := kv.SetJSON(tx, sinceKey(), since); err != nil {
			return err
		}
		for rec, err := range kv.ScanJSON[useRecord](tx, kv.Prefix("authorize", "used")) {
			if err != nil {
				return err
			}
			if time.Since(time.Unix(rec.Value.Last, 0)) > unusedFor {
				tx.Delete(rec.Key)
				continue
			}
			records = append(records, rec.Value)
		}
		return nil
	})
	if err != nil {
		return err
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	u.since = since
	for _, r := range records {
		if x := u.exact(r); x != nil {
			x.first.Store(min(x.first.Load(), r.First)) // it was used between New and now
			continue
		}
		d := dirty{r.Account, r.Subject, r.Action, r.Resource}
		if u.add(&d, r.Last, r.Denied) {
			if x := u.exact(r); x != nil {
				x.first.Store(r.First)
			}
		}
	}
	return nil
}

func (u *used) exact(r useRecord) *use {
	if s := u.subjects[r.Subject]; s != nil {
		if a := s.actions[r.Action]; a != nil {
			return a.resources[r.Resource]
		}
	}
	return nil
}

func (u *used) store(ctx context.Context, db kv.DB) error {
	u.mu.Lock()
	todo := u.dirty
	u.dirty = map[dirty]bool{}
	var rows []useRecord
	var whole []dirty
	row := func(d dirty, resource string, x *use) {
		rows = append(rows, useRecord{d.account, d.subject, d.action, resource, x.first.Load(), x.last.Load(), x.denied.Load()})
	}
	for d := range todo {
		s := u.subjects[d.subject]
		if s == nil || s.actions[d.action] == nil {
			continue
		}
		if x := u.find(d.subject, d.action, d.resource); d.resource != "" && x != nil {
			row(d, u.nameOf(d), x)
			continue
		}
		whole = append(whole, d)
		for r, x := range s.actions[d.action].resources {
			row(d, r, x)
		}
	}
	u.mu.Unlock()
	if len(rows) == 0 {
		return nil
	}
	err := db.Update(ctx, func(tx kv.Tx) error {
		for _, d := range whole {
			for e, err := range tx.Scan(kv.Prefix("authorize", "used", d.account, d.subject, d.action)) {
				if err != nil {
					return err
				}
				tx.Delete(e.Key)
			}
		}
		for _, r := range rows {
			if err := kv.SetJSON(tx, useKey(dirty{r.Account, r.Subject, r.Action, r.Resource}), r); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		u.mu.Lock()
		maps.Copy(u.dirty, todo)
		u.mu.Unlock()
	}
	return err
}

// nameOf is the resource under which a use is known: its own, or the pattern that stands for it.
func (u *used) nameOf(d dirty) string {
	a := u.subjects[d.subject].actions[d.action]
	if a.resources[d.resource] == nil {
		for _, p := range a.patterns {
			if strings.HasPrefix(d.resource, p[:len(p)-1]) {
				return p
			}
		}
	}
	return d.resource
}

// Used returns what a function, role or user asked for, by its ARN, sorted by action and resource, and since when it was watched.
func (a *Authorizer) Used(arn string) (uses []Use, since time.Time) {
	u := &a.used
	u.mu.RLock()
	defer u.mu.RUnlock()
	uses = []Use{}
	if s := u.subjects[arn]; s != nil {
		for name, act := range s.actions {
			for r, x := range act.resources {
				uses = append(uses, Use{name, r, x.denied.Load(), time.Unix(x.first.Load(), 0).UTC(), time.Unix(x.last.Load(), 0).UTC()})
			}
		}
	}
	sortUses(uses)
	return uses, u.since
}
