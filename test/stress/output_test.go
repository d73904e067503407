package stress

import (
	"context"
	"encoding/base64"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"
)

// maxServerMB is what a server may hold while functions print as fast as they can.
const maxServerMB = 300

// TestGigabyte lets functions print a gigabyte each while another is invoked.
func TestGigabyte(t *testing.T) {
	needSandboxes(t)
	s := newInstance(t)
	s.start()
	functions := kinds()
	quiet := functions["provided-a"]
	s.create("quiet", quiet)
	limit := int32(60)
	if testing.Short() {
		limit = 6 // the timeout ends them
	}
	var loud []string
	for name, f := range functions {
		if kind, ok := strings.CutSuffix(name, "-a"); ok && kind != "node" {
			f.timeout, f.memory = limit, 1769
			s.create("loud-"+kind, f)
			loud = append(loud, "loud-"+kind)
		}
	}
	shell := quiet
	shell.timeout, shell.memory = limit, 1769
	shell.files = map[string][]byte{"bootstrap": []byte(shellSource)}
	s.create("loud-shell", shell)
	loud = append(loud, "loud-shell")

	invoke := func(name, deed string) (*lambda.InvokeOutput, error) {
		return s.lambda().Invoke(t.Context(), &lambda.InvokeInput{
			FunctionName: &name, LogType: types.LogTypeTail, Payload: []byte(`{"do":"` + deed + `","token":"t"}`),
		})
	}
	if _, err := invoke("quiet", ""); err != nil {
		t.Fatal(err)
	}
	ctx, ended := context.WithCancel(t.Context())
	var printing sync.WaitGroup
	for _, name := range loud {
		printing.Go(func() {
			begin := time.Now()
			out, err := invoke(name, "gigabyte")
			if err != nil {
				t.Errorf("%s: %v", name, err)
				return
			}
			took := time.Since(begin)
			t.Logf("%s took %v, function error %q", name, took.Round(time.Millisecond), aws.ToString(out.FunctionError))
			if out.FunctionError != nil && !strings.Contains(string(out.Payload), "Sandbox.Timedout") {
				t.Errorf("%s: %s", name, out.Payload)
			}
			if took > time.Duration(limit)*time.Second+15*time.Second {
				t.Errorf("%s was not ended by its timeout of %d s but after %v", name, limit, took)
			}
		})
	}
	go func() {
		printing.Wait()
		ended()
	}()
	var times []time.Duration
	most := 0
	for ctx.Err() == nil {
		begin := time.Now()
		out, err := invoke("quiet", "print")
		if err != nil || out.FunctionError != nil {
			t.Errorf("quiet: %v %+v", err, out)
			continue
		}
		times = append(times, time.Since(begin))
		rss, _ := s.stat()
		most = max(most, rss)
		time.Sleep(5 * time.Millisecond)
	}
	slices.Sort(times)
	t.Logf("others: %d invocations, p50 %v, p99 %v, slowest %v; the server took up to %d MiB",
		len(times), times[len(times)/2], times[len(times)*99/100], times[len(times)-1], most)
	if p99 := times[len(times)*99/100]; p99 > time.Second {
		t.Errorf("others waited %v (p99)", p99)
	}
	if most > maxServerMB && !raceEnabled {
		t.Errorf("the server took %d MiB", most)
	}
	for _, name := range loud { // they work as before, and their logs have what was taken
		if out, err := invoke(name, ""); err != nil || out.FunctionError != nil {
			t.Errorf("%s afterwards: %v %+v", name, err, out)
		}
	}
	s.stop()
	s.awaitNothing(s.pids)
	s.start()
	for _, name := range loud {
		if n := s.events("/aws/lambda/"+name, `"ggggg"`, 1); n == 0 {
			t.Errorf("nothing of what %s printed is in its log", name)
		}
		if n := s.events("/aws/lambda/"+name, `"REPORT RequestId"`, 2); n != 2 {
			t.Errorf("%s has %d REPORT lines", name, n)
		}
	}
	s.stop()
}

// shellSource is a runtime of the shell's that prints a gigabyte when told so.
const shellSource = `#!/bin/bash
api() { exec 3<>/dev/tcp/${AWS_LAMBDA_RUNTIME_API%:*}/${AWS_LAMBDA_RUNTIME_API#*:}; }
while :; do
	api
	printf 'GET /2018-06-01/runtime/invocation/next HTTP/1.1\r\nHost: x\r\n\r\n' >&3
	id= length=0
	while IFS= read -r line <&3; do
		line=${line%$'\r'}
		[ -z "$line" ] && break
		case ${line,,} in
		lambda-runtime-aws-request-id:*) id=${line#*: } ;;
		content-length:*) length=${line#*: } ;;
		esac
	done
	IFS= read -r -N "$length" body <&3
	exec 3>&-
	case $body in *gigabyte*) yes "$(printf 'g%.0s' {1..99})" | head -c 1000000000 ;; esac
	api
	printf 'POST /2018-06-01/runtime/invocation/%s/response HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}' "$id" >&3
	read -r line <&3
	exec 3>&-
done
`

// events counts the events of a group that match, up to limit.
func (s *instance) events(group, pattern string, limit int) (n int) {
	p := cloudwatchlogs.NewFilterLogEventsPaginator(s.logs(), &cloudwatchlogs.FilterLogEventsInput{LogGroupName: &group, FilterPattern: &pattern})
	for p.HasMorePages() && n < limit {
		page, err := p.NextPage(s.t.Context())
		if code(err) == "ResourceNotFoundException" {
			return 0 // nothing was stored yet
		}
		if err != nil {
			s.t.Error(err)
			return n
		}
		n += len(page.Events)
	}
	return n
}

// TestOddOutput prints what is not a line of text, and when nobody expects it.
func TestOddOutput(t *testing.T) {
	needSandboxes(t)
	s := newInstance(t)
	s.start()
	for name, f := range kinds() {
		if !strings.HasSuffix(name, "-a") {
			continue
		}
		f.timeout = 60
		s.create(name, f)
		for _, deed := range []string{"no newline", "binary", "print later", "fork and exit", "print"} {
			out, err := s.lambda().Invoke(t.Context(), &lambda.InvokeInput{
				FunctionName: &name, LogType: types.LogTypeTail, Payload: fmt.Appendf(nil, `{"do":%q,"token":"%s-1"}`, deed, name),
			})
			if err != nil || (out.FunctionError != nil) != (deed == "fork and exit") {
				t.Fatalf("%s %q: %v %+v", name, deed, err, out)
			}
			tail, _ := base64.StdEncoding.DecodeString(aws.ToString(out.LogResult))
			if !strings.Contains(string(tail), "REPORT RequestId") {
				t.Errorf("%s %q: the log's tail is %q", name, deed, tail)
			}
			// The next one may end whatever has not been printed yet.
			want := map[string]string{"no newline": "open end of ", "print later": "afterwards ", "print": "line of "}[deed]
			for deadline := time.Now().Add(2 * time.Minute); want != "" && s.events("/aws/lambda/"+name, `"`+want+name+`-1"`, 1) == 0; time.Sleep(20 * time.Millisecond) {
				if time.Now().After(deadline) {
					t.Fatalf("%q is not in the log", want+name)
				}
				// An environment that was frozen before it printed goes on now.
				s.lambda().Invoke(t.Context(), &lambda.InvokeInput{FunctionName: &name, Payload: []byte(`{"do":"","token":"on"}`)})
			}
		}
	}
	s.stop()
	s.awaitNothing(s.pids)
}
