package authorize

import (
	"sync"

	"github.com/mayflyhq/mayfly/internal/lang/iampolicy"
)

// Identities with more statements than fewStatements remember which of them speak of an action on a resource, for at most maxNarrowed
// pairs: what is done is mostly what was done before.
const (
	fewStatements = 8
	maxNarrowed   = 256
)

// narrowed are the policies of an identity by action and resource.
type narrowed struct {
	once  sync.Once
	many  bool
	mu    sync.RWMutex
	known map[pair][]*iampolicy.Compiled
}

type pair struct{ action, resource string }

// policies returns policies that decide on an action and a resource as all of the identity's do.
func (id *Identity) policies(action, resource string) []*iampolicy.Compiled {
	n := &id.narrow
	n.once.Do(func() {
		statements := 0
		for _, c := range id.Policies {
			statements += c.Len()
		}
		n.many = statements > fewStatements
	})
	if !n.many {
		return id.Policies
	}
	p := pair{action, resource}
	n.mu.RLock()
	found, ok := n.known[p]
	n.mu.RUnlock()
	if ok {
		return found
	}
	found = iampolicy.Narrow(id.Policies, action, resource)
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.known == nil || len(n.known) >= maxNarrowed {
		n.known = map[pair][]*iampolicy.Compiled{}
	}
	n.known[p] = found
	return found
}
