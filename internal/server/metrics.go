package server

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// metricsType is the content type of Prometheus's text format.
const metricsType = "text/plain; version=0.0.4; charset=utf-8"

// listenMetrics opens the listener for metrics. Whoever can connect may read them, so it must be on a loopback address.
func listenMetrics(ctx context.Context, addr string) (net.Listener, error) {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, fmt.Errorf("metrics: %w", err)
	}
	if !loopback(host) {
		return nil, fmt.Errorf("metrics on %s: only loopback addresses are allowed, since they are read without credentials", addr)
	}
	var c net.ListenConfig
	ln, err := c.Listen(ctx, "tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("metrics: %w", err)
	}
	return ln, nil
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// serveMetrics serves the metrics of the root user's account, if they are to be served, until end is called.
func (s *Server) serveMetrics() (end func()) {
	if s.metrics == nil {
		return func() {}
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /metrics", func(w http.ResponseWriter, r *http.Request) {
		host, _, err := net.SplitHostPort(r.Host)
		if err != nil {
			host = r.Host
		}
		if !loopback(strings.Trim(host, "[]")) { // a page in a browser whose name leads here
			http.Error(w, "metrics are for this machine", http.StatusForbidden)
			return
		}
		var b bytes.Buffer
		if err := s.core.Load().writeMetrics(r.Context(), &b, s.root.Account, Version(), time.Now()); err != nil {
			s.log.Error("metrics not read", "err", err)
			http.Error(w, "the metrics cannot be read", http.StatusInternalServerError)
			return
		}
		w.Header().Set("Content-Type", metricsType)
		w.Write(b.Bytes())
	})
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second, WriteTimeout: time.Minute, MaxHeaderBytes: 64 << 10}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if err := server.Serve(s.metrics); !errors.Is(err, http.ErrServerClosed) {
			s.log.Error("metrics are not served any more", "err", err)
		}
	}()
	return func() { server.Close(); <-ended }
}

// samples collects metrics in order of their names' first appearance: the format wants all samples of one together.
type samples struct {
	names []string
	of    map[string]*bytes.Buffer
}

// gauge and counter add a sample. Labels are pairs of names and values.
func (s *samples) gauge(name, help string, value float64, labels ...string) {
	s.add(name, "gauge", help, value, labels)
}

func (s *samples) counter(name, help string, value float64, labels ...string) {
	s.add(name, "counter", help, value, labels)
}

