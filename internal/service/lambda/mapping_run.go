package lambda

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/mayflyhq/mayfly/internal/group"
	"github.com/mayflyhq/mayfly/internal/kv"
)

// remapAfter is how long to wait for a mapping with which something else is done.
const remapAfter = 100 * time.Millisecond

// located is a mapping by its place.
type located struct {
	scope
	uuid string
}

// runMappings starts the mappings that are enabled and carries those that are moving to the state that they are on their way to. It returns when
// ctx ends.
func (s *Service) runMappings(ctx context.Context) error {
	g := group.New(ctx)
	defer g.Stop()
	var underWay sync.Map // located -> struct{}
	all, err := s.listLocated(ctx, mappingPrefix)
	if err != nil && ctx.Err() == nil {
		return fmt.Errorf("lambda: event source mappings: %w", err)
	}
	for _, l := range all {
		underWay.Store(l, struct{}{})
		g.Go(func(ctx context.Context) { s.move(ctx, l, &underWay, true) })
	}
	g.Go(func(ctx context.Context) {
		for {
			select {
			case <-ctx.Done():
				return
			case f := <-s.remap:
				g.Go(func(ctx context.Context) { s.remapFunction(ctx, g, f, &underWay) })
			}
		}
	})
	for range s.db.Watch(ctx, kv.Key(movingPrefix)) {
		all, err := s.listLocated(ctx, movingPrefix)
		if ctx.Err() != nil {
			break
		}
		if err != nil {
			return fmt.Errorf("lambda: event source mappings: %w", err)
		}
		for _, l := range all {
			if _, busy := underWay.LoadOrStore(l, struct{}{}); !busy {
				g.Go(func(ctx context.Context) { s.move(ctx, l, &underWay, false) })
			}
		}
	}
	return nil
}

// mapped is a function that mappings may invoke.
type mapped struct {
	scope
	name string
}

// functionChanged has the mappings of a function go on by what it is now.
func (s *Service) functionChanged(c scope, name string) {
	select {
	case s.remap <- mapped{c, name}:
	default: // so many that those which matter will be set anew by another change; what is lost is the length of a timeout
	}
}

// remapFunction sets the enabled mappings of a function anew, each once nothing else is done with it.
func (s *Service) remapFunction(ctx context.Context, g *group.Group, f mapped, underWay *sync.Map) {
	var all []located
	err := s.db.View(ctx, func(r kv.Reader) error {
		for e, err := range r.Scan(f.mappings()) {
			if err != nil {
				return err
			}
			m, err := get[mapping](r, e.Key)
			if err != nil {
				return err
			}
			if m.Function == f.name && m.Enabled {
				all = append(all, located{f.scope, m.UUID})
			}
		}
		return nil
	})
	if err != nil && ctx.Err() == nil {
		s.log.Error("event source mappings of a function that changed", "function", f.qualifiedARN(f.name, ""), "error", err)
	}
	for _, l := range all {
		g.Go(func(ctx context.Context) {
			for {
				if _, busy := underWay.LoadOrStore(l, struct{}{}); !busy {
					s.move(ctx, l, underWay, true)
					return
				}
				select {
				case <-ctx.Done():
					return
				case <-time.After(remapAfter):
				}
			}
		})
	}
}

// listLocated lists the mappings that have a row under a prefix, in every account and region.
func (s *Service) listLocated(ctx context.Context, prefix string) (all []located, err error) {
	err = s.db.View(ctx, func(r kv.Reader) error {
		for e, err := range r.Scan(kv.Prefix(prefix)) {
			if err != nil {
				return err
			}
			var l located
			if err := kv.Decode(e.Key, nil, &l.account, &l.region, &l.uuid); err != nil {
				return err
			}
			all = append(all, l)
		}
		return nil
	})
	return all, err
}

// move carries one mapping, which underWay has as taken, as far as it goes. One that is enabled is started if resume.
func (s *Service) move(ctx context.Context, l located, underWay *sync.Map, resume bool) {
	defer underWay.Delete(l)
	for {
		err := s.moveOnce(ctx, l, resume)
		if err == nil {
			resume = false
			// One that was changed again since then is found either here or, once it is not taken any more, by runMappings.
			underWay.Delete(l)
			var m *mapping
			if m, err = s.readMapping(ctx, l); err == nil {
				if m == nil || !m.moving() {
					return
				}
				if _, busy := underWay.LoadOrStore(l, struct{}{}); busy {
					return
				}
				continue
			}
		}
		if ctx.Err() != nil {
			return
		}
		s.log.Error("event source mapping: trying again", "arn", l.mappingARN(l.uuid), "error", err)
		select {
		case <-ctx.Done():
			return
		case <-time.After(retryAfter):
		}
	}
}

func (s *Service) readMapping(ctx context.Context, l located) (m *mapping, err error) {
	err = s.db.View(ctx, func(r kv.Reader) error {
		m, err = get[mapping](r, l.mappingKey(l.uuid))
		return err
	})
	return m, err
}

// moveOnce does what the state of a mapping asks for and writes the state that follows. Nobody else changes a mapping that is moving, but for
// its tags.
func (s *Service) moveOnce(ctx context.Context, l located, resume bool) error {
	m, err := s.readMapping(ctx, l)
	if err != nil || m == nil {
		return err
	}
	if !m.moving() {
		if resume && m.Enabled {
			return s.drive(ctx, l.scope, m)
		}
		return nil
	}
	if err := s.drive(ctx, l.scope, m); err != nil {
		return err
	}
	return s.db.Update(ctx, func(tx kv.Tx) error {
		m, err := get[mapping](tx, l.mappingKey(l.uuid))
		if err != nil || m == nil || !m.moving() {
			return err
		}
		before := *m
		switch {
		case m.State == mappingDeleting:
			return putMapping(tx, l.scope, &before, nil)
		case m.Enabled:
			m.State = mappingEnabled
		default:
			m.State = mappingDisabled
		}
		m.LastModified = s.now()
		return putMapping(tx, l.scope, &before, m)
	})
}
