package sns

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mayflyhq/mayfly/internal/aws/api/snsapi"
	"github.com/mayflyhq/mayfly/internal/kv"
	"github.com/mayflyhq/mayfly/internal/kv/pebblekv"
)

// childDir names the directory of the store of the child of TestKill, childDrains a child that only delivers what is left.
const (
	childDir    = "SNS_TEST_CHILD_DIR"
	childDrains = "SNS_TEST_CHILD_DRAINS"
)

// kill is the child of TestKill. It prints what was acknowledged, once it is, and what is delivered, before that is settled.
func kill(t *testing.T, dir string) {
	db, err := pebblekv.Open(pebblekv.Options{Dir: dir, MemTableBytes: 256 << 10})
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, db: db, begin: time.Now()}
	var out sync.Mutex
	say := func(words ...any) {
		out.Lock()
		defer out.Unlock()
		fmt.Println(words...)
	}
	w.answer = func(d *delivered) error {
		w.delivered = nil
		if odds := map[string]int{"q.fifo": 100}[d.to]; rand.N(max(odds, 10)) == 0 {
			return context.DeadlineExceeded // tried again
		}
		say("got", d.to, d.body, ".")
		return nil
	}
	row, err := testSigner()
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Update(context.Background(), func(tx kv.Tx) error { return kv.SetJSON(tx, signerKey(), row) }); err != nil {
		t.Fatal(err)
	}
	w.start()
	raw := map[string]string{"RawMessageDelivery": "true"}
	topic := w.topic("t", nil)
	w.subscribe(topic, "sqs", queueARN("a"), raw)
	w.subscribe(topic, "sqs", queueARN("b"), raw)
	ordered := w.topic("t.fifo", map[string]string{"ContentBasedDeduplication": "true"})
	w.subscribe(ordered, "sqs", queueARN("q.fifo"), raw)
	if os.Getenv(childDrains) != "" {
		for deadline := time.Now().Add(2 * time.Minute); ; time.Sleep(20 * time.Millisecond) {
			left := w.rows(pendingTable)
			for _, family := range []string{"work.sns", "work.sns.ordered"} {
				left += w.rows("queue", family, "h")
			}
			if left == 0 {
				return
			}
			if time.Now().After(deadline) {
				t.Fatalf("%d deliveries do not end", left)
			}
		}
	}
	var wg sync.WaitGroup
	for n := range 3 {
		wg.Go(func() {
			for i := 0; ; i++ {
				text := fmt.Sprint(os.Getpid(), "-", n, "-", i)
				in := &snsapi.PublishInput{TopicArn: &topic, Message: &text}
				if i%2 == 1 {
					in.TopicArn, in.MessageGroupId = &ordered, new(fmt.Sprint("g", i%3))
				}
				sent, err := snsapi.Publish.Call(w.ctx(), w.gate, in)
				if err != nil {
					return
				}
				if in.MessageGroupId == nil {
					say("sent", text, ".")
				} else {
					say("sent", text, *in.MessageGroupId, *sent.SequenceNumber, ".")
				}
			}
		})
	}
	wg.Wait()
	t.Fatal("the store failed")
}

// TestKill kills a process that publishes and delivers, again and again on the same store. What was acknowledged reaches every
// subscription, and that of each group in order.
func TestKill(t *testing.T) {
	if dir := os.Getenv(childDir); dir != "" {
		kill(t, dir)
		return
	}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	rounds := 10
	if testing.Short() {
		rounds = 3
	}
	sent := map[string][]string{} // by text: group and number, or nothing
	var got []string              // queue and text, in order
	run := func(lines int, env ...string) {
		cmd := exec.Command(exe, "-test.run=^TestKill$")
		cmd.Env = append(append(os.Environ(), childDir+"="+dir), env...)
		var stderr, other bytes.Buffer // other is what the child says that is not its report
		cmd.Stderr = &stderr
		stdout, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		n := 0
		for s := bufio.NewScanner(stdout); s.Scan(); {
			f := strings.Fields(s.Text())
			if len(f) < 3 || f[len(f)-1] != "." {
				other.WriteString(s.Text() + "\n") // the test's own, or torn
				continue
			}
			switch f[0] {
			case "sent":
				sent[f[1]] = f[2 : len(f)-1]
			case "got":
				got = append(got, f[1]+" "+f[2])
			}
			if n++; n == lines {
				cmd.Process.Kill()
			}
		}
		if err := cmd.Wait(); lines == 0 && err != nil {
			t.Fatalf("the last child: %v: %s%s", err, stderr.String(), other.String())
		} else if lines > 0 && n < lines {
			t.Fatalf("the child ended by itself: %s%s", stderr.String(), other.String())
		}
	}
	for range rounds {
		run(20 + rand.IntN(400))
	}
	run(0, childDrains+"=1")
	reached := map[string]bool{}
	last := map[string]uint64{}
	for _, g := range got {
		reached[g] = true
		queue, text, _ := strings.Cut(g, " ")
		of := sent[text]
		if queue != "q.fifo" || len(of) == 0 { // the process died before it could say what it had acknowledged
			continue
		}
		number, err := strconv.ParseUint(of[1], 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		if number < last[of[0]] {
			t.Errorf("%s, number %d of %s, came after number %d", text, number, of[0], last[of[0]])
		}
		last[of[0]] = number
	}
	for text, of := range sent {
		queues := []string{"a", "b"}
		if len(of) > 0 {
			queues = []string{"q.fifo"}
		}
		for _, q := range queues {
			if !reached[q+" "+text] {
				t.Errorf("%s did not reach %s", text, q)
			}
		}
	}
	t.Logf("%d acknowledged, %d deliveries", len(sent), len(got))
}