var escapes = strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`)

func (s *samples) add(name, kind, help string, value float64, labels []string) {
	name = "mayfly_" + name
	b := s.of[name]
	if b == nil {
		b = &bytes.Buffer{}
		fmt.Fprintf(b, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, kind)
		if s.of == nil {
			s.of = map[string]*bytes.Buffer{}
		}
		s.of[name] = b
		s.names = append(s.names, name)
	}
	b.WriteString(name)
	for i := 0; i+1 < len(labels); i += 2 {
		sep := byte(',')
		if i == 0 {
			sep = '{'
		}
		b.WriteByte(sep)
		fmt.Fprintf(b, `%s="%s"`, labels[i], escapes.Replace(labels[i+1]))
	}
	if len(labels) > 0 {
		b.WriteByte('}')
	}
	b.WriteByte(' ')
	b.WriteString(strconv.FormatFloat(value, 'g', -1, 64))
	b.WriteByte('\n')
}

func (s *samples) writeTo(w io.Writer) error {
	for _, name := range s.names {
		if _, err := w.Write(s.of[name].Bytes()); err != nil {
			return err
		}
	}
	return nil
}

// writeMetrics writes the metrics of an account. Their names and meaning are in the guide to operations.
func (c *core) writeMetrics(ctx context.Context, w io.Writer, account, version string, now time.Time) error {
	var s samples
	s.gauge("info", "The version that runs.", 1, "version", version)
	err := errors.Join(c.mappingMetrics(ctx, &s, account, now), c.queueMetrics(ctx, &s, account, now), c.streamMetrics(ctx, &s, account), c.functionMetrics(ctx, &s, account))
	if err != nil {
		return err
	}
	return s.writeTo(w)
}

func seconds(since *time.Time, now time.Time) float64 {
	if since == nil {
		return 0
	}
	return max(now.Sub(*since).Seconds(), 0)
}

func (c *core) mappingMetrics(ctx context.Context, s *samples, account string, now time.Time) error {
	all, err := c.mappingStatuses(ctx, account)
	for i := range all {
		x := &all[i]
		m := &x.Metrics
		of := []string{"mapping", x.UUID, "source", x.Source, "function", x.Function}
		gauge := func(name, help string, value float64) { s.gauge("mapping_"+name, help, value, of...) }
		count := func(name, help string, value int64) { s.counter("mapping_"+name, help, float64(value), of...) }
		flag := func(b bool) float64 {
			if b {
				return 1
			}
			return 0
		}
		gauge("enabled", "1 if the event source mapping is enabled.", flag(x.State == "Enabled"))
		gauge("blocked", "1 if something stands in the way of records: mayfly mappings says what.", flag(x.Reason != "" && x.State != "Disabled"))
		if x.Since != nil {
			gauge("counting_since_timestamp_seconds", "Since when the counters of the mapping count.", float64(x.Since.UnixMilli())/1000)
		}
		gauge("waiting", "Visible messages of the queue, or records that were read and are not done.", float64(x.Waiting))
		gauge("oldest_age_seconds", "Age of the oldest message of the queue, or of the oldest record that is not done.", seconds(x.Oldest, now))
		gauge("batches_in_flight", "Invocations now.", float64(m.InFlight))
		gauge("window_state_bytes", "The largest state of all open windows.", float64(m.WindowState))
		count("records_read_total", "Records read.", m.Polled)
		count("records_filtered_total", "Records that the filter did not take.", m.Filtered)
		count("batches_total", "Invocations.", m.Batches)
		count("records_invoked_total", "Records in invocations.", m.Invoked)
		count("records_failed_total", "Records in invocations that failed.", m.Failed)
		count("retries_total", "Invocations that were not the first of their records.", m.Retries)
		count("throttles_total", "Invocations that found no free capacity.", m.Throttles)
		count("batches_split_total", "Batches that were halved after a failure.", m.Bisected)
		count("loops_total", "Times that a message of a recursive loop was kept from the function.", m.Loops)
		count("records_given_up_total", "Records given up.", m.Dropped)
		count("destination_deliveries_total", "Records of what was given up that reached the destination.", m.Delivered)
		count("read_errors_total", "Reads that failed.", m.Errors)
	}
	return err
}

func (c *core) queueMetrics(ctx context.Context, s *samples, account string, now time.Time) error {
	all, err := c.sqs.Overviews(ctx, account)
	for i := range all {
		q := &all[i]
		for _, x := range []struct {
			state string
			n     int
		}{{"visible", q.Visible}, {"in_flight", q.InFlight}, {"delayed", q.Delayed}} {
			s.gauge("queue_messages", "Messages of the queue.", float64(x.n), "region", q.Region, "queue", q.Name, "state", x.state)
		}
		s.gauge("queue_oldest_age_seconds", "Age of the oldest message of the queue.", seconds(q.Oldest, now), "region", q.Region, "queue", q.Name)
	}
	return err
}

func (c *core) streamMetrics(ctx context.Context, s *samples, account string) error {
	all, err := c.kinesis.Stats(ctx, account)
	for i := range all {
		x := &all[i]
		of := []string{"region", x.Region, "stream", x.Name}
		s.gauge("stream_shards", "Open shards of the stream.", float64(x.Shards), of...)
		s.gauge("stream_records", "Records of the stream within its retention, about.", float64(x.Records), of...)
		s.gauge("stream_bytes", "Bytes of the stream within its retention, about.", float64(x.Bytes), of...)
		for _, y := range x.Consumers {
			s.gauge("stream_consumer_lag_seconds", "The most that an enhanced fan-out consumer is behind in a shard.", float64(y.LagMillis)/1000,
				"region", x.Region, "stream", x.Name, "consumer", y.Name)
		}
	}
	return err
}

func (c *core) functionMetrics(ctx context.Context, s *samples, account string) error {
	f := c.fleet.Stats()
	s.gauge("environments", "Execution environments, idle ones included.", float64(f.Environments))
	s.gauge("environments_busy", "Execution environments that run an invocation.", float64(f.Busy))
	s.gauge("environments_memory_mebibytes", "Memory of all execution environments by their functions' sizes.", float64(f.MemoryMB))
	lines, err := c.meter.Read(ctx, account, "", "")
	type name struct{ region, function string }
	sums := map[name]*[5]float64{}
	var order []name
	for i := range lines {
		l := &lines[i]
		n := name{l.Region, l.Function}
		if sums[n] == nil {
			sums[n] = &[5]float64{}
			order = append(order, n)
		}
		for j, v := range [5]float64{float64(l.Invocations), float64(l.Failures), float64(l.ColdStarts), float64(l.Micros) / 1e6, float64(l.BilledMs) / 1e3} {
			sums[n][j] += v
		}
	}
	for _, n := range order {
		v, of := sums[n], []string{"region", n.region, "function", n.function}
		s.counter("function_invocations_total", "Invocations that ran, since the store was made.", v[0], of...)
		s.counter("function_failures_total", "Of them those that failed.", v[1], of...)
		s.counter("function_cold_starts_total", "Of them those that began with an init phase.", v[2], of...)
		s.counter("function_duration_seconds_total", "Time that they took.", v[3], of...)
		s.counter("function_billed_seconds_total", "Time that was billed.", v[4], of...)
	}
	return err
}
