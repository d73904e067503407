package fleet

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/mayflyhq/mayfly/internal/runtimes"
	"github.com/mayflyhq/mayfly/internal/sandbox"
)

// stock keeps interpreters of managed runtimes that were started ahead: each waits in a sandbox of its own for the one
// environment that it will serve. They begin to be kept once an environment of their kind was there, and end when none
// was for as long as an idle environment is kept. Its methods may be called concurrently.
type stock struct {
	starter sandbox.Starter // nil where the driver starts nothing ahead
	network sandbox.Network
	log     *slog.Logger
	most    int           // of all kinds together
	keep    time.Duration // after the last environment of a kind

	ctx    context.Context // ends with close
	cancel context.CancelFunc
	work   sync.WaitGroup

	mu      sync.Mutex
	kinds   map[string]*kind
	order   []*kind // by last use, the latest last
	waiting int     // of all kinds, those that are being started included
	filling bool
}

// eachKind is how many of a kind are kept.
const eachKind = 2

// readyTime bounds the start of an interpreter; after a failure the kind rests for failTime.
const (
	readyTime = 30 * time.Second
	failTime  = time.Minute
)

// kind is what one program started ahead is like another in. stock.mu guards it.
type kind struct {
	key    string
	launch runtimes.Launch
	start  sandbox.Ahead

	ready        []*ahead
	environments int // that exist
	unused       *time.Timer
	rests        time.Time // until when it is not tried again
}

// ahead is an interpreter that waits to be told its function.
type ahead struct {
	waiting sandbox.Waiting
	output  *capture // nothing is read yet
	message []byte   // what it will be told
}

// close ends it, unless it was told its function.
func (a *ahead) close() {
	a.waiting.Close()
	a.output.abandon()
}

func newStock(deps Deps, limits Limits) *stock {
	s := &stock{network: deps.Network, log: deps.Log, most: limits.Ahead, keep: limits.Idle, kinds: map[string]*kind{}}
	s.starter, _ = deps.Driver.(sandbox.Starter)
	s.ctx, s.cancel = context.WithCancel(context.Background())
	return s
}

// enter notes an environment of fn and gives it an interpreter, if one waits. The kind is nil if fn cannot have one; leave is called with it
// when the environment ends.
func (s *stock) enter(fn *Function, launch runtimes.Launch) (*kind, *ahead) {
	if s.starter == nil || s.most <= 0 {
		return nil, nil
	}
	own := map[string]string{"AWS_LAMBDA_FUNCTION_MEMORY_SIZE": fmt.Sprint(fn.MemoryMB)}
	if !launch.CanPreinit(customer(fn, &launch)) {
		return nil, nil
	}
	argv, env, mounts := launch.Preinit(own, sandbox.AheadFD)
	key := fmt.Sprint(launch.RuntimeVersionID, argv, env, mounts)
	s.mu.Lock()
	defer s.mu.Unlock()
	k := s.kinds[key]
	if k == nil {
		k = &kind{key: key, launch: launch, start: sandbox.Ahead{
			Process: sandbox.Process{Path: argv[0], Args: argv, Env: list(env)},
			Network: s.network,
		}}
		for _, m := range mounts {
			k.start.Mounts = append(k.start.Mounts, sandbox.Mount(m))
		}
		s.kinds[key] = k
	}
	s.order = append(slices.DeleteFunc(s.order, func(other *kind) bool { return other == k }), k)
	k.environments++
	if k.unused != nil {
		k.unused.Stop()
		k.unused = nil
	}
	for n := len(k.ready); n > 0; n = len(k.ready) {
		a := k.ready[n-1]
		k.ready = k.ready[:n-1]
		s.waiting--
		select {
		case <-a.waiting.Done(): // somebody killed it
			a.close()
		default:
			return k, a
		}
	}
	return k, nil
}

// leave notes the end of an environment.
func (s *stock) leave(k *kind) {
	if k == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if k.environments--; k.environments == 0 && s.ctx.Err() == nil {
		k.unused = time.AfterFunc(s.keep, func() { s.drop(k) })
	}
}

// drop ends what waits of a kind that was not used for long.
func (s *stock) drop(k *kind) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if k.environments > 0 || s.kinds[k.key] != k {
		return
	}
	s.endLocked(k, len(k.ready))
	delete(s.kinds, k.key)
	s.order = slices.DeleteFunc(s.order, func(other *kind) bool { return other == k })
}

// endLocked ends n of those that wait.
func (s *stock) endLocked(k *kind, n int) {
	for _, a := range k.ready[:n] {
		s.work.Go(a.close)
	}
	k.ready = slices.Delete(k.ready, 0, n)
	s.waiting -= n
}

// fill starts in the background what is wanting. It is called when an environment has begun to serve, so that nobody waits
// while that takes the processors.
func (s *stock) fill(k *kind) {
	if k == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.filling && s.ctx.Err() == nil && s.wantingLocked() != nil {
		s.filling = true
		s.work.Go(s.run)
	}
}

// wantingLocked is the kind that was used last of those that have too few, if there is room for one.
func (s *stock) wantingLocked() *kind {
	for _, k := range slices.Backward(s.order) {
		if len(k.ready) >= eachKind || time.Now().Before(k.rests) {
			continue
		}
		if s.waiting < s.most {
			return k
		}
		// Those that were used longest ago make room.
		for _, old := range s.order {
			if old == k {
				return nil
			}
			if len(old.ready) > 0 {
				return k
			}
		}
	}
	return nil
}

// run starts one after the other.
func (s *stock) run() {
	for {
		s.mu.Lock()
		k := s.wantingLocked()
		if k == nil || s.ctx.Err() != nil {
			s.filling = false
			s.mu.Unlock()
			return
		}
		if s.waiting >= s.most {
			i := slices.IndexFunc(s.order, func(old *kind) bool { return len(old.ready) > 0 })
			s.endLocked(s.order[i], 1)
		}
		s.waiting++
		s.mu.Unlock()

		a, err := s.startOne(k.start)

		s.mu.Lock()
		switch {
		case err != nil:
			s.waiting--
			k.rests = time.Now().Add(failTime)
			if s.ctx.Err() == nil {
				s.log.Warn("no interpreter is started ahead", "runtime", k.launch.Runtime, "err", err)
			}
		case s.ctx.Err() != nil || s.kinds[k.key] != k:
			s.waiting--
			s.work.Go(a.close)
		default:
			k.ready = append(k.ready, a)
		}
		s.mu.Unlock()
	}
}

func (s *stock) startOne(start sandbox.Ahead) (*ahead, error) {
	c, err := newCapture(nil)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(s.ctx, readyTime)
	defer cancel()
	start.Stdout, start.Stderr = c.w, c.w
	w, err := s.starter.StartAhead(ctx, start)
	if err != nil {
		c.abandon()
		return nil, err
	}
	c.w.Close()
	return &ahead{waiting: w, output: c}, nil
}

// ready counts those that wait.
func (s *stock) ready() (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, k := range s.kinds {
		n += len(k.ready)
	}
	return n
}

// close ends all that wait.
func (s *stock) close() {
	s.mu.Lock()
	s.cancel()
	for _, k := range s.kinds {
		if k.unused != nil {
			k.unused.Stop()
		}
		s.endLocked(k, len(k.ready))
	}
	s.mu.Unlock()
	s.work.Wait()
}
