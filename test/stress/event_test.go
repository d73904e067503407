package stress

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"
)

// TestEventsSurviveKills kills the server again and again while it accepts events, retries them and delivers their records to another
// function. Every accepted event runs at least once, and every one that failed is followed by a record.
func TestEventsSurviveKills(t *testing.T) {
	needSandboxes(t)
	rounds := 8
	if testing.Short() {
		rounds = 3
	}
	s := newInstance(t, "--async-retry-wait", "500ms")
	f := provided
	f.files, f.timeout = map[string][]byte{"bootstrap": bootstrap}, 10
	var mu sync.Mutex
	accepted := map[string]bool{} // tokens, and whether the event fails
	for round := range rounds {
		s.start()
		if round == 0 {
			s.create("follower", f)
			s.create("worker", f)
			s.await("follower")
			s.await("worker")
			_, err := s.lambda().PutFunctionEventInvokeConfig(t.Context(), &lambda.PutFunctionEventInvokeConfigInput{
				FunctionName: new("worker"), MaximumRetryAttempts: new(int32(1)),
				DestinationConfig: &types.DestinationConfig{OnFailure: &types.OnFailure{Destination: new(s.arn("follower"))}},
			})
			if err != nil {
				t.Fatal(err)
			}
		}
		var dead atomic.Bool
		var wg sync.WaitGroup
		for client := range 4 {
			wg.Go(func() {
				for n := 0; !dead.Load(); n++ {
					token := fmt.Sprintf("event-%d-%d-%d", round, client, n)
					deed, fails := "note", n%3 == 0
					if fails {
						deed = "note and fail"
					}
					_, err := s.lambda().Invoke(t.Context(), &lambda.InvokeInput{
						FunctionName: new("worker"), InvocationType: types.InvocationTypeEvent, Payload: fmt.Appendf(nil, `{"do":%q,"token":%q}`, deed, token),
					})
					if err == nil {
						mu.Lock()
						accepted[token] = fails
						mu.Unlock()
					}
					time.Sleep(40 * time.Millisecond) // the machine has to run them all
				}
			})
		}
		time.Sleep(time.Duration(500+rand.N(1500)) * time.Millisecond)
		s.kill()
		dead.Store(true)
		wg.Wait()
	}
	s.start()
	var lost, unfollowed []string
	for deadline := time.Now().Add(3 * time.Minute); ; time.Sleep(time.Second) {
		noted, followed := s.tokens("worker", "noted "), s.tokens("follower", "followed ")
		lost, unfollowed = nil, nil
		for token, fails := range accepted {
			if noted[token] == 0 {
				lost = append(lost, token)
			}
			if fails && followed[token] == 0 {
				unfollowed = append(unfollowed, token)
			}
		}
		if len(lost)+len(unfollowed) == 0 {
			runs, records := 0, 0
			for token := range accepted {
				runs += noted[token]
				records += followed[token]
			}
			t.Logf("%d kills, %d events accepted, %d runs, %d records", rounds, len(accepted), runs, records)
			break
		}
		if time.Now().After(deadline) {
			t.Errorf("of %d events %d did not run (%.5q), %d were not followed (%.5q)", len(accepted), len(lost), lost, len(unfollowed), unfollowed)
			break
		}
	}
	s.stop()
}

// arn is the ARN of a function.
func (s *instance) arn(name string) string {
	s.t.Helper()
	out, err := s.lambda().GetFunctionConfiguration(s.t.Context(), &lambda.GetFunctionConfigurationInput{FunctionName: &name})
	if err != nil {
		s.t.Fatal(err)
	}
	return *out.FunctionArn
}

// tokens counts the lines of a function's log that begin with a word, by what follows it.
func (s *instance) tokens(function, word string) map[string]int {
	s.t.Helper()
	all := map[string]int{}
	p := cloudwatchlogs.NewFilterLogEventsPaginator(s.logs(), &cloudwatchlogs.FilterLogEventsInput{LogGroupName: new("/aws/lambda/" + function)})
	for p.HasMorePages() {
		page, err := p.NextPage(s.t.Context())
		if err != nil {
			return all // there is no log yet
		}
		for _, e := range page.Events {
			if token, ok := strings.CutPrefix(strings.TrimSpace(*e.Message), word); ok {
				all[token]++
			}
		}
	}
	return all
}

// TestManyEvents queues very many events of a function that cannot run. That takes no memory, and another function's event is not behind them.
func TestManyEvents(t *testing.T) {
	needSandboxes(t)
	total, clients := 200_000, 32
	if testing.Short() {
		total = 20_000
	}
	s := newInstance(t, "--concurrency", "1")
	s.start()
	f := provided
	f.files = map[string][]byte{"bootstrap": bootstrap}
	f.timeout = 900
	s.create("stuck", f)
	s.await("stuck")
	send := func(payload string) error {
		_, err := s.lambda().Invoke(t.Context(), &lambda.InvokeInput{FunctionName: new("stuck"), InvocationType: types.InvocationTypeEvent, Payload: []byte(payload)})
		return err
	}
	if err := send(`{"do":"sleep","ms":800000}`); err != nil {
		t.Fatal(err)
	}
	queue := func(n int) {
		var left atomic.Int64
		left.Store(int64(n))
		var wg sync.WaitGroup
		for range clients {
			wg.Go(func() {
				for left.Add(-1) >= 0 {
					if err := send(`{"do":"print","token":"x"}`); err != nil {
						t.Error(err)
						return
					}
				}
			})
		}
		wg.Wait()
	}
	queue(total / 10)
	before, _ := s.stat()
	begin := time.Now()
	queue(total - total/10)
	after, _ := s.stat()
	t.Logf("%d events accepted, %.0f a second; memory %d MB, with a tenth of them %d MB", total, float64(total-total/10)/time.Since(begin).Seconds(), after, before)
	if after > before+128 { // the store's own buffers fill meanwhile
		t.Errorf("memory grew from %d MB to %d MB", before, after)
	}
	s.kill()
	begin = time.Now()
	s.start()
	rss, _ := s.stat()
	t.Logf("started with them in %v, %d MB", time.Since(begin).Round(time.Millisecond), rss)
	s.kill()
}
