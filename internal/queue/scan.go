package queue

import (
	"context"

	"github.com/mayflyhq/mayfly/internal/kv"
)

// Scan calls f for the messages of one snapshot until it returns false: first those without a delay, in the order in which they were added, then the others in
// the order in which their delays end. It takes nothing. Visible tells of the last take, and is zero for messages that were never taken.
func (q *Queue) Scan(ctx context.Context, f func(d *Delivery) bool) error {
	return q.s.db.View(ctx, func(r kv.Reader) error {
		for x, err := range r.Scan(q.headers()) {
			if err != nil {
				return err
			}
			e, err := decode(x)
			if err != nil {
				return err
			}
			body, ok, err := r.Get(q.bodyKey(e.body))
			if err != nil {
				return err
			}
			if !ok {
				continue
			}
			if d := e.delivery(body); !f(&d) {
				return nil
			}
		}
		return nil
	})
}
