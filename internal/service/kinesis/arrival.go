package kinesis

import "sync"

// arrivals knows who wants to be told of records.
type arrivals struct {
	mu    sync.RWMutex
	bells map[string]map[*func(string)]struct{} // by the ARN of the stream
}

// OnArrival calls f soon after records of a stream, which need not exist yet, can be read, with their shard, and with "" after the shards of the stream
// have changed. f must return at once. No call begins after stop has returned.
func (s *Service) OnArrival(stream string, f func(shard string)) (stop func()) {
	a := &s.arrivals
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.bells == nil {
		a.bells = map[string]map[*func(string)]struct{}{}
	}
	if a.bells[stream] == nil {
		a.bells[stream] = map[*func(string)]struct{}{}
	}
	a.bells[stream][&f] = struct{}{}
	return func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		if delete(a.bells[stream], &f); len(a.bells[stream]) == 0 {
			delete(a.bells, stream)
		}
	}
}

// ring tells of a shard's records, or of a change of the shards.
func (a *arrivals) ring(name ref, shard string) {
	a.mu.RLock()
	defer a.mu.RUnlock()
	if len(a.bells) == 0 {
		return
	}
	for f := range a.bells[name.arn()] {
		(*f)(shard)
	}
}
