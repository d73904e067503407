package authorize

import (
	"sync"

	"github.com/mayflyhq/mayfly/internal/lang/iampolicy"
)

// maxDocuments bounds the policies that a Documents keeps ready.
const maxDocuments = 1024

// Documents makes policies ready that are known by their text only, each once as long as there are not too many. The zero value is empty. Its
// method may be called concurrently.
type Documents struct {
	mu    sync.RWMutex
	ready map[documentKey]*iampolicy.Compiled
}

type documentKey struct {
	text, id string
	kind     iampolicy.Kind
}

// Compile parses and compiles a document, or finds it compiled. The error is an *iampolicy.Error.
func (d *Documents) Compile(text string, kind iampolicy.Kind, id string) (*iampolicy.Compiled, error) {
	key := documentKey{text, id, kind}
	d.mu.RLock()
	c := d.ready[key]
	d.mu.RUnlock()
	if c != nil {
		return c, nil
	}
	p, err := iampolicy.Parse(text, kind)
	if err != nil {
		return nil, err
	}
	c = iampolicy.Compile(p, id)
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.ready) >= maxDocuments || d.ready == nil {
		d.ready = map[documentKey]*iampolicy.Compiled{}
	}
	d.ready[key] = c
	return c, nil
}
