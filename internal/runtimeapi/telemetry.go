package runtimeapi

import (
	"context"
	"encoding/json"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Event is one event of the Telemetry API.
type Event struct {
	Time   time.Time
	Type   string // platform.*, "function" or "extension"; platform.end and platform.fault exist in the Logs API only
	Record any    // marshalled as JSON; a line of text for function and extension, or json.RawMessage if it is an object
}

// ExtensionRecord is the record of platform.extension.
type ExtensionRecord struct {
	Name      string   `json:"name"`
	State     string   `json:"state"`
	Events    []string `json:"events"`
	ErrorType string   `json:"errorType,omitempty"`
}

// SubscriptionRecord is the record of platform.telemetrySubscription and platform.logsSubscription.
type SubscriptionRecord struct {
	Name  string   `json:"name"`
	State string   `json:"state"`
	Types []string `json:"types"`
}

// Emit gives an event to the extensions that subscribed to its kind. It never waits for them: what a slow one does not take
// is dropped, and counted in a platform.logsDropped.
func (s *Server) Emit(e Event) { s.telemetry.emit(e) }

// Subscribed reports whether anyone listens, so that an owner need not make events for nobody.
func (s *Server) Subscribed() bool { return s.telemetry.any.Load() }

// Flush sends what is buffered for subscribers and returns when they have it, or with the context's error.
func (s *Server) Flush(ctx context.Context) error { return s.telemetry.flush(ctx) }

// The two generations of the API.
const (
	telemetryAPI = "Telemetry"
	logsAPI      = "Logs"
)

// telemetry holds the subscribers of one environment.
type telemetry struct {
	dial func(ctx context.Context, addr string) (net.Conn, error)
	any  atomic.Bool // there are subscribers

	// Until the init phase is over, events are kept for those who have yet to subscribe, if extensions are expected: the
	// first event, platform.initStart, comes before any of them can.
	keep atomic.Bool

	mu          sync.Mutex
	subscribers []*subscriber
	early       []Event
}

// maxEarly bounds the events kept for later subscribers; what comes after is missing to them.
const maxEarly = 1000

// beginInit starts to keep events if extensions are expected.
func (t *telemetry) beginInit(extensions bool) {
	t.mu.Lock()
	t.early = nil
	t.keep.Store(extensions)
	t.mu.Unlock()
}

// endInit throws away what was kept.
func (t *telemetry) endInit() {
	t.mu.Lock()
	t.early = nil
	t.keep.Store(false)
	t.mu.Unlock()
}

// subscription is the body of a subscribe request, checked and with its defaults.
type subscription struct {
	SchemaVersion string   `json:"schemaVersion"`
	Types         []string `json:"types"`
	Buffering     struct {
		MaxItems  *int `json:"maxItems"`
		MaxBytes  *int `json:"maxBytes"`
		TimeoutMs *int `json:"timeoutMs"`
	} `json:"buffering"`
	Destination struct {
		Protocol string `json:"protocol"`
		URI      string `json:"URI"`
		Port     int    `json:"port"`
		Method   string `json:"method"`
		Encoding string `json:"encoding"`
	} `json:"destination"`

	maxItems, maxBytes int
	timeout            time.Duration
	address            string // host:port to dial
}

// parseSubscription checks a subscribe request of one API; message says what is wrong with it.
func parseSubscription(api string, doc []byte) (sub subscription, message string) {
	if err := json.Unmarshal(doc, &sub); err != nil {
		return sub, "Invalid JSON: " + err.Error()
	}
	versions := []string{"2022-12-13", "2022-07-01", "2025-01-29"}
	if api == logsAPI {
		versions = []string{"2020-08-15", "2021-03-18"}
	}
	switch {
	case sub.SchemaVersion == "" && api == logsAPI:
		sub.SchemaVersion = versions[0]
	case !slices.Contains(versions, sub.SchemaVersion):
		return sub, "schemaVersion must be one of " + strings.Join(versions, ", ")
	}
	if len(sub.Types) == 0 {
		return sub, "types must name at least one of platform, function, extension"
	}
	for _, t := range sub.Types {
		if t != "platform" && t != "function" && t != "extension" {
			return sub, "types must be of platform, function, extension; found " + strconv.Quote(t)
		}
	}
	b := sub.Buffering
	var ok bool
	if sub.maxItems, ok = bounded(b.MaxItems, 10000, 1000, 10000); !ok {
		return sub, "buffering.maxItems must be between 1000 and 10000"
	}
	if sub.maxBytes, ok = bounded(b.MaxBytes, 262144, 262144, 1048576); !ok {
		return sub, "buffering.maxBytes must be between 262144 and 1048576"
	}
	ms, ok := bounded(b.TimeoutMs, 1000, 25, 30000)
	if !ok {
		return sub, "buffering.timeoutMs must be between 25 and 30000"
	}
	sub.timeout = time.Duration(ms) * time.Millisecond
	return sub, sub.checkDestination()
}

// bounded returns the value, or a default if there is none, and whether it lies within the bounds.
func bounded(v *int, standard, low, high int) (int, bool) {
	if v == nil {
		return standard, true
	}
	return *v, low <= *v && *v <= high
}

// apiPort is taken by the Runtime API itself.
const apiPort = 9001

// checkDestination finds the address to dial, or says what is wrong.
func (sub *subscription) checkDestination() (message string) {
	d := &sub.Destination
	switch d.Protocol {
	case "TCP":
		if d.Port < 1 || d.Port > 65535 {
			return "destination.port must be between 1 and 65535"
		}
		if d.Port == apiPort {
			return "destination.port 9001 is the Runtime API's own"
		}
		sub.address = net.JoinHostPort("sandbox.localdomain", strconv.Itoa(d.Port))
		return ""
	case "HTTP":
	default:
		return "destination.protocol must be HTTP or TCP"
	}
	u, err := url.Parse(d.URI)
	switch {
	case d.URI == "":
		return "destination.URI is required"
	case err != nil:
		return "destination.URI is not a URI"
	case u.Scheme != "http":
		return "destination.URI must begin with http://"
	case u.Hostname() != "sandbox.localdomain" && u.Hostname() != "sandbox":
		return "destination.URI must name the host sandbox.localdomain"
	case u.User != nil:
		return "destination.URI must not carry credentials"
	}
	port := u.Port()
	if port == "" {
		port = "80"
	}
	if n, err := strconv.Atoi(port); err != nil || n < 1 || n > 65535 {
		return "destination.URI has no valid port"
	} else if n == apiPort {
		return "destination.URI names port 9001, which is the Runtime API's own"
	}
	if d.Method != "" && d.Method != "POST" && d.Method != "PUT" {
		return "destination.method must be POST or PUT"
	}
	if d.Encoding != "" && d.Encoding != "JSON" {
		return "destination.encoding must be JSON"
	}
	sub.address = net.JoinHostPort(u.Hostname(), port)
	return ""
}

// subscribeTelemetry serves PUT /2022-07-01/telemetry.
func (s *Server) subscribeTelemetry(c *conn) { s.subscribe(c, telemetryAPI) }

// subscribeLogs serves PUT /2020-08-15/logs.
func (s *Server) subscribeLogs(c *conn) { s.subscribe(c, logsAPI) }

func (s *Server) subscribe(c *conn, api string) {
	if !c.checkIdentifier() {
		return
	}
	invalid, event := "ValidationError", "platform.telemetrySubscription"
	if api == logsAPI {
		invalid, event = "Logs.ValidationError", "platform.logsSubscription"
	}
	doc, err := c.body.readAll(maxSmallBody)
	if err != nil {
		c.refuse(statusBadRequest, invalid, "Failed to read request body: "+err.Error())
		return
	}
	sub, message := parseSubscription(api, doc)
	if message == "" && s.telemetry.dial == nil {
		message = "telemetry destinations cannot be reached in this environment"
	}
	if s.identified(c, func(e *extension) (string, string) {
		switch {
		case s.isReady():
			return api + ".SubscriptionClosed", api + " API subscription is closed already"
		case message == "" && !s.telemetry.subscribe(e.name, api, sub):
			message = "the extension has subscribed through the other of the Telemetry API and the Logs API"
		case message == "":
			s.notify(Event{Time: time.Now(), Type: event, Record: SubscriptionRecord{Name: e.name, State: "Subscribed", Types: sub.Types}})
		}
		return "", ""
	}) {
		if message != "" {
			c.refuse(statusBadRequest, invalid, message)
			return
		}
		c.reply("200 OK", "", "application/json", `"OK"`)
	}
}

// subscribe adds or replaces the subscription of an extension. It reports false if that has one of the other API.
func (t *telemetry) subscribe(name, api string, sub subscription) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, o := range t.subscribers {
		if o.name == name {
			if o.api != api {
				return false
			}
			o.update(sub)
			return true
		}
	}
	o := newSubscriber(t.dial, name, api, sub)
	t.subscribers = append(t.subscribers, o)
	t.any.Store(true)
	for _, e := range t.early {
		o.offer(&encoder{event: e})
	}
	return true
}

// emit gives e to whom it may concern.
func (t *telemetry) emit(e Event) {
	if !t.any.Load() && !t.keep.Load() {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.keep.Load() && len(t.early) < maxEarly {
		t.early = append(t.early, e)
	}
	enc := encoder{event: e}
	for _, o := range t.subscribers {
		o.offer(&enc)
	}
}

// flush sends what all subscribers have buffered.
func (t *telemetry) flush(ctx context.Context) error {
	if !t.any.Load() {
		return nil
	}
	t.mu.Lock()
	subscribers := slices.Clone(t.subscribers)
	t.mu.Unlock()
	for _, o := range subscribers {
		if err := o.flush(ctx); err != nil {
			return err
		}
	}
	return nil
}

// reset drops all subscribers and waits for their goroutines.
func (t *telemetry) reset() {
	t.mu.Lock()
	subscribers := t.subscribers
	t.subscribers = nil
	t.any.Store(false)
	t.mu.Unlock()
	for _, o := range subscribers {
		o.stop()
	}
}
