package runtimeapi

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
)

const (
	// sendAttempts is how often a batch is tried before it counts as dropped; the pause doubles from sendPause.
	sendAttempts = 5
	sendPause    = 100 * time.Millisecond

	droppedReason = "Some logs were dropped because the downstream consumer is slower than the logs production rate"
)

// subscriber buffers the events for one extension and sends them in batches from a goroutine of its own.
type subscriber struct {
	name, api string
	dial      func(ctx context.Context, addr string) (net.Conn, error)
	ctx       context.Context
	cancel    context.CancelFunc
	done      chan struct{}
	wake      chan struct{}      // holds one token: look at the buffer again
	flushes   chan chan struct{} // each is closed when what was buffered before has been sent

	mu             sync.Mutex
	sub            subscription
	items          [][]byte
	bytes          int
	first          time.Time // when the oldest item came
	droppedRecords int64
	droppedBytes   int64

	client *http.Client // of the goroutine
	tcp    net.Conn     // of the goroutine
}

func newSubscriber(dial func(context.Context, string) (net.Conn, error), name, api string, sub subscription) *subscriber {
	o := &subscriber{name: name, api: api, dial: dial, sub: sub, done: make(chan struct{}), wake: make(chan struct{}, 1),
		flushes: make(chan chan struct{})}
	o.ctx, o.cancel = context.WithCancel(context.Background())
	o.client = &http.Client{
		Transport: &http.Transport{
			DialContext:            func(ctx context.Context, _, addr string) (net.Conn, error) { return dial(ctx, addr) },
			DisableCompression:     true,
			MaxResponseHeaderBytes: 64 << 10,
			MaxIdleConnsPerHost:    1,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	go o.run()
	return o
}

// update replaces the subscription; what is buffered goes to the new destination.
func (o *subscriber) update(sub subscription) {
	o.mu.Lock()
	o.sub = sub
	o.mu.Unlock()
}

// stop drops what is buffered and waits for the goroutine.
func (o *subscriber) stop() {
	o.cancel()
	<-o.done
}

// offer buffers the event if it is of a subscribed type, or drops and counts it if the buffer is full: a batch of full size
// may be on its way while two more wait.
func (o *subscriber) offer(enc *encoder) {
	o.mu.Lock()
	defer o.mu.Unlock()
	kind, _, _ := strings.Cut(enc.event.Type, ".")
	if !slices.Contains(o.sub.Types, kind) {
		return
	}
	item := enc.encode(o.api, o.sub.SchemaVersion)
	if item == nil {
		return
	}
	if len(o.items) >= 2*o.sub.maxItems || o.bytes+len(item) > 2*o.sub.maxBytes && len(o.items) > 0 {
		o.droppedRecords++
		o.droppedBytes += int64(len(item))
		return
	}
	if len(o.items) == 0 {
		o.first = time.Now()
	}
	o.items = append(o.items, item)
	o.bytes += len(item)
	if len(o.items) == 1 || o.full() {
		o.poke()
	}
}

// full reports whether a batch is. The caller holds mu.
func (o *subscriber) full() bool { return len(o.items) >= o.sub.maxItems || o.bytes >= o.sub.maxBytes }

func (o *subscriber) poke() {
	select {
	case o.wake <- struct{}{}:
	default:
	}
}

// flush waits until what is buffered now has been sent or given up.
func (o *subscriber) flush(ctx context.Context) error {
	sent := make(chan struct{})
	select {
	case o.flushes <- sent:
	case <-o.done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case <-sent:
	case <-o.done:
	case <-ctx.Done():
		return ctx.Err()
	}
	return nil
}

// run sends batches as they fill or grow old.
func (o *subscriber) run() {
	defer close(o.done)
	defer o.client.CloseIdleConnections()
	defer func() {
		if o.tcp != nil {
			o.tcp.Close()
		}
	}()
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		o.mu.Lock()
		var wait time.Duration = -1
		switch {
		case o.full():
			wait = 0
		case len(o.items) > 0:
			wait = max(0, o.sub.timeout-time.Since(o.first))
		}
		o.mu.Unlock()
		if wait == 0 {
			o.sendBatch()
			if o.ctx.Err() != nil {
				return
			}
			continue
		}
		var expired <-chan time.Time
		if wait > 0 {
			timer.Reset(wait)
			expired = timer.C
		}
		select {
		case <-o.ctx.Done():
			return
		case <-o.wake:
		case <-expired:
			o.sendBatch()
		case sent := <-o.flushes:
			for o.sendBatch() {
			}
			close(sent)
		}
		if o.ctx.Err() != nil {
			return
		}
	}
}

// sendBatch sends one batch, with retries, and reports whether there was one.
func (o *subscriber) sendBatch() bool {
	o.mu.Lock()
	sub := o.sub
	n, size := 0, 0
	for n < len(o.items) && n < sub.maxItems && (n == 0 || size+len(o.items[n]) <= sub.maxBytes) {
		size += len(o.items[n])
		n++
	}
	batch := slices.Clone(o.items[:n])
	o.items = slices.Delete(o.items, 0, n)
	o.bytes -= size
	o.first = time.Now()
	if o.droppedRecords > 0 && slices.Contains(sub.Types, "platform") {
		enc := encoder{event: Event{Time: time.Now(), Type: "platform.logsDropped", Record: struct {
			Reason         string `json:"reason"`
			DroppedRecords int64  `json:"droppedRecords"`
			DroppedBytes   int64  `json:"droppedBytes"`
		}{droppedReason, o.droppedRecords, o.droppedBytes}}}
		batch = append(batch, enc.encode(o.api, sub.SchemaVersion))
		o.droppedRecords, o.droppedBytes = 0, 0
	}
	o.mu.Unlock()
	if len(batch) == 0 {
		return false
	}
	pause := sendPause
	for attempt := 1; ; attempt++ {
		err := o.send(&sub, batch)
		if err == nil || o.ctx.Err() != nil {
			return true
		}
		if attempt == sendAttempts {
			break
		}
		select {
		case <-o.ctx.Done():
			return true
		case <-time.After(pause):
		}
		pause *= 2
	}
	o.mu.Lock()
	o.droppedRecords += int64(n)
	o.droppedBytes += int64(size)
	o.mu.Unlock()
	return true
}

// send tries a batch once.
func (o *subscriber) send(sub *subscription, batch [][]byte) error {
	if sub.Destination.Protocol == "TCP" {
		return o.sendTCP(sub, batch)
	}
	var body bytes.Buffer
	for i, item := range batch {
		body.WriteByte("[,"[min(i, 1)])
		body.Write(item)
	}
	body.WriteByte(']')
	method := sub.Destination.Method
	if method == "" {
		method = http.MethodPost
	}
	req, err := http.NewRequestWithContext(o.ctx, method, sub.Destination.URI, &body)
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := o.client.Do(req)
	if err != nil {
		return err
	}
	io.CopyN(io.Discard, resp.Body, 64<<10)
	resp.Body.Close()
	if resp.StatusCode/100 != 2 {
		return fmt.Errorf("telemetry destination answered %s", resp.Status)
	}
	return nil
}

// sendTCP writes a batch as lines on a connection that is kept.
func (o *subscriber) sendTCP(sub *subscription, batch [][]byte) error {
	if o.tcp == nil {
		nc, err := o.dial(o.ctx, sub.address)
		if err != nil {
			return err
		}
		o.tcp = nc
	}
	nc := o.tcp
	stop := context.AfterFunc(o.ctx, func() { nc.Close() })
	defer stop()
	var lines bytes.Buffer
	for _, item := range batch {
		lines.Write(item)
		lines.WriteByte('\n')
	}
	if _, err := lines.WriteTo(o.tcp); err != nil {
		o.tcp.Close()
		o.tcp = nil
		return err
	}
	return nil
}

// encoder turns an event into the forms that its subscribers want, each made once.
type encoder struct {
	event Event
	forms map[string][]byte
}

// encode returns the event for a subscriber of api and schema, or nil if that has no such event.
func (enc *encoder) encode(api, schema string) []byte {
	key := api + schema
	if item, ok := enc.forms[key]; ok {
		return item
	}
	item := enc.form(api, schema)
	if enc.forms == nil {
		enc.forms = map[string][]byte{}
	}
	enc.forms[key] = item
	return item
}

func (enc *encoder) form(api, schema string) []byte {
	e := enc.event
	record, err := json.Marshal(e.Record)
	if err != nil {
		return nil
	}
	platform := strings.HasPrefix(e.Type, "platform.")
	switch {
	case !platform && record[0] != '"' && (api == logsAPI || schema == "2022-07-01"):
		record = encode(string(record)) // objects came later
	case platform && api == logsAPI:
		if record = logsRecord(e.Type, schema, record); record == nil {
			return nil
		}
	case e.Type == "platform.end" || e.Type == "platform.fault" || e.Type == "platform.logsSubscription":
		return nil
	}
	item := make([]byte, 0, len(record)+96)
	item = append(item, `{"time":"`...)
	item = e.Time.UTC().AppendFormat(item, "2006-01-02T15:04:05.000Z07:00")
	item = append(item, `","type":"`...)
	item = append(item, e.Type...)
	item = append(item, `","record":`...)
	item = append(item, record...)
	return append(item, '}')
}

// logsRecord turns a platform record of the Telemetry API into that of the Logs API, or returns nil if that has none.
func logsRecord(eventType, schema string, record []byte) []byte {
	var keep []string
	switch eventType {
	case "platform.end", "platform.fault", "platform.extension", "platform.logsSubscription", "platform.logsDropped":
		return record
	case "platform.start":
		keep = []string{"requestId", "version"}
	case "platform.report":
		keep = []string{"requestId", "metrics"}
	case "platform.runtimeDone":
		if schema != "2021-03-18" {
			return nil
		}
		keep = []string{"requestId", "status"}
	default:
		return nil
	}
	var fields map[string]json.RawMessage
	if json.Unmarshal(record, &fields) != nil {
		return nil
	}
	for name := range fields {
		if !slices.Contains(keep, name) {
			delete(fields, name)
		}
	}
	return encode(fields)
}
