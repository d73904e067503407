package logs

import (
	"context"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/mayflyhq/mayfly/internal/aws/api/logsapi"
	"github.com/mayflyhq/mayfly/internal/kv"
)

// retentions are the retention times in days that AWS allows.
var retentions = []int32{1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653}

const (
	sweepInterval = time.Hour
	removeBatch   = 500     // rows removed in one transaction
	removeBytes   = 8 << 20 // of them held in memory for it, at most
	retryDelay    = 10 * time.Second
)

func (s *Service) putRetentionPolicy(ctx context.Context, in *logsapi.PutRetentionPolicyInput) (*logsapi.PutRetentionPolicyOutput, error) {
	days := *in.RetentionInDays
	if !slices.Contains(retentions, days) {
		var set []string
		for _, d := range retentions {
			set = append(set, strconv.Itoa(int(d)))
		}
		return nil, logsapi.ErrInvalidParameterException("1 validation error detected: Value '%d' at 'retentionInDays' failed to satisfy constraint: Member must satisfy enum value set: [%s]",
			days, strings.Join(set, ", "))
	}
	return nil, s.setRetention(ctx, *in.LogGroupName, days)
}

func (s *Service) deleteRetentionPolicy(ctx context.Context, in *logsapi.DeleteRetentionPolicyInput) (*logsapi.DeleteRetentionPolicyOutput, error) {
	return nil, s.setRetention(ctx, *in.LogGroupName, 0)
}

func (s *Service) setRetention(ctx context.Context, name string, days int32) error {
	return s.updateGroup(ctx, name, func(g *logGroup) error {
		if g.Class == logsapi.LogGroupClassDelivery {
			return logsapi.ErrInvalidParameterException("The retention of a log group of class DELIVERY cannot be changed.")
		}
		g.Retention = days
		return nil
	})
}

// horizon is the time before which events are past the retention, 0 if they never are.
func horizon(now int64, days int32) int64 {
	if days == 0 {
		return 0
	}
	return max(now-int64(days)*24*time.Hour.Milliseconds(), 0)
}

// removeExpired removes what is past its retention, now and every sweepInterval.
func (s *Service) removeExpired(ctx context.Context) {
	for {
		if err := s.sweep(ctx); err != nil && ctx.Err() == nil {
			s.log.Error("logs: removing expired events", "err", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(sweepInterval):
		}
	}
}

// sweep removes what is past its retention in all groups.
func (s *Service) sweep(ctx context.Context) error {
	type place struct {
		sc   scope
		name string
	}
	var due []place
	err := s.db.View(ctx, func(r kv.Reader) error {
		for rec, err := range kv.ScanJSON[logGroup](r, allGroups()) {
			if err != nil {
				return err
			}
			sc, name, err := decodeGroupKey(rec.Key)
			if err != nil {
				return err
			}
			if rec.Value.Retention > 0 {
				due = append(due, place{sc, name})
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	for _, p := range due {
		for more := true; more; {
			if more, err = s.expire(ctx, p.sc, p.name); err != nil {
				return err
			}
		}
	}
	return nil
}

// expire removes a batch of the chunks of a group all of whose events are past its retention, and reports whether there may be
// more. It reads the group and the index in its transaction, so that a change of the retention, or another sweep, is not missed.
func (s *Service) expire(ctx context.Context, sc scope, name string) (more bool, err error) {
	err = s.db.Update(ctx, func(tx kv.Tx) error {
		more = false
		g, ok, err := kv.GetJSON[logGroup](tx, sc.groupKey(name))
		if err != nil || !ok || g.Retention == 0 {
			return err
		}
		removed := map[string]int64{} // bytes by stream
		ids := map[string]int64{}
		n := 0
		for entry, err := range tx.Scan(sc.times(g.ID, 0, horizon(time.Now().UnixMilli(), g.Retention)-chunkSpan-1)) {
			if err != nil {
				return err
			}
			if more = n == removeBatch; more {
				break
			}
			n++
			e, err := decodeIndexEntry(entry)
			if err != nil {
				return err
			}
			tx.Delete(entry.Key)
			tx.Delete(sc.chunkKey(g.ID, e.stream, e.first, e.seq))
			removed[e.name] += e.size
			ids[e.name] = e.stream
		}
		for name, bytes := range removed {
			st, ok, err := kv.GetJSON[logStream](tx, sc.streamKey(g.ID, name))
			if err != nil {
				return err
			}
			if !ok || st.ID != ids[name] {
				continue // deleted; removeDeleted takes what is left
			}
			st.Name = name
			st.Bytes -= bytes
			if err := sc.setStream(tx, g.ID, &st); err != nil {
				return err
			}
		}
		return nil
	})
	return more, err
}
