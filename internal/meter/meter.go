// Package meter keeps the bill: what each function ran, summed by day, at AWS's public prices.
package meter

import (
	"context"
	"encoding/json"
	"log/slog"
	"sync"
	"time"

	"github.com/mayflyhq/mayfly/internal/fleet"
	"github.com/mayflyhq/mayfly/internal/kv"
)

// linger is how long records wait before they are stored. A power cut costs at most these; a stop costs none.
const linger = 250 * time.Millisecond

// Meter sums usage in the store. Its methods may be called concurrently.
type Meter struct {
	db   kv.DB
	log  *slog.Logger
	wake chan struct{}

	mu      sync.Mutex
	pending map[id]*Sum
}

// id is what one row sums up.
type id struct {
	account, region, day, function, version, architecture string
	memoryMB                                              int
}

// Sum is what invocations of one size on one day came to.
type Sum struct {
	Invocations int64 `json:"invocations"`
	Failures    int64 `json:"failures"`
	ColdStarts  int64 `json:"coldStarts"`
	InitMicros  int64 `json:"initMicros"`
	Micros      int64 `json:"micros"`
	BilledMs    int64 `json:"billedMs"`
}

func (s *Sum) add(o *Sum) {
	s.Invocations += o.Invocations
	s.Failures += o.Failures
	s.ColdStarts += o.ColdStarts
	s.InitMicros += o.InitMicros
	s.Micros += o.Micros
	s.BilledMs += o.BilledMs
}

// Line is one row of the bill.
type Line struct {
	Account      string  `json:"account"`
	Region       string  `json:"region"`
	Day          string  `json:"day"` // 2006-01-02, UTC
	Function     string  `json:"function"`
	Version      string  `json:"version"`
	Architecture string  `json:"architecture"`
	MemoryMB     int     `json:"memoryMB"`
	GBSeconds    float64 `json:"gbSeconds"`
	USD          float64 `json:"usd"`
	Sum
}

// AWS's public prices of the first tier in us-east-1: US dollars per GB-second by architecture, and per request.
const (
	priceX86     = 0.0000166667
	priceARM     = 0.0000133334
	priceRequest = 0.0000002
)

// New returns a meter that keeps its rows in db. Run must be called for them to be stored.
func New(db kv.DB, log *slog.Logger) *Meter {
	return &Meter{db: db, log: log, wake: make(chan struct{}, 1), pending: map[id]*Sum{}}
}

var _ fleet.Meter = (*Meter)(nil)

// Record adds one invocation. It does not wait for the disk.
func (m *Meter) Record(u fleet.Usage) {
	s := Sum{Invocations: 1, InitMicros: u.Init.Microseconds(), Micros: u.Duration.Microseconds(), BilledMs: u.BilledMs}
	if u.Failed {
		s.Failures = 1
	}
	if u.Init > 0 {
		s.ColdStarts = 1
	}
	m.mu.Lock()
	m.put(id{u.Account, u.Region, u.End.UTC().Format(time.DateOnly), u.Function, u.Version, u.Architecture, u.MemoryMB}, &s)
	m.mu.Unlock()
	select {
	case m.wake <- struct{}{}:
	default:
	}
}

// put adds s to what is pending. m.mu is held.
func (m *Meter) put(k id, s *Sum) {
	if sum := m.pending[k]; sum != nil {
		sum.add(s)
	} else {
		m.pending[k] = s
	}
}

// Run stores what is recorded until ctx ends, and then what is left.
func (m *Meter) Run(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return m.store(context.WithoutCancel(ctx))
		case <-m.wake:
		}
		select {
		case <-ctx.Done():
		case <-time.After(linger):
		}
		if err := m.store(context.WithoutCancel(ctx)); err != nil {
			m.log.Error("usage not stored, will try again", "err", err)
		}
	}
}

func (m *Meter) store(ctx context.Context) error {
	m.mu.Lock()
	pending := m.pending
	m.pending = map[id]*Sum{}
	m.mu.Unlock()
	if len(pending) == 0 {
		return nil
	}
	err := m.db.Update(ctx, func(tx kv.Tx) error {
		for k, s := range pending {
			key := k.key()
			sum, _, err := kv.GetJSON[Sum](tx, key)
			if err != nil {
				return err
			}
			sum.add(s)
			if err := kv.SetJSON(tx, key, sum); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		m.mu.Lock()
		for k, s := range pending {
			m.put(k, s)
		}
		m.mu.Unlock()
	}
	return err
}

// The rows are usage/<account>/<region>/<day>/<function>/<version>/<architecture>/<memory>.
func (k id) key() []byte {
	return kv.Key("usage", k.account, k.region, k.day, k.function, k.version, k.architecture, k.memoryMB)
}

// Read returns the bill of an account, in all regions, from one day to another (2006-01-02, both included), in order
// of region, day and function. Empty days leave the range open.
func (m *Meter) Read(ctx context.Context, account, from, to string) ([]Line, error) {
	if err := m.store(ctx); err != nil { // what was recorded just now belongs to it
		return nil, err
	}
	var lines []Line
	err := m.db.View(ctx, func(r kv.Reader) error {
		lines = lines[:0]
		for e, err := range r.Scan(kv.Prefix("usage", account)) {
			if err != nil {
				return err
			}
			var l Line
			if err := kv.Decode(e.Key, nil, &l.Account, &l.Region, &l.Day, &l.Function, &l.Version, &l.Architecture, &l.MemoryMB); err != nil {
				return err
			}
			if from != "" && l.Day < from || to != "" && l.Day > to {
				continue
			}
			if err := json.Unmarshal(e.Value, &l.Sum); err != nil {
				return err
			}
			l.price()
			lines = append(lines, l)
		}
		return nil
	})
	return lines, err
}

func (l *Line) price() {
	l.GBSeconds = float64(l.BilledMs) / 1000 * float64(l.MemoryMB) / 1024
	perGBs := priceX86
	if l.Architecture == "arm64" {
		perGBs = priceARM
	}
	l.USD = l.GBSeconds*perGBs + float64(l.Invocations)*priceRequest
}
