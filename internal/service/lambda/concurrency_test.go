package lambda

import (
	"maps"
	"slices"
	"sync"

	"github.com/mayflyhq/mayfly/internal/fleet"
)

// fakeCapacity remembers what it was told.
type fakeCapacity struct {
	mu       sync.Mutex
	reserved map[string]int
	want     map[string]map[string]int // configuration to version to number
	state    map[string]fleet.Provisioned
	told     chan struct{} // of capacity 1: something was told
}

func newCapacity() *fakeCapacity {
	return &fakeCapacity{
		reserved: map[string]int{}, want: map[string]map[string]int{}, state: map[string]fleet.Provisioned{}, told: make(chan struct{}, 1),
	}
}

func (f *fakeCapacity) Reserve(arn string, n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.reserved[arn] = n
}

func (f *fakeCapacity) Unreserve(arn string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.reserved, arn)
}

func (f *fakeCapacity) Provision(config string, want []fleet.Provision) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.want, config)
	for _, w := range want {
		if f.want[config] == nil {
			f.want[config] = map[string]int{}
		}
		f.want[config][w.Function.Version] = w.Count
	}
	select {
	case f.told <- struct{}{}:
	default:
	}
}

func (f *fakeCapacity) Provisioned(config string) fleet.Provisioned {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.state[config]
}

func (f *fakeCapacity) set(config string, p fleet.Provisioned) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.state[config] = p
}

// reservations lists what is reserved.
func (f *fakeCapacity) reservations() map[string]int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return maps.Clone(f.reserved)
}

// await waits until a configuration is as wanted; an empty want waits for its end.
func (f *fakeCapacity) await(config string, want map[string]int) {
	for {
		f.mu.Lock()
		got := f.want[config]
		f.mu.Unlock()
		if maps.Equal(got, want) {
			return
		}
		<-f.told
	}
}

var _ = slices.Sorted[string]
