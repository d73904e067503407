package stress

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	sqstypes "github.com/aws/aws-sdk-go-v2/service/sqs/types"
)

// TestFullDisk fills the disk while events are accepted, twice. None is accepted while it is full, but what is there can be read. With room
// again the same server accepts further ones, and all that were accepted run.
func TestFullDisk(t *testing.T) {
	needSandboxes(t)
	s := newInstance(t, "--async-retry-wait", "500ms")
	if err := os.MkdirAll(s.data, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("tmpfs", s.data, "tmpfs", 0, "size=256m,mode=0700"); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("a mount is needed: ", err)
		}
		t.Skip("a mount, mostly root, is needed: ", err)
	}
	t.Cleanup(func() { // before the directory is removed, and after the server's end
		if s.cmd != nil {
			s.kill()
		}
		if err := syscall.Unmount(s.data, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	f := provided
	f.files, f.timeout = map[string][]byte{"bootstrap": bootstrap}, 10
	s.start()
	s.create("worker", f)
	// What ran is told to a queue: lines that are printed while the disk is full may be lost.
	queues := sqs.NewFromConfig(s.config, func(o *sqs.Options) { o.RetryMaxAttempts = 3 })
	q, err := queues.CreateQueue(t.Context(), &sqs.CreateQueueInput{QueueName: new("ran")})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.lambda().PutFunctionEventInvokeConfig(t.Context(), &lambda.PutFunctionEventInvokeConfigInput{
		FunctionName:      new("worker"),
		DestinationConfig: &types.DestinationConfig{OnSuccess: &types.OnSuccess{Destination: new("arn:aws:sqs:us-east-1:000000000000:ran")}},
	}); err != nil {
		t.Fatal(err)
	}
	send := func(token string) error {
		_, err := s.lambda().Invoke(t.Context(), &lambda.InvokeInput{FunctionName: new("worker"), InvocationType: types.InvocationTypeEvent,
			Payload: fmt.Appendf(nil, `{"do":"note","token":%q,"filler":"%08192d"}`, token, 0)})
		return err
	}
	var mu sync.Mutex
	accepted := map[string]bool{}
	count := func() int {
		mu.Lock()
		defer mu.Unlock()
		return len(accepted)
	}
	ballast := filepath.Join(s.data, "ballast")
	for round := range 2 {
		var room atomic.Bool // since before the answers that are awaited
		room.Store(true)
		var refused atomic.Int64
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		var wg sync.WaitGroup
		for client := range 4 {
			wg.Go(func() {
				for n := 0; ctx.Err() == nil; n++ {
					token := fmt.Sprintf("event-%d-%d-%d", round, client, n)
					hadRoom := room.Load()
					switch err := send(token); {
					case err == nil:
						mu.Lock()
						accepted[token] = true
						mu.Unlock()
					case hadRoom && room.Load():
						t.Error("refused while there was room:", err)
						return
					default:
						refused.Add(1)
						if c := code(err); c != "InternalFailure" && c != "ServiceUnavailable" && c != "ServiceException" {
							t.Errorf("a full disk is %q: %v", c, err)
						}
					}
					time.Sleep(5 * time.Millisecond)
				}
			})
		}
		awaitThat(t, "a hundred events accepted", func() bool { return count() >= 100*(round+1) || t.Failed() })
		room.Store(false)
		out, err := os.Create(ballast)
		if err != nil {
			t.Fatal(err)
		}
		for chunk := bytes.Repeat([]byte{1}, 1<<20); len(chunk) > 0; { // to the last byte
			if _, err := out.Write(chunk); err != nil {
				chunk = chunk[:len(chunk)/2]
			}
		}
		out.Close()
		awaitThat(t, "a refusal", func() bool { return refused.Load() >= 20 })
		before := count()
		if err := send("refused"); err == nil {
			t.Error("an event was accepted by a full disk")
		}
		if _, err := s.lambda().GetFunction(t.Context(), &lambda.GetFunctionInput{FunctionName: new("worker")}); err != nil {
			t.Error("nothing can be read:", err)
		}
		if n := count(); n != before {
			t.Errorf("%d events were accepted by a full disk", n-before)
		}
		if err := os.Remove(ballast); err != nil {
			t.Fatal(err)
		}
		awaitThat(t, "further events accepted", func() bool { return count() >= before+50 })
		cancel()
		wg.Wait()
		s.await("worker")
	}
	ran := map[string]bool{}
	for quiet := 0; len(ran) < len(accepted) && quiet < 60; {
		out, err := queues.ReceiveMessage(t.Context(), &sqs.ReceiveMessageInput{QueueUrl: q.QueueUrl, MaxNumberOfMessages: 10, WaitTimeSeconds: 2})
		if err != nil {
			t.Fatal(err)
		}
		quiet++
		var done []sqstypes.DeleteMessageBatchRequestEntry
		for i, m := range out.Messages {
			var told struct{ RequestPayload struct{ Token string } }
			if err := json.Unmarshal([]byte(*m.Body), &told); err != nil {
				t.Fatal(err)
			}
			ran[told.RequestPayload.Token] = true
			done = append(done, sqstypes.DeleteMessageBatchRequestEntry{Id: new(fmt.Sprint(i)), ReceiptHandle: m.ReceiptHandle})
			quiet = 0
		}
		if len(done) > 0 {
			if _, err := queues.DeleteMessageBatch(t.Context(), &sqs.DeleteMessageBatchInput{QueueUrl: q.QueueUrl, Entries: done}); err != nil {
				t.Fatal(err)
			}
		}
	}
	for token := range accepted {
		if !ran[token] {
			t.Errorf("%s was accepted and did not run", token)
		}
	}
	t.Logf("%d events accepted", len(accepted))
	s.stop()
}

// awaitThat waits until something holds, for which a slow machine may take long.
func awaitThat(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(2 * time.Minute); !ok(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("no %s", what)
		}
	}
}
