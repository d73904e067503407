package server

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/bloom"

	"github.com/mayflyhq/mayfly/internal/aws/api/sqsapi"
	"github.com/mayflyhq/mayfly/internal/aws/sigv4"
	"github.com/mayflyhq/mayfly/internal/aws/smithy"
	"github.com/mayflyhq/mayfly/internal/call"
	"github.com/mayflyhq/mayfly/internal/kv"
	"github.com/mayflyhq/mayfly/internal/kv/pebblekv"
	"github.com/mayflyhq/mayfly/internal/queue"
	"github.com/mayflyhq/mayfly/internal/sandbox"
)

// queueBody is the body of every message: 1 KiB of text.
var queueBody = strings.Repeat("mayflies live for a day. their queues live longer: ", 21)[:1<<10]

// queueClient is a way to speak to queues: through the gate, or over HTTP to this server or another. A worker makes one call
// at a time.
type queueClient interface {
	create(name string, fifo bool) (url string, err error)
	send(worker int, url string, n int, group string) error                                  // n messages; group is empty for standard queues
	receive(worker int, url string, n int, wait time.Duration) (handles []string, err error) // at most n
	remove(worker int, url string, handles []string) error
}

// BenchmarkQueue measures queues with messages of 1 KiB: the engine alone, calls through the gate, and calls over HTTP with
// signatures, beside synced commits of the same bytes to Pebble alone, and beside moto_server where it is installed, which
// gets the same requests over the same client. Of "cycle", what is counted are messages that were sent, received and deleted, each by a call of its
// own, and commits of a message, of a small row and of a deletion.
func BenchmarkQueue(b *testing.B) {
	for _, clients := range []int{1, 16, 128} {
		for _, n := range []int{1, 10} {
			at := fmt.Sprintf("c=%d/by=%d/", clients, n)
			b.Run(at+"raw/send", func(b *testing.B) { rawCommits(b, clients, n, false) })
			b.Run(at+"raw/cycle", func(b *testing.B) { rawCommits(b, clients, n, true) })
			b.Run(at+"engine", func(b *testing.B) { queueOperations(b, clients, n, engineQueues) })
			b.Run(at+"gate", func(b *testing.B) { queueOperations(b, clients, n, gateQueues) })
			b.Run(at+"http", func(b *testing.B) { queueOperations(b, clients, n, wireQueues) })
			if clients == 16 {
				b.Run(at+"moto", func(b *testing.B) { queueOperations(b, clients, n, motoQueues) })
			}
		}
	}
}

// BenchmarkFIFO measures FIFO queues over one group and over a thousand, at 16 clients.
func BenchmarkFIFO(b *testing.B) {
	for _, groups := range []int{1, 1000} {
		for _, n := range []int{1, 10} {
			for _, level := range []struct {
				name string
				open func(*testing.B, int) queueClient
			}{{"engine", engineQueues}, {"gate", gateQueues}, {"http", wireQueues}} {
				b.Run(fmt.Sprintf("groups=%d/by=%d/%s", groups, n, level.name), func(b *testing.B) {
					const clients = 16
					q := level.open(b, clients)
					at, err := q.create("bench.fifo", true)
					if err != nil {
						b.Fatal(err)
					}
					var next atomic.Int64
					group := func() string { return fmt.Sprint("g", int(next.Add(1))%groups) }
					b.Run("send", func(b *testing.B) {
						spread(b, clients, b.N, func(w int) (int, error) { return n, q.send(w, at, n, group()) })
					})
					b.Run("drain", func(b *testing.B) {
						spread(b, clients, b.N, func(w int) (int, error) { return n, q.send(w, at, n, group()) })
						drain(b, q, clients, at, b.N*n)
					})
				})
			}
		}
	}
}

