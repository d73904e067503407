package lambda

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"time"

	"github.com/mayflyhq/mayfly/internal/aws/api/lambdaapi"
	"github.com/mayflyhq/mayfly/internal/blob"
	"github.com/mayflyhq/mayfly/internal/group"
	"github.com/mayflyhq/mayfly/internal/kv"
)

// retryAfter is the wait before a transition is tried again that failed for a reason of ours, such as a store that takes no writes.
const retryAfter = time.Second

// Run moves versions out of Pending and InProgress, those of before a crash among them, keeps the fleet up to the provisioned
// concurrency, and collects archives that nothing needs any more. It returns when ctx ends.
func (s *Service) Run(ctx context.Context) error {
	g := group.New(ctx)
	defer g.Stop()
	g.Go(s.collectArchives)
	g.Go(s.provision)
	queue := make(chan error, 1)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	g.Go(func(context.Context) {
		err := s.queue.Run(ctx)
		if err != nil {
			cancel()
		}
		queue <- err
	})
	mappings := make(chan error, 1)
	g.Go(func(context.Context) {
		err := s.runMappings(ctx)
		if err != nil {
			cancel()
		}
		mappings <- err
	})
	slots := make(chan struct{}, max(2, runtime.GOMAXPROCS(0)))
	var underWay sync.Map // pending -> struct{}
	for range s.db.Watch(ctx, kv.Key(transitionPrefix)) {
		var all []pending
		err := s.db.View(ctx, func(r kv.Reader) (err error) {
			all, err = listTransitions(r)
			return err
		})
		if ctx.Err() != nil {
			break
		}
		if err != nil {
			return fmt.Errorf("lambda: %w", err)
		}
		for _, p := range all {
			if _, busy := underWay.LoadOrStore(p, struct{}{}); !busy {
				g.Go(func(ctx context.Context) { s.transition(ctx, p, &underWay, slots) })
			}
		}
	}
	return errors.Join(<-queue, <-mappings)
}

// transition carries one version through, which underWay has as taken.
func (s *Service) transition(ctx context.Context, p pending, underWay *sync.Map, slots chan struct{}) {
	defer underWay.Delete(p)
	select {
	case slots <- struct{}{}:
		defer func() { <-slots }()
	case <-ctx.Done():
		return
	}
	for {
		err := s.settle(ctx, p)
		if err == nil {
			// A version that was changed again since then is found either here or, once it is not taken any more, by Run.
			underWay.Delete(p)
			var again bool
			if again, err = s.inTransition(ctx, p); err == nil {
				if !again {
					return
				}
				if _, busy := underWay.LoadOrStore(p, struct{}{}); busy {
					return
				}
				continue
			}
		}
		if ctx.Err() != nil {
			return
		}
		s.log.Error("settle function", "arn", p.qualifiedARN(p.name, versionName(p.number)), "error", err)
		select {
		case <-ctx.Done():
			return
		case <-time.After(retryAfter):
		}
	}
}

func (s *Service) inTransition(ctx context.Context, p pending) (yes bool, err error) {
	err = s.db.View(ctx, func(r kv.Reader) error {
		v, err := getVersion(r, p.scope, p.name, p.number)
		yes = v != nil && v.inTransition()
		return err
	})
	return yes, err
}

// settle makes the version's code and runtime ready and records how that went.
func (s *Service) settle(ctx context.Context, p pending) error {
	var v *version
	err := s.db.View(ctx, func(r kv.Reader) (err error) {
		v, err = getVersion(r, p.scope, p.name, p.number)
		return err
	})
	if err != nil || v == nil || !v.inTransition() {
		return err
	}
	problem, runtimeID, err := s.prepare(ctx, &v.Deployment)
	if err != nil {
		return err
	}
	defer s.functionChanged(p.scope, p.name)
	defer s.code.nudge()
	defer s.targets.change(p.scope, p.name)()
	id := v.Deployment.ID
	return s.db.Update(ctx, func(tx kv.Tx) error {
		v, err := getVersion(tx, p.scope, p.name, p.number)
		if err != nil || v == nil || !v.inTransition() || v.Deployment.ID != id {
			return err // deleted, or deleted and made again, meanwhile
		}
		before := *v
		v.settle(problem, runtimeID)
		if err := p.touchProvisioned(tx, p.name); err != nil {
			return err
		}
		return putVersion(tx, p.scope, &before, v)
	})
}

// prepare makes sure that a deployment can run here. What is wrong with it is a problem; err is trouble of ours, worth another try.
func (s *Service) prepare(ctx context.Context, d *deployment) (problem status, runtimeID string, err error) {
	for _, digest := range d.archives() {
		_, err := s.code.ready(ctx, digest)
		if err == nil {
			continue
		}
		if errors.Is(err, errBadArchive) || errors.Is(err, errArchiveTooBig) || errors.Is(err, errNoArchive) || errors.Is(err, blob.ErrCorrupt) {
			return status{Reason: "The function's archive could not be unpacked: " + err.Error(), Code: lambdaapi.StateReasonCodeInvalidZipFileException}, "", nil
		}
		return status{}, "", err
	}
	runtimeID, err = s.runtimes.Check(ctx, d.Runtime, d.Architecture)
	switch {
	case ctx.Err() != nil:
		return status{}, "", ctx.Err()
	case err != nil:
		return status{Reason: err.Error(), Code: lambdaapi.StateReasonCodeInvalidRuntime}, "", nil
	}
	return status{}, runtimeID, nil
}
