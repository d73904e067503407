package sns

import (
	"context"
	"errors"
	"sync"

	"github.com/mayflyhq/mayfly/internal/kv"
)

// maxViews bounds the topics that are kept in memory.
const maxViews = 4096

// views keep topics with their subscriptions in memory, since every publish needs them. The zero value is empty.
type views struct {
	mu    sync.RWMutex
	ready map[topicName]*view
	turn  uint64 // counts changes, so that nothing is kept that was read before one
}

// view is a topic with its subscriptions at one moment. It is shared and must not be changed.
type view struct {
	topic *topic
	all   []*subscription
	takes []*taker // those that get messages
}

// change says that a topic changes: what is known of it is forgotten, now and when the function that it returns is called, after the commit.
func (v *views) change(name topicName) (done func()) {
	forget := func() {
		v.mu.Lock()
		defer v.mu.Unlock()
		v.turn++
		delete(v.ready, name)
	}
	forget()
	return forget
}

// view returns a topic, NotFound if there is none.
func (s *Service) view(ctx context.Context, name topicName) (*view, error) {
	v := &s.views
	v.mu.RLock()
	known, turn := v.ready[name], v.turn
	v.mu.RUnlock()
	if known != nil {
		return known, nil
	}
	known = &view{}
	err := s.db.View(ctx, func(r kv.Reader) (err error) {
		if known.topic, err = getTopic(r, name); err == nil {
			known.all, err = subscriptionsOf(r, name)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	for _, x := range known.all {
		if x.Pending {
			continue
		}
		t, err := newTaker(known.topic, x)
		if err != nil { // was checked when it was set
			s.log.Error("subscription gets no messages: its attributes cannot be read", "subscription", x.name.arn(), "err", err)
			continue
		}
		known.takes = append(known.takes, t)
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.turn == turn {
		if v.ready == nil || len(v.ready) >= maxViews {
			v.ready = map[topicName]*view{}
		}
		v.ready[name] = known
	}
	return known, nil
}

// pageError turns the error of a paging marker into AWS's.
func pageError(err error) error {
	if errors.Is(err, kv.ErrMarker) {
		return invalid("NextToken")
	}
	return err
}
