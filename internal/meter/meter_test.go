package meter

import (
	"log/slog"
	"math"
	"testing"
	"time"

	"github.com/mayflyhq/mayfly/internal/fleet"
	"github.com/mayflyhq/mayfly/internal/kv/pebblekv"
)

func TestBill(t *testing.T) {
	db, err := pebblekv.Open(pebblekv.Options{InMemory: true})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	m := New(db, slog.New(slog.DiscardHandler))
	day := time.Date(2026, 3, 1, 23, 59, 59, 0, time.UTC)
	u := fleet.Usage{Account: "000000000001", Region: "us-east-1", Function: "f", Version: "$LATEST", Architecture: "x86_64", MemoryMB: 1024,
		End: day, Init: 40 * time.Millisecond, Duration: 2 * time.Millisecond, BilledMs: 42}
	m.Record(u)
	u.Init, u.BilledMs, u.Failed = 0, 2, true
	m.Record(u)
	u.End = day.Add(time.Second) // the next day
	m.Record(u)
	other := u
	other.Account = "000000000002"
	m.Record(other)

	lines, err := m.Read(t.Context(), "000000000001", "", "")
	if err != nil {
		t.Fatal(err)
	}
	if len(lines) != 2 {
		t.Fatalf("%d lines, want one for each day: %+v", len(lines), lines)
	}
	l := lines[0]
	if l.Day != "2026-03-01" || l.Function != "f" || l.MemoryMB != 1024 ||
		l.Sum != (Sum{Invocations: 2, Failures: 1, ColdStarts: 1, InitMicros: 40_000, Micros: 4_000, BilledMs: 44}) {
		t.Errorf("line = %+v", l)
	}
	if want := 0.044*priceX86 + 2*priceRequest; math.Abs(l.USD-want) > 1e-12 || math.Abs(l.GBSeconds-0.044) > 1e-9 {
		t.Errorf("price = %v for %v GB-s, want %v for 0.044", l.USD, l.GBSeconds, want)
	}
	if lines, err = m.Read(t.Context(), "000000000001", "2026-03-02", "2026-03-02"); err != nil || len(lines) != 1 || lines[0].Invocations != 1 {
		t.Errorf("the second day alone = %+v, %v", lines, err)
	}
}