// queueOperations measures sends, receives, deletes and the three together, n messages a call.
func queueOperations(b *testing.B, clients, n int, open func(*testing.B, int) queueClient) {
	q := open(b, clients)
	_, moto := q.(motoClient)
	calls := func(b *testing.B) int {
		if moto { // is slow, and more calls would tell no more
			return min(b.N, 200/(n+1))
		}
		return b.N
	}
	queue := func(b *testing.B, name string, messages int) string {
		url, err := q.create(name, false)
		if err != nil {
			b.Fatal(err)
		}
		var left atomic.Int64
		left.Store(int64(messages))
		var wg sync.WaitGroup
		for w := range clients {
			wg.Go(func() {
				for left.Add(-10) > -10 {
					if err := q.send(w, url, 10, ""); err != nil {
						b.Error(err)
						return
					}
				}
			})
		}
		wg.Wait()
		return url
	}
	b.Run("send", func(b *testing.B) {
		url := queue(b, "send", 0)
		spread(b, clients, calls(b), func(w int) (int, error) { return n, q.send(w, url, n, "") })
	})
	b.Run("receive", func(b *testing.B) {
		url := queue(b, "receive", calls(b)*n)
		spread(b, clients, calls(b), func(w int) (int, error) {
			handles, err := q.receive(w, url, n, 0)
			return len(handles), err
		})
	})
	b.Run("delete", func(b *testing.B) {
		url := queue(b, "delete", calls(b)*n)
		all := make(chan []string, calls(b))
		for held := []string{}; len(all) < cap(all); {
			handles, err := q.receive(0, url, 10, 0)
			if err != nil || len(handles) == 0 {
				b.Fatalf("%d of %d received: %v", len(all), cap(all), err)
			}
			for held = append(held, handles...); len(held) >= n && len(all) < cap(all); held = held[n:] {
				all <- held[:n:n]
			}
		}
		spread(b, clients, calls(b), func(w int) (int, error) { return n, q.remove(w, url, <-all) })
	})
	b.Run("cycle", func(b *testing.B) {
		url := queue(b, "cycle", 0)
		spread(b, clients, calls(b), func(w int) (int, error) {
			if err := q.send(w, url, n, ""); err != nil {
				return 0, err
			}
			handles, err := q.receive(w, url, n, 0)
			if err != nil || len(handles) == 0 { // another client has it
				return 0, err
			}
			return len(handles), q.remove(w, url, handles)
		})
	})
}

// spread makes calls from clients and reports messages per second, of which f says how many a call was about.
func spread(b *testing.B, clients, calls int, f func(worker int) (messages int, err error)) {
	var left, messages atomic.Int64
	left.Store(int64(calls))
	var wg sync.WaitGroup
	before := cpu()
	b.ResetTimer()
	for w := range clients {
		wg.Go(func() {
			for left.Add(-1) >= 0 {
				m, err := f(w)
				if err != nil {
					b.Error(err)
					return
				}
				messages.Add(int64(m))
			}
		})
	}
	wg.Wait()
	b.StopTimer()
	b.ReportMetric(float64(messages.Load())/b.Elapsed().Seconds(), "msgs/s")
	b.ReportMetric(float64((cpu()-before).Microseconds())/float64(max(messages.Load(), 1)), "cpu-us/msg")
}

// drain receives and deletes, ten messages a call, until so many are deleted.
func drain(b *testing.B, q queueClient, clients int, url string, messages int) {
	var left atomic.Int64
	left.Store(int64(messages))
	took := time.Nanosecond
	var wg sync.WaitGroup
	b.ResetTimer()
	b.StartTimer()
	for w := range clients {
		wg.Go(func() {
			for left.Load() > 0 {
				handles, err := q.receive(w, url, 10, time.Second)
				if err == nil && len(handles) > 0 {
					err = q.remove(w, url, handles)
				}
				if err != nil {
					b.Error(err)
					return
				}
				n := int64(len(handles))
				if now := left.Add(-n); now <= 0 && now+n > 0 {
					took = b.Elapsed() // the other clients may wait for what does not come
				}
			}
		})
	}
	wg.Wait()
	b.ReportMetric(float64(messages)/took.Seconds(), "msgs/s")
}

