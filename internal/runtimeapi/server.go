// Package runtimeapi is what the processes of one execution environment see of Lambda: the Runtime, Extensions,
// Telemetry and Logs APIs on one HTTP/1.1 listener, and the state machine of who may call what when.
//
// It starts no process and knows no deadline of its own: its owner starts the runtime and the extensions, hands over one
// invocation at a time, watches for failures and deadlines, and calls Reset after it has killed every process. Whatever
// comes in on the listener is hostile: sizes, connections and memory are bounded, and a malformed request costs its sender
// the connection.
package runtimeapi

import (
	"context"
	"errors"
	"net"
	"os"
	"slices"
	"sync"
	"syscall"
	"time"
)

// AWS's limits, used where Options has zero.
const (
	MaxPayload  = 6<<20 + 100 // bytes of a buffered response or event
	MaxStream   = 200 << 20   // bytes of a streamed response
	StreamRate  = 2 << 20     // bytes per second of a streamed response once StreamBurst is used up
	StreamBurst = 6 << 20     // bytes of a streamed response that are not slowed down

	// MaxExtensions is the number of extensions, internal ones included, that may register.
	MaxExtensions = 10
)

// maxConns bounds the connections of one environment; the connection idle for longest gives way to a new one.
const maxConns = 64

// Errors of Invoke.
var (
	ErrClosed = errors.New("runtimeapi: closed")
	ErrBusy   = errors.New("runtimeapi: an invocation is running")
)

// Options describe the function to its processes. Zero limits mean AWS's.
type Options struct {
	FunctionName    string
	FunctionVersion string // "$LATEST" or a number
	Handler         string
	AccountID       string

	// Extensions are the file names of the external extensions that the owner starts. A registration under another
	// name is an internal extension's.
	Extensions []string

	MaxResponse int64 // bytes of a buffered response; a longer one fails the invocation
	MaxStream   int64 // bytes of a streamed response
	StreamRate  int64 // bytes per second after StreamBurst; negative means unlimited
	StreamBurst int64 // bytes

	// Dial connects to a port inside the environment, for telemetry destinations. Without it subscriptions are refused.
	Dial func(ctx context.Context, addr string) (net.Conn, error)

	// Notify, if set, is told of the events that arise here: platform.extension with an ExtensionRecord once all are
	// ready, platform.telemetrySubscription and platform.logsSubscription with a SubscriptionRecord. Subscribers of
	// telemetry have been told already. It runs under the server's lock: it must not block nor call the Server.
	Notify func(Event)
}

// Server serves one execution environment. Its methods may be called concurrently.
type Server struct {
	opt       Options
	telemetry telemetry
	wg        sync.WaitGroup // listeners and connections

	mu         sync.Mutex
	closed     bool
	generation int                            // number of Resets; a connection of an older generation is dead
	draining   bool                           // Reset is under way: a new connection is a dead process's
	listeners  map[net.Listener]chan struct{} // receives when the listener's queue is empty
	conns      map[*conn]struct{}

	registered chan struct{} // closed when every external extension has registered
	ready      chan struct{} // closed when the init phase ended well
	failure    chan Failure  // holds the first failure since New or Reset

	state      runtimeState
	poll       *conn // the runtime's open GET /next
	extensions []*extension
	running    *Running // the invocation that is not done
	stopping   bool     // Shutdown was called
}

// New returns a server in the init phase. Close releases it.
func New(opt Options) *Server {
	if opt.MaxResponse == 0 {
		opt.MaxResponse = MaxPayload
	}
	if opt.MaxStream == 0 {
		opt.MaxStream = MaxStream
	}
	if opt.StreamRate == 0 {
		opt.StreamRate = StreamRate
	}
	if opt.StreamBurst == 0 {
		opt.StreamBurst = StreamBurst
	}
	opt.Extensions = slices.Clone(opt.Extensions)
	s := &Server{opt: opt, listeners: map[net.Listener]chan struct{}{}, conns: map[*conn]struct{}{}}
	s.telemetry.dial = opt.Dial
	s.initPhase()
	return s
}

// initPhase puts the state machine at its start. The caller holds mu, or is New.
func (s *Server) initPhase() {
	s.registered = make(chan struct{})
	s.ready = make(chan struct{})
	s.failure = make(chan Failure, 1)
	s.state = started
	s.poll = nil
	s.extensions = nil
	s.running = nil
	s.stopping = false
	s.telemetry.beginInit(len(s.opt.Extensions) > 0)
	if len(s.opt.Extensions) == 0 {
		close(s.registered)
	}
}

// Serve answers connections from ln until Close, which also closes ln; it then returns nil. An error of the listener ends
// it as well and is returned. A server may serve several listeners.
func (s *Server) Serve(ln net.Listener) error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		ln.Close()
		return nil
	}
	drained := make(chan struct{})
	s.listeners[ln] = drained
	s.wg.Add(1)
	s.mu.Unlock()
	defer s.wg.Done()
	defer close(drained)
	for {
		nc, err := ln.Accept()
		if err == nil {
			s.accept(nc)
			continue
		}
		s.mu.Lock()
		closed, draining := s.closed, s.draining
		s.mu.Unlock()
		switch {
		case closed:
			return nil
		case errors.Is(err, os.ErrDeadlineExceeded):
			if draining {
				drain(ln)
				drained <- struct{}{}
			}
		case errors.Is(err, syscall.EMFILE), errors.Is(err, syscall.ENFILE), errors.Is(err, syscall.ENOMEM), errors.Is(err, syscall.ENOBUFS):
			time.Sleep(10 * time.Millisecond) // the machine may recover
		default:
			s.mu.Lock()
			delete(s.listeners, ln)
			s.mu.Unlock()
			ln.Close()
			return err
		}
	}
}

