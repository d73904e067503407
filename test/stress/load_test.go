package stress

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsmiddleware "github.com/aws/aws-sdk-go-v2/aws/middleware"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"
	"github.com/aws/smithy-go/middleware"
)

// deeds are what events ask for, the frequent ones often.
var deeds = []string{
	"", "", "", "", "", "", "", "", "", "", "", "", "", "", "", "", "", "", "", "", "", "", "", "", "print", "print", "print",
	"error", "error", "exit", "crash", "hang", "oom", "fork", "fork and exit", "big", "no newline", "binary", "print later", "sleep",
}

// modelled are the errors that an invocation may meet under this load.
var modelled = []string{
	"TooManyRequestsException", "ResourceNotFoundException", "ResourceConflictException", "CodeArtifactUserPendingException",
	"ResourceNotReadyException",
}

// tally is what the clients saw.
type tally struct {
	mu       sync.Mutex
	kinds    map[string]int
	answered map[string]map[string]bool // function to ids of requests that it answered
	slowest  time.Duration
}

func (c *tally) count(kind string) {
	c.mu.Lock()
	c.kinds[kind]++
	c.mu.Unlock()
}

// TestLoad invokes functions that fail in all ways, while they are changed, deleted and made anew.
func TestLoad(t *testing.T) {
	needSandboxes(t)
	length := time.Minute
	if testing.Short() {
		length = 10 * time.Second
	}
	s := newInstance(t, "--memory", "4096") // 32 environments: it has to evict, and to throttle
	s.start()
	functions := kinds()
	for name, f := range functions {
		s.create(name, f)
	}
	churned := functions["provided-b"]
	s.create("churned", churned)
	names := append(slices.Sorted(maps.Keys(functions)), "churned")

	seen := &tally{kinds: map[string]int{}, answered: map[string]map[string]bool{}}
	for _, name := range names {
		seen.answered[name] = map[string]bool{}
	}
	ctx, cancel := context.WithTimeout(t.Context(), length)
	defer cancel()
	var wg sync.WaitGroup
	for client := range 32 {
		wg.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				name := names[rand.N(len(names))]
				s.oneInvocation(name, deeds[rand.N(len(deeds))], fmt.Sprintf("%d-%d", client, n), seen)
			}
		})
	}
	wg.Go(func() { s.change(ctx, "provided-b", functions["provided-b"], seen) })
	wg.Go(func() { s.recreate(ctx, "churned", churned, seen) })
	wg.Wait()

	// It still works, and everything that was put off is done.
	for name := range functions {
		s.await(name)
		s.updated(t.Context(), name)
		for try := 0; ; try++ {
			out, err := s.lambda().Invoke(t.Context(), &lambda.InvokeInput{FunctionName: &name, Payload: []byte(`{"do":"","token":"last"}`)})
			if code(err) == "TooManyRequestsException" && try < 100 {
				time.Sleep(50 * time.Millisecond)
				continue
			}
			if err != nil || out.FunctionError != nil || !strings.Contains(string(out.Payload), `"last"`) {
				t.Errorf("%s at the end: %v %+v", name, err, out)
			}
			if id, ok := awsmiddleware.GetRequestIDMetadata(out.ResultMetadata); ok && err == nil {
				seen.answered[name][id] = true
			}
			break
		}
	}
	rss, files := s.stat()
	total := 0
	for _, n := range seen.kinds {
		total += n
	}
	t.Logf("%d calls in %v: %v; slowest %v; server %d MiB, %d files", total, length, seen.kinds, seen.slowest.Round(time.Millisecond), rss, files)

	s.stop()
	s.awaitNothing(s.pids)
	s.start() // what was stored at the end is looked at
	s.checkLogs(names, seen)
	s.checkUsage(seen)
	s.stop()
	s.awaitNothing(s.pids)
}

