package queue

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/mayflyhq/mayfly/internal/kv"
)

type step struct {
	op   string // add, take, delete
	body string // of an add or a deletion
}

// fifo is the specification of one group of a FIFO queue whose takes are of one message: what waits, whether the first is in flight, and the
// number of the last one that was added.
type fifo struct {
	waiting string // bodies with a space behind each
	flying  bool
	last    string
}

var fifoModel = porcupine.Model{
	Init: func() any { return fifo{} },
	Step: func(state, input, output any) (bool, any) {
		s, in, out := state.(fifo), input.(step), output.(string)
		switch in.op {
		case "add":
			return out > s.last, fifo{s.waiting + in.body + " ", s.flying, out} // numbers have as many digits
		case "take":
			first, _, _ := strings.Cut(s.waiting, " ")
			return !s.flying && out == first, fifo{s.waiting, true, s.last}
		default:
			rest, is := strings.CutPrefix(s.waiting, in.body+" ")
			return is && s.flying, fifo{rest, false, s.last}
		}
	},
	DescribeOperation: func(in, out any) string { return fmt.Sprintf("%v -> %q", in, out) },
}

// TestLinearizable lets clients add, take and delete at once in one group, and looks for an order of all that explains what each saw. A take
// that finds nothing says nothing: as with SQS, a message may become visible a moment after it was added.
func TestLinearizable(t *testing.T) {
	for round := range 8 {
		w := newWorld(t, FIFO, Options{Window: 1 + round})
		begin := time.Now()
		var mu sync.Mutex
		var history []porcupine.Operation
		do := func(client int, in step, fn func() string) string {
			called := time.Since(begin)
			out := fn()
			returned := time.Since(begin)
			if in.op == "take" && out == "" {
				return ""
			}
			mu.Lock()
			defer mu.Unlock()
			history = append(history, porcupine.Operation{ClientId: client, Input: in, Output: out, Call: int64(called), Return: int64(returned)})
			return out
		}
		var wg sync.WaitGroup
		for client := range 5 {
			wg.Go(func() {
				for i := range 25 {
					if rand.N(2) == 0 {
						body := fmt.Sprint(client, ".", i)
						do(client, step{"add", body}, func() string {
							var id ID
							if err := w.db.Update(context.Background(), func(tx kv.Tx) (err error) {
								id, err = w.q.Add(tx, Message{Group: "g", Body: []byte(body)})
								return err
							}); err != nil {
								t.Error(err)
							}
							return fmt.Sprintf("%020d", id.Seq)
						})
						continue
					}
					var ds []Delivery
					body := do(client, step{"take", ""}, func() string {
						var err error
						if ds, err = w.q.Take(context.Background(), Take{Max: 1, Visibility: time.Hour}); err != nil {
							t.Error(err)
						}
						if len(ds) == 0 {
							return ""
						}
						return string(ds[0].Body)
					})
					if body == "" {
						continue
					}
					do(client, step{"delete", body}, func() string {
						if errs, err := w.q.Delete(context.Background(), ds[0].Lease()); err != nil || errs[0] != nil {
							t.Error(errs, err)
						}
						return ""
					})
				}
			})
		}
		wg.Wait()
		if result := porcupine.CheckOperationsTimeout(fifoModel, history, time.Minute); result != porcupine.Ok {
			slices.SortFunc(history, func(a, b porcupine.Operation) int { return int(a.Call - b.Call) })
			for _, o := range history {
				t.Logf("%d..%d client %d: %v -> %q", o.Call, o.Return, o.ClientId, o.Input, o.Output)
			}
			t.Fatalf("round %d: %v", round, result)
		}
	}
}
