package sns

import (
	"context"
	"time"

	"github.com/mayflyhq/mayfly/internal/kv"
)

const (
	sweeping  = time.Minute // between two looks at what has expired or was delivered
	batchSize = 500         // rows that one transaction removes
)

// removeDelivered removes messages whose last delivery has ended.
func (s *Service) removeDelivered(ctx context.Context) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	var ids []string
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
			timer.Reset(sweeping)
			if !s.missed.Swap(false) {
				continue
			}
			if err := s.sweepMessages(ctx); err != nil {
				if ctx.Err() != nil {
					return nil
				}
				s.missed.Store(true)
				s.log.Error("delivered messages not removed: trying again later", "err", err)
			}
			continue
		case id := <-s.ended:
			ids = append(ids[:0], id)
		}
		for more := true; more && len(ids) < batchSize; {
			select {
			case id := <-s.ended:
				ids = append(ids, id)
			default:
				more = false
			}
		}
		if err := s.removeMessages(ctx, ids); err != nil && ctx.Err() == nil {
			s.missed.Store(true)
			s.log.Error("delivered messages not removed: trying again later", "err", err)
		}
	}
}

// removeMessages removes those messages that have no delivery left. Deliveries are added with their message only, so what has none gets none.
func (s *Service) removeMessages(ctx context.Context, ids []string) error {
	var over []string
	err := s.db.View(ctx, func(r kv.Reader) error {
		for _, id := range ids {
			left := false
			for _, err := range r.Scan(pending(id)) {
				if err != nil {
					return err
				}
				left = true
				break
			}
			if !left {
				over = append(over, id)
			}
		}
		return nil
	})
	if err != nil || len(over) == 0 {
		return err
	}
	return s.db.Update(ctx, func(tx kv.Tx) error {
		for _, id := range over {
			tx.Delete(messageKey(id))
		}
		return nil
	})
}

// sweepMessages looks at all messages that are stored.
func (s *Service) sweepMessages(ctx context.Context) error {
	rg := messages()
	for {
		var ids []string
		err := s.db.View(ctx, func(r kv.Reader) error {
			for e, err := range r.Scan(rg) {
				if err != nil {
					return err
				}
				if len(ids) == batchSize {
					return nil
				}
				var id string
				if err := kv.Decode(e.Key, nil, &id); err != nil {
					return err
				}
				ids = append(ids, id)
			}
			return nil
		})
		if err == nil && len(ids) > 0 {
			err = s.removeMessages(ctx, ids)
		}
		if err != nil || len(ids) < batchSize {
			return err
		}
		rg = rg.After(messageKey(ids[len(ids)-1]))
	}
}

// removeExpired removes what has had its time: subscriptions that nobody confirmed, those that were cancelled, and what FIFO topics remember.
func (s *Service) removeExpired(ctx context.Context) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
			timer.Reset(sweeping)
		}
		for {
			n, err := s.expire(ctx)
			if err != nil && ctx.Err() == nil {
				s.log.Error("what has expired is not removed: trying again later", "err", err)
			}
			if err != nil || n < batchSize {
				break
			}
		}
	}
}

// expire removes one batch and returns how many rows it looked at.
func (s *Service) expire(ctx context.Context) (n int, err error) {
	now := s.now()
	var keys [][]byte
	err = s.db.View(ctx, func(r kv.Reader) error {
		for e, err := range r.Scan(expired(now)) {
			if err != nil {
				return err
			}
			if keys = append(keys, e.Key); len(keys) == batchSize {
				return nil
			}
		}
		return nil
	})
	if err != nil || len(keys) == 0 {
		return 0, err
	}
	var topics []topicName
	err = s.db.Update(ctx, func(tx kv.Tx) error {
		topics = topics[:0]
		for _, k := range keys {
			tx.Delete(k)
			_, of, err := decodeExpiry(k)
			if err != nil {
				return err
			}
			row, ok, err := kv.GetJSON[expiring](tx, of)
			if err != nil {
				return err
			}
			if !ok || row.Expires.After(now) {
				continue // renewed, and another row says when
			}
			if isIn(subscriptionTable, of) {
				if !row.Pending {
					continue // confirmed
				}
				name, err := decodeSubscription(of)
				if err != nil {
					return err
				}
				topics = append(topics, name.topic)
				tx.Delete(name.ownedKey(row.Owner))
			}
			tx.Delete(of)
		}
		return nil
	})
	for _, t := range topics {
		s.views.change(t)()
	}
	return len(keys), err
}