// oneInvocation checks that what comes back is the answer to what was asked.
func (s *instance) oneInvocation(name, deed, token string, seen *tally) {
	ctx, cancel := context.WithTimeout(context.Background(), 40*time.Second)
	defer cancel()
	leaves := rand.N(40) == 0
	if leaves { // the client hangs up
		ctx, cancel = context.WithTimeout(ctx, time.Duration(rand.N(30))*time.Millisecond)
		defer cancel()
	}
	event, _ := json.Marshal(map[string]any{"do": deed, "token": token, "ms": rand.N(300)})
	begin := time.Now()
	out, err := s.lambda().Invoke(ctx, &lambda.InvokeInput{FunctionName: &name, Payload: event})
	took := time.Since(begin)
	seen.mu.Lock()
	seen.slowest = max(seen.slowest, took)
	seen.mu.Unlock()
	if err != nil {
		switch c := code(err); {
		case slices.Contains(modelled, c):
			seen.count(c)
			time.Sleep(time.Duration(20+rand.N(80)) * time.Millisecond)
		case leaves && ctx.Err() != nil:
			seen.count("client left")
		default:
			seen.count("lost")
			s.t.Errorf("%s %q %s after %v: %v", name, deed, token, took, err)
		}
		return
	}
	id := requestID(out.ResultMetadata)
	seen.mu.Lock()
	if id == "" || seen.answered[name][id] {
		s.t.Errorf("%s %q: request id %q is nobody's or twice", name, deed, id)
	}
	seen.answered[name][id] = true
	seen.mu.Unlock()
	var answer struct{ Token, ID, ErrorType, ErrorMessage string }
	json.Unmarshal(out.Payload, &answer)
	wrong := func(want string) {
		s.t.Errorf("%s %q %s: %s, want %s", name, deed, token, out.Payload[:min(300, len(out.Payload))], want)
	}
	platform := out.FunctionError != nil && strings.Contains(answer.ErrorMessage, id)
	switch {
	case out.FunctionError == nil:
		seen.count("ok")
		if slices.Contains([]string{"error", "exit", "crash", "hang", "oom", "fork and exit", "big"}, deed) {
			wrong("a failure")
		}
		if answer.Token != token || answer.ID != id {
			wrong("its own token and request id " + id)
		}
	case deed == "error":
		seen.count("handler error")
		if !strings.Contains(answer.ErrorMessage, token) && !platform {
			wrong("its own token in the error")
		}
	case deed == "big":
		seen.count("too large")
		if answer.ErrorType != "Function.ResponseSizeTooLarge" && !platform {
			wrong("Function.ResponseSizeTooLarge")
		}
	default:
		// A machine as busy as this one may let any invocation run into its timeout.
		seen.count(answer.ErrorType)
		if !platform {
			wrong("an error with the request id " + id)
		}
		expected := map[string][]string{
			"exit": {"Runtime.ExitError"}, "crash": {"Runtime.ExitError"}, "fork and exit": {"Runtime.ExitError"},
			"oom": {"Runtime.ExitError", "Runtime.OutOfMemory"}, "hang": {},
		}
		kinds, fails := expected[deed]
		if answer.ErrorType != "Sandbox.Timedout" && !(fails && slices.Contains(kinds, answer.ErrorType)) {
			wrong("another kind of error")
		}
	}
}

func requestID(m middleware.Metadata) string {
	id, _ := awsmiddleware.GetRequestIDMetadata(m)
	return id
}

