package commitlog_test

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/mayflyhq/mayfly/internal/commitlog"
	"github.com/mayflyhq/mayfly/internal/kv"
	"github.com/mayflyhq/mayfly/internal/kv/kvtest"
	"github.com/mayflyhq/mayfly/internal/kv/pebblekv"
)

// childDir names the directory of the store of the child of TestKill.
const childDir = "COMMITLOG_TEST_CHILD_DIR"

// TestKill kills a process that appends and trims, again and again on the same store. No acknowledged record is lost or moved, those of one
// writer keep their order, and no position is used twice.
func TestKill(t *testing.T) {
	if dir := os.Getenv(childDir); dir != "" {
		appendForever(t, dir)
	}
	dir := t.TempDir()
	rounds := 12
	if testing.Short() {
		rounds = 3
	}
	acknowledged := map[string]map[uint64]string{"keep": {}, "trim": {}}
	highest := map[string]uint64{}
	for range rounds {
		before := maps.Clone(highest)
		kvtest.Kill(t, childDir+"="+dir, 1+rand.IntN(300), func(line string) {
			f := strings.Fields(line)
			if len(f) == 4 && f[3] == "." { // the last line may be torn
				p, err := strconv.ParseUint(f[1], 10, 64)
				if err != nil {
					t.Fatal(err)
				}
				if old, used := acknowledged[f[0]][p]; used || p <= before[f[0]] {
					t.Errorf("position %d of %s for %s and %q", p, f[0], f[2], old)
				}
				acknowledged[f[0]][p] = f[2]
				highest[f[0]] = max(highest[f[0]], p)
			}
		})
	}
	db := open(t, pebblekv.Options{Dir: dir})
	defer db.Close()
	logs := commitlog.New(db, "log")
	for name, all := range acknowledged {
		order := map[string]int{}
		first := uint64(0)
		found := 0
		for next := uint64(0); ; {
			b, err := logs.Log(name).Read(t.Context(), next, 100, 1<<20)
			if err != nil {
				t.Fatal(err)
			}
			if len(b.Records) == 0 {
				break
			}
			if first == 0 {
				first = b.Records[0].Position
			}
			for _, r := range b.Records {
				if data, ok := all[r.Position]; ok {
					found++
					want(t, "record", string(r.Data), data)
				}
				writer, number, _ := strings.Cut(string(r.Data), "/")
				n, _ := strconv.Atoi(number)
				if last, ok := order[writer]; ok && n <= last {
					t.Errorf("%s %d after %d", writer, n, last)
				}
				order[writer] = n
			}
			next = b.Next
		}
		missing := 0
		for p := range all {
			if p >= first {
				missing++
			}
		}
		if missing -= found; missing != 0 || name == "keep" && found != len(all) {
			t.Errorf("%s: %d of %d acknowledged records were found, %d are missing", name, found, len(all), missing)
		}
		t.Logf("%s: %d acknowledged, %d there", name, len(all), found)
	}
}

func appendForever(t *testing.T, dir string) {
	db := open(t, pebblekv.Options{Dir: dir, MemTableBytes: 64 << 10})
	logs := commitlog.New(db, "log")
	var wg sync.WaitGroup
	var out sync.Mutex
	for _, name := range []string{"keep", "trim"} {
		for n := range 3 {
			wg.Go(func() {
				for i := 0; ; i += 2 {
					a, b := fmt.Sprint(os.Getpid(), "-", n, "/", i), fmt.Sprint(os.Getpid(), "-", n, "/", i+1)
					var first uint64
					if db.Update(context.Background(), func(tx kv.Tx) (err error) {
						first, err = logs.Log(name).Append(tx, []byte(a), []byte(b))
						return err
					}) != nil {
						return
					}
					out.Lock()
					fmt.Printf("%s %d %s .\n%s %d %s .\n", name, first, a, name, first+1, b)
					out.Unlock()
					if name == "trim" && i%20 == 0 {
						_, _ = logs.Log(name).Trim(context.Background(), first)
					}
				}
			})
		}
	}
	wg.Wait()
	t.Fatal("the store failed")
}