// BenchmarkFanOut measures a topic with ten queues, from the first publication to the delivery of the last message to the last queue,
// beside commits of ten messages to Pebble alone.
func BenchmarkFanOut(b *testing.B) {
	const clients, fans = 16, 10
	b.Run("raw", func(b *testing.B) { rawCommits(b, clients, fans, false) })
	for _, level := range []struct {
		name string
		open func(*testing.B, int) queueClient
	}{{"mayfly", wireQueues}, {"moto", motoQueues}} {
		b.Run(level.name, func(b *testing.B) {
			var q wireClient
			calls := b.N
			switch c := level.open(b, clients).(type) {
			case motoClient:
				q, calls = c.wireClient, min(b.N, 20)
			case wireClient:
				q = c
			}
			out, err := q.query(0, "sns", url.Values{"Action": {"CreateTopic"}, "Name": {"fan"}, "Version": {"2010-03-31"}})
			if err != nil {
				b.Fatal(err)
			}
			topic := between(out, "<TopicArn>", "</TopicArn>")
			var queues []string
			for k := range fans {
				at, err := q.create(fmt.Sprint("fan", k), false)
				if err != nil {
					b.Fatal(err)
				}
				queues = append(queues, at)
				if out, err = q.do(0, "GetQueueAttributes", map[string]any{"QueueUrl": at, "AttributeNames": []string{"QueueArn"}}); err != nil {
					b.Fatal(err)
				}
				arn := between(out, `"QueueArn"`, "}")
				arn = between([]byte(arn), `"`, `"`)
				policy := fmt.Sprintf(`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"Service":"sns.amazonaws.com"},"Action":"sqs:SendMessage","Resource":%q}]}`, arn)
				if _, err := q.do(0, "SetQueueAttributes", map[string]any{"QueueUrl": at, "Attributes": map[string]string{"Policy": policy}}); err != nil {
					b.Fatal(err)
				}
				if _, err := q.query(0, "sns", url.Values{"Action": {"Subscribe"}, "TopicArn": {topic}, "Protocol": {"sqs"}, "Endpoint": {arn}, "Version": {"2010-03-31"},
					"Attributes.entry.1.key": {"RawMessageDelivery"}, "Attributes.entry.1.value": {"true"}}); err != nil {
					b.Fatal(err)
				}
			}
			publish := url.Values{"Action": {"Publish"}, "TopicArn": {topic}, "Message": {queueBody}, "Version": {"2010-03-31"}}
			var left atomic.Int64
			left.Store(int64(calls))
			var wg sync.WaitGroup
			before := cpu()
			b.ResetTimer()
			for w := range clients {
				wg.Go(func() {
					for left.Add(-1) >= 0 {
						if _, err := q.query(w, "sns", publish); err != nil {
							b.Error(err)
							return
						}
					}
				})
			}
			wg.Wait()
			published := b.Elapsed()
			for k := 0; k < fans && !b.Failed(); {
				out, err := q.do(0, "GetQueueAttributes", map[string]any{"QueueUrl": queues[k], "AttributeNames": []string{"ApproximateNumberOfMessages"}})
				if err != nil {
					b.Fatal(err)
				}
				if there := between([]byte(between(out, `"ApproximateNumberOfMessages"`, "}")), `"`, `"`); there == strconv.Itoa(calls) {
					k++
				} else if b.Elapsed() > time.Minute {
					b.Fatalf("%s of %d messages came", there, calls)
				} else {
					time.Sleep(2 * time.Millisecond)
				}
			}
			b.StopTimer()
			b.ReportMetric(float64(calls)/published.Seconds(), "published/s")
			b.ReportMetric(float64(calls*fans)/b.Elapsed().Seconds(), "msgs/s")
			b.ReportMetric(float64((cpu()-before).Microseconds())/float64(calls*fans), "cpu-us/msg")
		})
	}
}

// between returns what is between two texts.
func between(s []byte, before, after string) string {
	_, rest, _ := bytes.Cut(s, []byte(before))
	found, _, _ := bytes.Cut(rest, []byte(after))
	return string(found)
}

