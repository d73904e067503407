package lambda

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/mayflyhq/mayfly/internal/fleet"
	"github.com/mayflyhq/mayfly/internal/kv"
	"github.com/mayflyhq/mayfly/internal/lang/iampolicy"
)

// target is what an invocation of a function under one qualifier runs, ready for the fleet. It is immutable.
type target struct {
	arn    string // as invoked: with the qualifier, if there is one
	first  executable
	second executable // of an alias with two versions
	weight float64    // share of the second, 0 to 1
}

// executable is one version, ready for the fleet. Who invokes it takes the code and gives it back after that.
type executable struct {
	function *fleet.Function
	version  string
	code     loans
	tenants  bool // every invocation names one

	deadLetter string // ARN; empty if there is none
}

// pick chooses the version of one invocation.
func (t *target) pick() *executable {
	if t.weight > 0 && rand.Float64() < t.weight {
		return &t.second
	}
	return &t.first
}

// targets remembers the targets and policies of functions that may be invoked, so that an invocation reads no record. While a function is
// changed nothing of it is remembered: an invocation that begins after the change could be seen runs what was changed.
type targets struct {
	mu       sync.RWMutex
	all      map[functionName]*remembered
	changing map[functionName]int // changes under way
	turn     uint64               // counts changes: what was read before one is not kept after it
}

type functionName struct {
	scope
	name string
}

// remembered is what is known of a function, by qualifier.
type remembered struct {
	targets  map[string]*target
	policies map[string]*iampolicy.Compiled // nil: there is none
}

func (t *targets) get(c scope, name, qualifier string) *target {
	t.mu.RLock()
	defer t.mu.RUnlock()
	if f := t.all[functionName{c, name}]; f != nil {
		return f.targets[qualifier]
	}
	return nil
}

// policy returns the policy that is remembered of a qualifier, and whether one, or that there is none, is.
func (t *targets) policy(c scope, name, qualifier string) (p *iampolicy.Compiled, ok bool) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	if f := t.all[functionName{c, name}]; f != nil {
		p, ok = f.policies[qualifier]
	}
	return p, ok
}

func (t *targets) now() uint64 {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.turn
}

// put remembers what was read when turn was current.
func (t *targets) put(c scope, name, qualifier string, found *target, turn uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if f := t.rememberLocked(functionName{c, name}, turn); f != nil {
		f.targets[qualifier] = found
	}
}

// putPolicy is put for a policy.
func (t *targets) putPolicy(c scope, name, qualifier string, found *iampolicy.Compiled, turn uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if f := t.rememberLocked(functionName{c, name}, turn); f != nil {
		f.policies[qualifier] = found
	}
}

// rememberLocked returns where to put what was read of a function, or nil if it may have changed since.
func (t *targets) rememberLocked(name functionName, turn uint64) *remembered {
	if t.turn != turn || t.changing[name] > 0 {
		return nil
	}
	if t.all == nil {
		t.all = map[functionName]*remembered{}
	}
	f := t.all[name]
	if f == nil {
		f = &remembered{map[string]*target{}, map[string]*iampolicy.Compiled{}}
		t.all[name] = f
	}
	return f
}

// change forgets a function until done is called. It comes before the transaction that changes the function, done after it.
func (t *targets) change(c scope, name string) (done func()) {
	f := functionName{c, name}
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.all, f)
	if t.changing == nil {
		t.changing = map[functionName]int{}
	}
	t.changing[f]++
	return func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		t.turn++
		if t.changing[f]--; t.changing[f] == 0 {
			delete(t.changing, f)
		}
	}
}

// target finds what an invocation runs. Its errors are AWS's.
func (s *Service) target(ctx context.Context, c scope, ref reference) (*target, error) {
	if t := s.targets.get(c, ref.name, ref.qualifier); t != nil {
		return t, nil
	}
	turn := s.targets.now()
	t, err := s.readTarget(ctx, c, ref)
	if errors.Is(err, errNoArchive) {
		// The version may have been deleted, and its archive with it, since it was read. Then there is a better error.
		turn = s.targets.now()
		t, err = s.readTarget(ctx, c, ref)
	}
	if err != nil {
		return nil, err
	}
	s.targets.put(c, ref.name, ref.qualifier, t, turn)
	return t, nil
}

func (s *Service) readTarget(ctx context.Context, c scope, ref reference) (*target, error) {
	var first, second *version
	var weight float64
	err := s.db.View(ctx, func(r kv.Reader) (err error) {
		first, second, weight, err = c.routes(r, ref)
		return err
	})
	if err != nil {
		return nil, err
	}
	t := &target{arn: c.qualifiedARN(ref.name, ref.qualifier)}
	if t.first, err = s.executable(ctx, c, first); err != nil {
		return nil, err
	}
	if second != nil {
		t.weight = weight
		t.second, err = s.executable(ctx, c, second)
	}
	return t, err
}

// routes reads the versions that a qualifier leads to.
func (c scope) routes(r kv.Reader, ref reference) (first, second *version, weight float64, err error) {
	qualifier := ref.qualifier
	if qualifier == "" {
		qualifier = latest // AWS's message names it
	}
	if first, err = c.find(r, ref.name, qualifier); err != nil {
		return nil, nil, 0, err
	}
	if _, isNumber := versionNumber(qualifier); isNumber || qualifier == latest {
		return first, nil, 0, nil
	}
	a, err := getAlias(r, c, ref.name, qualifier)
	if err != nil || a == nil {
		return first, nil, 0, err
	}
	number, weight := a.second()
	if number == 0 {
		return first, nil, 0, nil
	}
	second, err = c.find(r, ref.name, versionName(number))
	return first, second, weight, err
}

// executable prepares a version for the fleet. The code is unpacked if it is not.
func (s *Service) executable(ctx context.Context, c scope, v *version) (executable, error) {
	if err := v.mayInvoke(); err != nil {
		return executable{}, err
	}
	d := v.serves()
	var code loans
	var dirs []string
	for _, digest := range d.archives() {
		l, err := s.code.lend(ctx, digest)
		if err != nil {
			return executable{}, err
		}
		code, dirs = append(code, l), append(dirs, l.dir)
	}
	// Layers may have the same contents, and only the last of those counts: nothing can be mounted over itself.
	layers := dirs[1:]
	for i := len(layers) - 1; i >= 0; i-- {
		if slices.Contains(layers[i+1:], layers[i]) {
			layers = slices.Delete(layers, i, i+1)
		}
	}
	f := &fleet.Function{
		Account:             c.account,
		Region:              c.region,
		Name:                v.Function,
		ARN:                 c.qualifiedARN(v.Function, ""),
		Version:             v.name(),
		Revision:            d.ID,
		Runtime:             d.Runtime,
		Handler:             d.Handler,
		Architecture:        d.Architecture,
		RoleARN:             d.Role,
		MemoryMB:            int(d.MemorySize),
		TmpMB:               int(d.EphemeralSize),
		Timeout:             time.Duration(d.Timeout) * time.Second,
		Environment:         deref(d.Environment),
		Code:                dirs[0],
		Layers:              layers,
		CodeSHA256:          digestBase64(d.CodeDigest),
		LogGroup:            d.Logging.Group,
		LogFormat:           d.Logging.Format,
		ApplicationLogLevel: d.Logging.Application,
		SystemLogLevel:      d.Logging.System,
	}
	return executable{f, v.name(), code, d.Tenancy != "", d.DeadLetter}, nil
}
