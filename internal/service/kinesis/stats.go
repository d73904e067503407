package kinesis

import (
	"context"
	"time"

	"github.com/mayflyhq/mayfly/internal/kv"
)

// StreamStats is what a stream holds and who reads it. Durations are in milliseconds.
type StreamStats struct {
	Name    string `json:"name"`
	Region  string `json:"region"`
	Status  string `json:"status"`
	Mode    string `json:"mode"`
	Shards  int    `json:"shards"`  // open ones
	Records uint64 `json:"records"` // about, within the retention
	Bytes   uint64 `json:"bytes"`   // about

	RetentionHours int32           `json:"retentionHours"`
	OldestMillis   *int64          `json:"oldestMillis,omitempty"`  // age of the oldest record; nil if there is none
	PollersMillis  *int64          `json:"pollersMillis,omitempty"` // the most that a GetRecords of the last minute was behind; nil if there was none
	Consumers      []ConsumerStats `json:"consumers"`
}

// ConsumerStats is an enhanced fan-out consumer.
type ConsumerStats struct {
	Name      string `json:"name"`
	Status    string `json:"status"`
	Shards    int    `json:"shards"`    // it is subscribed to
	LagMillis int64  `json:"lagMillis"` // the most that it is behind in one of them
}

// Stats returns the streams of an account in all regions, by region and name.
func (s *Service) Stats(ctx context.Context, account string) ([]StreamStats, error) {
	var streams []*stream
	err := s.db.View(ctx, func(r kv.Reader) error {
		for e, err := range r.Scan(kv.Prefix(streamTable, account)) {
			if err != nil {
				return err
			}
			name, err := decodeRef(e.Key)
			if err != nil {
				return err
			}
			st, err := s.load(r, name)
			if err != nil {
				return err
			}
			if st != nil {
				streams = append(streams, st)
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	all := []StreamStats{}
	for _, st := range streams {
		x := StreamStats{
			Name: st.ref.name, Region: st.ref.region, Status: st.Status, Mode: st.Mode, Shards: st.openCount(), RetentionHours: st.Retention,
		}
		var oldest time.Time
		for _, sh := range st.shards {
			if sh.State == shardComing {
				continue
			}
			log, err := s.recordLog(st, sh.index).Stats(ctx, st.horizon())
			if err != nil {
				return nil, err
			}
			if sh.State == shardClosed && log.Records > 0 && sh.End >= st.horizon() {
				log.Records-- // its end
				log.Bytes--
			}
			x.Records += log.Records
			x.Bytes += log.Bytes
			if log.Records > 0 && (oldest.IsZero() || log.First.Before(oldest)) {
				oldest = log.First
			}
		}
		if !oldest.IsZero() {
			x.OldestMillis = new(max(0, time.Since(oldest).Milliseconds()))
		}
		s.readers(st, &x)
		all = append(all, x)
	}
	return all, nil
}

// readers fills in who reads a stream.
func (s *Service) readers(st *stream, x *StreamStats) {
	s.subs.mu.Lock()
	defer s.subs.mu.Unlock()
	for _, sh := range st.shards {
		if p, ok := s.subs.polls[shardKey{st.UID, sh.index}]; ok && time.Since(p.at) < time.Minute {
			if x.PollersMillis == nil || p.behind > *x.PollersMillis {
				x.PollersMillis = &p.behind
			}
		}
	}
	x.Consumers = []ConsumerStats{}
	for i := range st.Consumers {
		c := &st.Consumers[i]
		y := ConsumerStats{Name: c.Name, Status: c.Status}
		for k, sub := range s.subs.open {
			if k.consumer == c.arn(st.ref) && !sub.ended {
				y.Shards++
				y.LagMillis = max(y.LagMillis, sub.behind)
			}
		}
		x.Consumers = append(x.Consumers, y)
	}
}

// forget drops what GetRecords found long ago.
func (s *subscriptions) forget(now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for k, p := range s.polls {
		if now.Sub(p.at) > time.Minute {
			delete(s.polls, k)
		}
	}
}