// rawCommits measures synced commits of n messages to Pebble; with cycle, of a small row and a deletion for each after that.
func rawCommits(b *testing.B, clients, n int, cycle bool) {
	options := &pebble.Options{FormatMajorVersion: pebble.FormatValueSeparation, CacheSize: 64 << 20, MemTableSize: 16 << 20, Logger: quietPebble{}} // as pebblekv's
	for i := range options.Levels {
		options.Levels[i].FilterPolicy = bloom.FilterPolicy(10)
	}
	db, err := pebble.Open(b.TempDir(), options)
	if err != nil {
		b.Fatal(err)
	}
	defer db.Close()
	value, row := []byte(queueBody), make([]byte, 32)
	var next atomic.Int64
	spread(b, clients, b.N, func(int) (int, error) {
		first := next.Add(int64(n))
		commit := func(write func(batch *pebble.Batch, key []byte)) error {
			batch := db.NewBatch()
			defer batch.Close()
			for i := range n {
				write(batch, kv.Key("bench", "message", int(first)+i))
			}
			return batch.Commit(pebble.Sync)
		}
		err := commit(func(batch *pebble.Batch, key []byte) { batch.Set(key, value, nil) })
		if cycle && err == nil {
			err = commit(func(batch *pebble.Batch, key []byte) { batch.Set(append(key, 1), row, nil) })
		}
		if cycle && err == nil {
			err = commit(func(batch *pebble.Batch, key []byte) { batch.Delete(key, nil) })
		}
		return n, err
	})
}

type quietPebble struct{}

func (quietPebble) Infof(string, ...any)  {}
func (quietPebble) Errorf(string, ...any) {}
func (quietPebble) Fatalf(string, ...any) {}

// engineClient uses the queues that the services stand on.
type engineClient struct {
	ctx    context.Context
	db     kv.DB
	queues *queue.Queues
}

func engineQueues(b *testing.B, _ int) queueClient {
	db, err := pebblekv.Open(pebblekv.Options{Dir: b.TempDir()})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { db.Close() })
	return engineClient{b.Context(), db, queue.New(db, "bench", queue.Options{})}
}

func (q engineClient) create(name string, fifo bool) (string, error) {
	if fifo {
		return "fifo " + name, nil
	}
	return name, nil
}

func (q engineClient) queue(url string) *queue.Queue {
	if strings.HasPrefix(url, "fifo ") {
		return q.queues.Queue(url, queue.FIFO)
	}
	return q.queues.Queue(url, queue.Standard)
}

func (q engineClient) send(_ int, url string, n int, group string) error {
	to := q.queue(url)
	return q.db.Update(q.ctx, func(tx kv.Tx) error {
		for range n {
			if _, err := to.Add(tx, queue.Message{Group: group, Body: []byte(queueBody)}); err != nil {
				return err
			}
		}
		return nil
	})
}

func (q engineClient) receive(_ int, url string, n int, wait time.Duration) (handles []string, err error) {
	deliveries, err := q.queue(url).Take(q.ctx, queue.Take{Max: n, Visibility: 30 * time.Second, Wait: wait})
	for _, d := range deliveries {
		handles = append(handles, fmt.Sprintf("%s/%d", d.ID, d.Takes))
	}
	return handles, err
}

func (q engineClient) remove(_ int, url string, handles []string) error {
	var leases []queue.Lease
	for _, h := range handles {
		id, takes, _ := strings.Cut(h, "/")
		parsed, err := queue.ParseID(id)
		if err != nil {
			return err
		}
		n, _ := strconv.Atoi(takes)
		leases = append(leases, queue.Lease{ID: parsed, Takes: n})
	}
	errs, err := q.queue(url).Delete(q.ctx, leases...)
	return errors.Join(append(errs, err)...)
}

// gateClient calls operations in this process, as root.
type gateClient struct {
	ctx    context.Context
	caller smithy.Caller
	ids    *atomic.Int64
}

// startQueues starts a server whose store is on the disk.
func startQueues(b *testing.B) *instance {
	return start(b, Config{DataDir: filepath.Join(b.TempDir(), "data"), Network: sandbox.NetworkNone})
}

func gateQueues(b *testing.B, _ int) queueClient {
	i := startQueues(b)
	return i.gateQueues(b)
}

func (i *instance) gateQueues(b *testing.B) gateClient {
	root := i.Root()
	return gateClient{caller: i.Server, ids: new(atomic.Int64), ctx: call.With(b.Context(), &call.Info{
		Account: root.Account, Region: root.Region, RequestID: call.NewRequestID(), Host: i.Addr().String(), Time: time.Now(),
		Principal: call.Principal{Type: call.Root, ARN: "arn:aws:iam::" + root.Account + ":root", UserID: root.Account, AccessKeyID: root.AccessKeyID},
	})}
}