// change updates code and configuration again and again. Once an update is done, new invocations see it.
func (s *instance) change(ctx context.Context, name string, f function, seen *tally) {
	for n := 2; ctx.Err() == nil; n++ {
		f.version = fmt.Sprint(n)
		_, err := s.lambda().UpdateFunctionCode(ctx, &lambda.UpdateFunctionCodeInput{FunctionName: &name, ZipFile: f.archive()})
		if err != nil && ctx.Err() == nil && !slices.Contains(modelled, code(err)) {
			s.t.Error("update code:", err)
		}
		seen.count("UpdateFunctionCode")
		s.updated(ctx, name)
		_, err = s.lambda().UpdateFunctionConfiguration(ctx, &lambda.UpdateFunctionConfigurationInput{
			FunctionName: &name, Environment: &types.Environment{Variables: map[string]string{"VERSION": f.version}},
		})
		if err != nil {
			if ctx.Err() == nil && !slices.Contains(modelled, code(err)) {
				s.t.Error("update configuration:", err)
			}
			continue
		}
		seen.count("UpdateFunctionConfiguration")
		s.updated(ctx, name)
		out, err := s.lambda().Invoke(ctx, &lambda.InvokeInput{FunctionName: &name, Payload: []byte(`{"do":"","token":"v"}`)})
		if err == nil {
			seen.mu.Lock()
			seen.answered[name][requestID(out.ResultMetadata)] = true
			seen.mu.Unlock()
			if out.FunctionError == nil && !strings.Contains(string(out.Payload), fmt.Sprintf(`"version":"%s"`, f.version)) &&
				!strings.Contains(string(out.Payload), fmt.Sprintf(`"version": "%s"`, f.version)) {
				s.t.Errorf("after the update to version %s: %s", f.version, out.Payload)
			}
		}
		select {
		case <-ctx.Done():
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// updated waits until no update is under way.
func (s *instance) updated(ctx context.Context, name string) {
	for ctx.Err() == nil {
		c, err := s.lambda().GetFunctionConfiguration(ctx, &lambda.GetFunctionConfigurationInput{FunctionName: &name})
		if err != nil || c.LastUpdateStatus != types.LastUpdateStatusInProgress {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// recreate deletes a function under load and makes it anew.
func (s *instance) recreate(ctx context.Context, name string, f function, seen *tally) {
	for ctx.Err() == nil {
		if _, err := s.lambda().DeleteFunction(ctx, &lambda.DeleteFunctionInput{FunctionName: &name}); err != nil && ctx.Err() == nil {
			s.t.Error("delete:", err)
		}
		if _, err := s.lambda().CreateFunction(context.WithoutCancel(ctx), f.input(name)); err != nil {
			s.t.Error("create again:", err)
		}
		seen.count("recreated")
		select {
		case <-ctx.Done():
		case <-time.After(300 * time.Millisecond):
		}
	}
}

// checkLogs looks for the REPORT line of every invocation that was answered, which must be there once.
func (s *instance) checkLogs(names []string, seen *tally) {
	s.t.Helper()
	for _, name := range names {
		reports, ends := map[string]int{}, map[string]int{}
		p := cloudwatchlogs.NewFilterLogEventsPaginator(s.logs(), &cloudwatchlogs.FilterLogEventsInput{
			LogGroupName: aws.String("/aws/lambda/" + name), FilterPattern: aws.String(`?"REPORT RequestId" ?"END RequestId"`),
		})
		for p.HasMorePages() {
			page, err := p.NextPage(s.t.Context())
			if err != nil {
				s.t.Fatal(err)
			}
			for _, e := range page.Events {
				if rest, ok := strings.CutPrefix(*e.Message, "REPORT RequestId: "); ok {
					id, _, _ := strings.Cut(rest, "\t")
					reports[id]++
				}
				if rest, ok := strings.CutPrefix(*e.Message, "END RequestId: "); ok {
					ends[strings.TrimSpace(rest)]++
				}
			}
		}
		missing := 0
		for id := range seen.answered[name] {
			if reports[id] == 0 || ends[id] == 0 {
				missing++
			}
		}
		for id, n := range reports {
			if n != 1 || ends[id] != 1 {
				s.t.Errorf("%s: %d REPORT and %d END lines of %s", name, n, ends[id], id)
			}
		}
		if missing > 0 {
			s.t.Errorf("%s: %d of %d answered invocations have no REPORT or END line", name, missing, len(seen.answered[name]))
		}
		seen.kinds["reports"] += len(reports)
	}
}

// checkUsage compares the bill with the REPORT lines.
func (s *instance) checkUsage(seen *tally) {
	s.t.Helper()
	b, err := exec.Command(mayfly, "usage", "--json", "--data", s.data).Output()
	if err != nil {
		s.t.Fatal(err)
	}
	var lines []struct{ Invocations int }
	if err := json.Unmarshal(b, &lines); err != nil {
		s.t.Fatal(err)
	}
	billed := 0
	for _, l := range lines {
		billed += l.Invocations
	}
	if billed != seen.kinds["reports"] {
		s.t.Errorf("the bill has %d invocations, the logs %d reports", billed, seen.kinds["reports"])
	}
	s.t.Logf("%d invocations billed", billed)
}
