package stress

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs"
	logstypes "github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs/types"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"
)

// TestKill kills the server under load, again and again. What was acknowledged is there afterwards, and what ran is not.
func TestKill(t *testing.T) {
	needSandboxes(t)
	rounds := 20
	if testing.Short() {
		rounds = 4
	}
	s := newInstance(t)
	var (
		mu       sync.Mutex
		versions = map[string]int{} // acknowledged versions by function
		tried    = map[string]int{} // those that may have come through
		events   []string           // acknowledged log events
	)
	f := provided
	f.files = map[string][]byte{"bootstrap": bootstrap}
	group, stream := "kept", "kept"
	for round := range rounds {
		s.start()
		dead := s.pids[:len(s.pids)-1]
		s.awaitNothing(dead)
		if round == 0 {
			s.create("stable", f)
			if _, err := s.logs().CreateLogGroup(t.Context(), &cloudwatchlogs.CreateLogGroupInput{LogGroupName: &group}); err != nil {
				t.Fatal(err)
			}
			if _, err := s.logs().CreateLogStream(t.Context(), &cloudwatchlogs.CreateLogStreamInput{LogGroupName: &group, LogStreamName: &stream}); err != nil {
				t.Fatal(err)
			}
		}
		s.checkKept(versions, tried, events)

		var wg sync.WaitGroup
		dying := make(chan struct{})
		alive := func() bool {
			select {
			case <-dying:
				return false
			default:
				return true
			}
		}
		for client := range 4 {
			name := fmt.Sprintf("f%d", client)
			wg.Go(func() { // creates, or puts new code to, a function of its own
				for alive() {
					mu.Lock()
					n := tried[name] + 1
					tried[name] = n
					acknowledged := versions[name]
					mu.Unlock()
					g := f
					g.version = fmt.Sprint(n)
					var err error
					if acknowledged == 0 {
						_, err = s.lambda().CreateFunction(t.Context(), g.input(name))
					} else {
						_, err = s.lambda().UpdateFunctionCode(t.Context(), &lambda.UpdateFunctionCodeInput{FunctionName: &name, ZipFile: g.archive()})
					}
					switch {
					case err == nil:
						mu.Lock()
						versions[name] = n
						mu.Unlock()
						s.updated(t.Context(), name)
					case code(err) == "ResourceConflictException" && acknowledged == 0: // the crash came between commit and answer
						mu.Lock()
						versions[name] = 1
						mu.Unlock()
					}
				}
			})
			wg.Go(func() {
				for n := 0; alive(); n++ {
					deed := deeds[rand.N(len(deeds))]
					s.lambda().Invoke(t.Context(), &lambda.InvokeInput{FunctionName: new("stable"), Payload: fmt.Appendf(nil, `{"do":%q,"token":"x"}`, deed)})
				}
			})
			wg.Go(func() {
				for n := 0; alive(); n++ {
					message := fmt.Sprintf("event-%d-%d-%d", round, client, n)
					_, err := s.logs().PutLogEvents(t.Context(), &cloudwatchlogs.PutLogEventsInput{LogGroupName: &group, LogStreamName: &stream,
						LogEvents: []logstypes.InputLogEvent{{Message: &message, Timestamp: new(time.Now().UnixMilli())}}})
					if err == nil {
						mu.Lock()
						events = append(events, message)
						mu.Unlock()
					}
				}
			})
		}
		acknowledgements := func() (n int) {
			mu.Lock()
			defer mu.Unlock()
			for _, v := range versions {
				n += v
			}
			return n
		}
		for before, deadline := acknowledgements(), time.Now().Add(2*time.Minute); acknowledgements() == before && time.Now().Before(deadline); {
			time.Sleep(5 * time.Millisecond) // a slow machine must have something to lose too
		}
		time.Sleep(time.Duration(300+rand.N(900)) * time.Millisecond)
		s.kill()
		close(dying)
		wg.Wait()
	}
	s.start()
	s.checkKept(versions, tried, events)
	t.Logf("%d kills; acknowledged versions %v of %v, %d log events", rounds, versions, tried, len(events))
	s.stop()
	s.awaitNothing(s.pids)
}

// checkKept looks at everything that was acknowledged before.
func (s *instance) checkKept(versions, tried map[string]int, events []string) {
	s.t.Helper()
	invoke := func(name string) string {
		s.await(name)
		s.updated(s.t.Context(), name)
		out, err := s.lambda().Invoke(s.t.Context(), &lambda.InvokeInput{FunctionName: &name, Payload: []byte(`{"do":"version","token":"again"}`), LogType: types.LogTypeNone})
		if err != nil || out.FunctionError != nil || !strings.Contains(string(out.Payload), `"again"`) {
			s.t.Errorf("%s after the restart: %v %+v", name, err, out)
			return ""
		}
		var answer struct{ Code string }
		json.Unmarshal(out.Payload, &answer)
		return answer.Code
	}
	invoke("stable")
	for name, acknowledged := range versions {
		if acknowledged == 0 {
			continue
		}
		got := 0
		fmt.Sscan(invoke(name), &got)
		if got < acknowledged || got > tried[name] {
			s.t.Errorf("%s runs version %d; %d was acknowledged, %d tried", name, got, acknowledged, tried[name])
		}
	}
	there := map[string]bool{}
	p := cloudwatchlogs.NewFilterLogEventsPaginator(s.logs(), &cloudwatchlogs.FilterLogEventsInput{LogGroupName: new("kept")})
	for p.HasMorePages() {
		page, err := p.NextPage(s.t.Context())
		if err != nil {
			s.t.Fatal(err)
		}
		for _, e := range page.Events {
			there[*e.Message] = true
		}
	}
	lost := 0
	for _, e := range events {
		if !there[e] {
			lost++
		}
	}
	if lost > 0 {
		s.t.Errorf("%d of %d acknowledged log events are lost", lost, len(events))
	}
}
