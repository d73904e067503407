package kvtest

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/mayflyhq/mayfly/internal/kv"
)

// model is the map that a store should be.
type model map[string]string

func (m model) scan(rg kv.Range, limit int) []string {
	keys := slices.Sorted(maps.Keys(m))
	if rg.Reverse {
		slices.Reverse(keys)
	}
	got := []string{}
	for _, k := range keys {
		if len(got) < limit && rg.Contains([]byte(k)) {
			got = append(got, k+"="+m[k])
		}
	}
	return got
}

// testModel runs random transactions one after another on the store and on a map.
func testModel(t *testing.T, db kv.DB) {
	var (
		// Few keys, so that operations meet, and bytes at the ends of the range.
		keys   = rapid.StringOfN(rapid.SampledFrom([]rune{0, 'a', 'b', 0x7F}), 1, 3, -1)
		bound  = rapid.OneOf(keys, rapid.Just(""))
		values = rapid.StringN(0, 5, -1)
	)
	rapid.Check(t, func(rt *rapid.T) {
		m := model{}
		update(t, db, func(tx kv.Tx) {
			for e := range tx.Scan(kv.Range{}) {
				tx.Delete(e.Key)
			}
		})
		for range rapid.IntRange(1, 8).Draw(rt, "transactions") {
			next := maps.Clone(m)
			abort := rapid.IntRange(0, 3).Draw(rt, "abort") == 0
			errAbort := errors.New("abort")
			err := db.Update(t.Context(), func(tx kv.Tx) error {
				for range rapid.IntRange(0, 12).Draw(rt, "operations") {
					switch rapid.SampledFrom([]string{"set", "set", "delete", "get", "scan", "scan and write"}).Draw(rt, "operation") {
					case "set":
						k, v := keys.Draw(rt, "key"), values.Draw(rt, "value")
						tx.Set([]byte(k), []byte(v))
						next[k] = v
					case "delete":
						k := keys.Draw(rt, "key")
						tx.Delete([]byte(k))
						delete(next, k)
					case "get":
						k := keys.Draw(rt, "key")
						compareGet(rt, tx, next, k)
					case "scan":
						compareScan(rt, tx, next, drawRange(rt, bound), rapid.IntRange(0, 20).Draw(rt, "limit"), nil)
					case "scan and write":
						v := values.Draw(rt, "value")
						compareScan(rt, tx, next, drawRange(rt, bound), 20, func(key []byte) {
							tx.Delete(key)
							delete(next, string(key))
							k := "w" + string(key[:1])
							tx.Set([]byte(k), []byte(v))
							next[k] = v
						})
					}
				}
				if abort {
					return errAbort
				}
				return nil
			})
			switch {
			case abort && err != errAbort, !abort && err != nil:
				rt.Fatalf("Update: %v", err)
			case !abort:
				m = next
			}
			if err := db.View(t.Context(), func(r kv.Reader) error {
				compareScan(rt, r, m, kv.Range{}, 1000, nil)
				compareScan(rt, r, m, drawRange(rt, bound), rapid.IntRange(0, 20).Draw(rt, "limit"), nil)
				compareGet(rt, r, m, keys.Draw(rt, "key"))
				return nil
			}); err != nil {
				rt.Fatalf("View: %v", err)
			}
		}
	})
}

func drawRange(rt *rapid.T, bound *rapid.Generator[string]) kv.Range {
	return kv.Range{
		Start:   []byte(bound.Draw(rt, "start")),
		End:     []byte(bound.Draw(rt, "end")),
		Reverse: rapid.Bool().Draw(rt, "reverse"),
	}
}

func compareGet(rt *rapid.T, r kv.Reader, m model, key string) {
	v, ok, err := r.Get([]byte(key))
	if want, has := m[key]; err != nil || ok != has || string(v) != want {
		rt.Fatalf("Get(%q) = %q, %v, %v, want %q, %v", key, v, ok, err, want, has)
	}
}

// compareScan scans and calls each, if given, with every key while the scan runs.
func compareScan(rt *rapid.T, r kv.Reader, m model, rg kv.Range, limit int, each func(key []byte)) {
	want := m.scan(rg, limit)
	got := []string{}
	if limit > 0 {
		for e, err := range r.Scan(rg) {
			if err != nil {
				rt.Fatalf("Scan: %v", err)
			}
			got = append(got, fmt.Sprintf("%s=%s", e.Key, e.Value))
			if each != nil {
				each(e.Key)
			}
			if len(got) == limit {
				break
			}
		}
	}
	if !slices.Equal(got, want) {
		rt.Fatalf("Scan(%q, %q, reverse %v) = %q, want %q", rg.Start, rg.End, rg.Reverse, got, want)
	}
}