func (q gateClient) create(name string, fifo bool) (string, error) {
	in := &sqsapi.CreateQueueInput{QueueName: &name}
	if fifo {
		in.Attributes = map[string]string{"FifoQueue": "true", "DeduplicationScope": "messageGroup", "FifoThroughputLimit": "perMessageGroupId"}
	}
	out, err := sqsapi.CreateQueue.Call(q.ctx, q.caller, in)
	if err != nil {
		return "", err
	}
	return *out.QueueUrl, nil
}

// ordered returns the group and a deduplication id, if there is a group.
func (q gateClient) ordered(group string) (groupID, deduplicationID *string) {
	if group == "" {
		return nil, nil
	}
	return &group, new(fmt.Sprint(q.ids.Add(1)))
}

func (q gateClient) send(_ int, url string, n int, group string) error {
	if n == 1 {
		in := &sqsapi.SendMessageInput{QueueUrl: &url, MessageBody: &queueBody}
		in.MessageGroupId, in.MessageDeduplicationId = q.ordered(group)
		_, err := sqsapi.SendMessage.Call(q.ctx, q.caller, in)
		return err
	}
	in := &sqsapi.SendMessageBatchInput{QueueUrl: &url}
	for k := range n {
		e := sqsapi.SendMessageBatchRequestEntry{Id: new(fmt.Sprint(k)), MessageBody: &queueBody}
		e.MessageGroupId, e.MessageDeduplicationId = q.ordered(group)
		in.Entries = append(in.Entries, e)
	}
	out, err := sqsapi.SendMessageBatch.Call(q.ctx, q.caller, in)
	if err == nil && len(out.Successful) != n {
		err = fmt.Errorf("%d of %d sent", len(out.Successful), n)
	}
	return err
}

func (q gateClient) receive(_ int, url string, n int, wait time.Duration) ([]string, error) {
	out, err := sqsapi.ReceiveMessage.Call(q.ctx, q.caller, &sqsapi.ReceiveMessageInput{QueueUrl: &url, MaxNumberOfMessages: new(int32(n)), WaitTimeSeconds: new(int32(wait.Seconds()))})
	if err != nil {
		return nil, err
	}
	var handles []string
	for _, m := range out.Messages {
		handles = append(handles, *m.ReceiptHandle)
	}
	return handles, nil
}

func (q gateClient) remove(_ int, url string, handles []string) error {
	if len(handles) == 1 {
		_, err := sqsapi.DeleteMessage.Call(q.ctx, q.caller, &sqsapi.DeleteMessageInput{QueueUrl: &url, ReceiptHandle: &handles[0]})
		return err
	}
	in := &sqsapi.DeleteMessageBatchInput{QueueUrl: &url}
	for k := range handles {
		in.Entries = append(in.Entries, sqsapi.DeleteMessageBatchRequestEntry{Id: new(fmt.Sprint(k)), ReceiptHandle: &handles[k]})
	}
	out, err := sqsapi.DeleteMessageBatch.Call(q.ctx, q.caller, in)
	if err == nil && len(out.Successful) != len(handles) {
		err = fmt.Errorf("%d of %d deleted", len(out.Successful), len(handles))
	}
	return err
}

// wireClient speaks JSON over connections of its own, one a worker. Requests that do not change are signed once, so that what is measured
// is the server.
type wireClient struct {
	addr        string
	credentials sigv4.Credentials
	region      string
	conns       []*wireConn // opened when they are used
	mu          *sync.Mutex
	prepared    map[string][]byte
	ids         *atomic.Int64
}

type wireConn struct {
	net.Conn
	r *bufio.Reader
}

type motoClient struct{ wireClient }

func newWireClient(b *testing.B, addr string, c sigv4.Credentials, region string, clients int) wireClient {
	q := wireClient{addr: addr, credentials: c, region: region, mu: new(sync.Mutex), prepared: map[string][]byte{}, ids: new(atomic.Int64)}
	q.conns = make([]*wireConn, clients)
	b.Cleanup(func() {
		for _, conn := range q.conns {
			if conn != nil {
				conn.Close()
			}
		}
	})
	return q
}