// deadliner is what a listener of the net package has.
type deadliner interface{ SetDeadline(time.Time) error }

// drain closes the connections that wait in the listener's queue. The listener has timed out. Accept takes what is queued
// before it waits, but nothing once the deadline has passed, hence the second look.
func drain(ln net.Listener) {
	d := ln.(deadliner)
	for looked := false; !looked; {
		deadline := time.Now().Add(2 * time.Millisecond)
		d.SetDeadline(deadline)
		for {
			inTime := time.Until(deadline) > time.Millisecond
			nc, err := ln.Accept()
			if err != nil {
				looked = looked || inTime || !errors.Is(err, os.ErrDeadlineExceeded)
				break
			}
			nc.Close()
		}
	}
	d.SetDeadline(time.Time{})
}

// accept starts a goroutine for nc, making room for it if need be.
func (s *Server) accept(nc net.Conn) {
	s.mu.Lock()
	if s.closed || s.draining {
		s.mu.Unlock()
		nc.Close()
		return
	}
	if len(s.conns) >= maxConns {
		var oldest *conn
		for c := range s.conns {
			if c.idle.Load() && (oldest == nil || c.used.Load() < oldest.used.Load()) {
				oldest = c
			}
		}
		if oldest == nil {
			s.mu.Unlock()
			nc.Close()
			return
		}
		delete(s.conns, oldest)
		oldest.close()
	}
	c := newConn(s, nc, s.generation)
	s.conns[c] = struct{}{}
	s.wg.Add(1)
	s.mu.Unlock()
	go c.serve()
}

// forget ends what c was waiting for.
func (s *Server) forget(c *conn) {
	s.mu.Lock()
	delete(s.conns, c)
	if s.poll == c {
		s.poll = nil
	}
	for _, e := range s.extensions {
		if e.poll == c {
			e.poll = nil
		}
	}
	s.mu.Unlock()
	c.close()
}

// Close ends the running invocation as Abort does, closes the listeners and connections, drops unsent telemetry, and waits
// for all goroutines to end. Closing twice is allowed.
func (s *Server) Close() error {
	s.mu.Lock()
	s.closed = true
	for ln := range s.listeners {
		ln.Close()
	}
	s.hangUp()
	s.mu.Unlock()
	s.telemetry.reset()
	s.wg.Wait()
	return nil
}

// Reset returns to the init phase: the running invocation ends as by Abort, connections are closed, extension identifiers
// and telemetry subscriptions are void, registration is open again. The owner calls it when no process of the environment
// is left and before it starts new ones; it calls Reset from one goroutine at a time.
func (s *Server) Reset() {
	s.mu.Lock()
	s.hangUp()
	s.generation++
	s.draining = true
	var queues []chan struct{}
	for ln, drained := range s.listeners {
		if d, ok := ln.(deadliner); ok && d.SetDeadline(time.Unix(1, 0)) == nil {
			queues = append(queues, drained)
		}
	}
	s.mu.Unlock()
	for _, drained := range queues {
		<-drained
	}
	s.telemetry.reset()
	s.mu.Lock()
	s.draining = false
	s.initPhase()
	s.mu.Unlock()
}

// hangUp aborts the invocation and closes all connections. The caller holds mu.
func (s *Server) hangUp() {
	if s.running != nil {
		s.running.abort(errHungUp)
		s.running = nil
	}
	for c := range s.conns {
		c.close()
	}
}

// ExtensionsRegistered returns a channel that is closed when all external extensions have registered, at once if there are
// none. The runtime is started after that. Reset makes a new channel.
func (s *Server) ExtensionsRegistered() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.registered
}

// Ready returns a channel that is closed when the runtime and every registered extension have asked for their first event,
// which ends the init phase. Reset makes a new channel.
func (s *Server) Ready() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ready
}

// Failure returns a channel that receives the first failure that a process reports of itself outside an invocation's
// response: the runtime's init error, an extension's init or exit error. Later ones are dropped, since the first must end the
// environment. Reset makes a new channel.
func (s *Server) Failure() <-chan Failure {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.failure
}

// Failure is what a process said of its own end.
type Failure struct {
	Source      string // "runtime", or the extension's name
	Type        string // Runtime.* or Function.* normalised; Extension.InitError or Extension.ExitError for extensions
	Detail      string // an extension's own error type, printable, at most 256 bytes
	Body        []byte // the runtime's error document, unchanged
	ContentType string // of Body
	XRayCause   []byte // JSON, at most 64 KiB, or nil
	At          time.Time
}

// fail reports f unless another failure came first. The caller holds mu.
func (s *Server) fail(f Failure) {
	select {
	case s.failure <- f:
	default:
	}
}

// checkReady ends the init phase if all have called Next. The caller holds mu.
func (s *Server) checkReady() {
	if s.isReady() || s.state != ready {
		return
	}
	for _, e := range s.extensions {
		if e.state != extensionReady {
			return
		}
	}
	for _, e := range s.extensions {
		s.notify(Event{Time: time.Now(), Type: "platform.extension",
			Record: ExtensionRecord{Name: e.name, State: "Ready", Events: e.eventNames()}})
	}
	s.telemetry.endInit()
	close(s.ready)
}

// isReady reports whether the init phase is over. The caller holds mu.
func (s *Server) isReady() bool {
	select {
	case <-s.ready:
		return true
	default:
		return false
	}
}

// notify tells subscribers and the owner of an event that arose here. The caller holds mu.
func (s *Server) notify(e Event) {
	s.telemetry.emit(e)
	if s.opt.Notify != nil {
		s.opt.Notify(e)
	}
}