func wireQueues(b *testing.B, clients int) queueClient {
	return startQueues(b).wireQueues(b, clients)
}

func (i *instance) wireQueues(b *testing.B, clients int) wireClient {
	root := i.Root()
	return newWireClient(b, i.Addr().String(), sigv4.Credentials{AccessKeyID: root.AccessKeyID, SecretAccessKey: root.SecretAccessKey}, root.Region, clients)
}

// motoQueues starts moto_server, or skips the benchmark.
func motoQueues(b *testing.B, clients int) queueClient {
	path, err := exec.LookPath("moto_server")
	if err != nil {
		b.Skip("moto_server is not installed (pip install 'moto[server]')")
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	addr := ln.Addr().String()
	ln.Close()
	_, port, _ := net.SplitHostPort(addr)
	cmd := exec.Command(path, "-H", "127.0.0.1", "-p", port)
	cmd.Env = append(os.Environ(), "PYTHONUNBUFFERED=1")
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	for began := time.Now(); ; time.Sleep(50 * time.Millisecond) {
		if conn, err := net.Dial("tcp", addr); err == nil {
			conn.Close()
			break
		} else if time.Since(began) > time.Minute {
			b.Fatal(err)
		}
	}
	return motoClient{newWireClient(b, addr, sigv4.Credentials{AccessKeyID: "bench", SecretAccessKey: "bench"}, "us-east-1", clients)}
}

// request makes a signed request of an operation of SQS.
func (q wireClient) request(operation string, body []byte) ([]byte, error) {
	return q.signed("sqs", body, http.Header{"Content-Type": {"application/x-amz-json-1.0"}, "X-Amz-Target": {"AmazonSQS." + operation}})
}

func (q wireClient) signed(service string, body []byte, header http.Header) ([]byte, error) {
	r, err := http.NewRequest(http.MethodPost, "http://"+q.addr+"/", bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	r.Header = header
	sigv4.Sign(r, q.credentials, service, q.region, sigv4.Hash(body), time.Now())
	var buf bytes.Buffer
	err = r.Write(&buf)
	return buf.Bytes(), err
}

// query makes a call in the Query protocol.
func (q wireClient) query(worker int, service string, form url.Values) ([]byte, error) {
	request, err := q.signed(service, []byte(form.Encode()), http.Header{"Content-Type": {"application/x-www-form-urlencoded; charset=utf-8"}})
	if err != nil {
		return nil, err
	}
	return q.exchange(worker, request)
}

// exchange sends a request and returns the answer's body.
func (q wireClient) exchange(worker int, request []byte) ([]byte, error) {
	conn := q.conns[worker]
	if conn == nil {
		c, err := net.Dial("tcp", q.addr)
		if err != nil {
			return nil, err
		}
		conn = &wireConn{c, bufio.NewReader(c)}
		q.conns[worker] = conn
	}
	conn.Write(request)
	res, err := http.ReadResponse(conn.r, nil)
	if err != nil {
		return nil, err
	}
	body, err := io.ReadAll(res.Body)
	if res.Close { // moto_server answers one request a connection
		conn.Close()
		q.conns[worker] = nil
	}
	if err == nil && res.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", res.Status, body)
	}
	return body, err
}

func (q wireClient) do(worker int, operation string, in any) ([]byte, error) {
	body, err := json.Marshal(in)
	if err != nil {
		return nil, err
	}
	request, err := q.request(operation, body)
	if err != nil {
		return nil, err
	}
	return q.exchange(worker, request)
}

// same is do for a request that is made again and again.
func (q wireClient) same(worker int, key, operation string, in func() any) ([]byte, error) {
	q.mu.Lock()
	request := q.prepared[key]
	if request == nil {
		body, err := json.Marshal(in())
		if err == nil {
			request, err = q.request(operation, body)
		}
		if err != nil {
			q.mu.Unlock()
			return nil, err
		}
		q.prepared[key] = request
	}
	q.mu.Unlock()
	return q.exchange(worker, request)
}

func (q wireClient) create(name string, fifo bool) (string, error) {
	in := map[string]any{"QueueName": name}
	if fifo {
		in["Attributes"] = map[string]string{"FifoQueue": "true", "DeduplicationScope": "messageGroup", "FifoThroughputLimit": "perMessageGroupId"}
	}
	out, err := q.do(0, "CreateQueue", in)
	if err != nil {
		return "", err
	}
	var created struct{ QueueUrl string }
	err = json.Unmarshal(out, &created)
	return created.QueueUrl, err
}

// message is a message to send, with an id of its own in a group.
func (q wireClient) message(group string) map[string]any {
	m := map[string]any{"MessageBody": queueBody}
	if group != "" {
		m["MessageGroupId"], m["MessageDeduplicationId"] = group, fmt.Sprint(q.ids.Add(1))
	}
	return m
}

func (q wireClient) send(worker int, url string, n int, group string) error {
	operation := "SendMessage"
	in := func() any {
		if n == 1 {
			m := q.message(group)
			m["QueueUrl"] = url
			return m
		}
		operation = "SendMessageBatch"
		var entries []any
		for k := range n {
			m := q.message(group)
			m["Id"] = fmt.Sprint(k)
			entries = append(entries, m)
		}
		return map[string]any{"QueueUrl": url, "Entries": entries}
	}
	if n > 1 {
		operation = "SendMessageBatch"
	}
	var out []byte
	var err error
	if group == "" {
		out, err = q.same(worker, fmt.Sprint(operation, url, n), operation, in)
	} else {
		out, err = q.do(worker, operation, in())
	}
	if err == nil && bytes.Contains(out, []byte(`"Failed":[{`)) {
		err = fmt.Errorf("%s: %s", operation, out)
	}
	return err
}

func (q wireClient) receive(worker int, url string, n int, wait time.Duration) (handles []string, err error) {
	out, err := q.same(worker, fmt.Sprint("receive", url, n, wait), "ReceiveMessage", func() any {
		return map[string]any{"QueueUrl": url, "MaxNumberOfMessages": n, "WaitTimeSeconds": int(wait.Seconds())}
	})
	for {
		_, rest, ok := bytes.Cut(out, []byte(`"ReceiptHandle"`))
		if !ok {
			return handles, err
		}
		_, rest, _ = bytes.Cut(rest, []byte(`"`))
		handle, rest, _ := bytes.Cut(rest, []byte(`"`))
		handles, out = append(handles, string(handle)), rest
	}
}

func (q wireClient) remove(worker int, url string, handles []string) error {
	if len(handles) == 1 {
		_, err := q.do(worker, "DeleteMessage", map[string]any{"QueueUrl": url, "ReceiptHandle": handles[0]})
		return err
	}
	var entries []any
	for k, h := range handles {
		entries = append(entries, map[string]any{"Id": fmt.Sprint(k), "ReceiptHandle": h})
	}
	out, err := q.do(worker, "DeleteMessageBatch", map[string]any{"QueueUrl": url, "Entries": entries})
	if err == nil && bytes.Contains(out, []byte(`"Failed":[{`)) {
		err = fmt.Errorf("DeleteMessageBatch: %s", out)
	}
	return err
}

// BenchmarkEmptyPolls measures what a thousand clients cost that wait 20 seconds for a message that does not come.
func BenchmarkEmptyPolls(b *testing.B) {
	const clients = 1000
	i := startQueues(b)
	q := i.wireQueues(b, clients)
	url, err := q.create("empty", false)
	if err != nil {
		b.Fatal(err)
	}
	idle := cpu()
	time.Sleep(time.Second)
	idle = cpu() - idle
	for b.Loop() {
		var wg sync.WaitGroup
		for w := range clients {
			wg.Go(func() {
				if handles, err := q.receive(w, url, 1, 20*time.Second); err != nil || len(handles) > 0 {
					b.Error(handles, err)
				}
			})
		}
		began := time.Now()
		time.Sleep(time.Second) // all have asked
		asking := cpu()
		time.Sleep(18*time.Second - time.Since(began))
		waiting := cpu() - asking
		wg.Wait()
		b.ReportMetric(waiting.Seconds()*20/17, "cpu-s/20s")
		b.ReportMetric(idle.Seconds()*20, "idle-cpu-s/20s")
	}
}
