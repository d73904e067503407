// Package edge is the front door: it takes HTTP requests from AWS clients, finds the service and operation, verifies
// the signature, reads the body within its limit, and hands the call to the gate.
//
// One Edge serves one public address and any number of listeners inside sandboxes. It listens on loopback unless told
// otherwise, and speaks HTTP/1.1 and, with prior knowledge, HTTP/2 without TLS.
package edge

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mayflyhq/mayfly/internal/aws/apierr"
	"github.com/mayflyhq/mayfly/internal/aws/protocol"
	"github.com/mayflyhq/mayfly/internal/aws/sigv4"
	"github.com/mayflyhq/mayfly/internal/aws/smithy"
	"github.com/mayflyhq/mayfly/internal/call"
	"github.com/mayflyhq/mayfly/internal/credential"
)

// DefaultAddr is where Mayfly listens unless told otherwise.
const DefaultAddr = "127.0.0.1:4566"

// Options configure an Edge. Caller, Services, Keys, Root and Log must be set.
type Options struct {
	Caller   smithy.Caller     // performs the calls: the gate
	Services []*smithy.Service // the services that are served
	Keys     credential.Finder
	Root     *credential.Root // gives the account and region of requests that name none
	Log      *slog.Logger
	Version  string // as GET /_mayfly/health says it

	// Dev accepts any credentials, and requests without, as root: of the account that is the access key id, if that is
	// twelve digits, else of Root's. It serves loopback addresses only.
	Dev bool
	// Origins are the origins, such as http://localhost:3000, whose pages a browser may let call this server; "*" is
	// any. With Dev, requests that a browser sends from another page are refused, since they need no secret.
	Origins []string
	// Internal are endpoints of Mayfly's own under /_mayfly/, by the patterns of http.ServeMux.
	Internal map[string]Internal
	// URLs are the URLs of functions, at host names ID.lambda-url.REGION.* and below /_mayfly/url/. If nil there are none.
	URLs FunctionURLs
	// Reset empties the installation at POST /_mayfly/reset. It is nil where that must not happen, and works with Dev only.
	Reset func(context.Context) error
	// MaxBodies bounds the bytes of large request bodies in memory at a time; 0 means 1 GiB. What exceeds it is answered
	// with 503.
	MaxBodies int64
}

// Edge serves HTTP. Its methods may be called concurrently.
type Edge struct {
	opts     Options
	router   *protocol.Router
	hosts    map[string]string // first label of a host name to signing name
	verifier sigv4.Verifier
	internal *http.ServeMux
	bodies   atomic.Int64 // bytes of large bodies in memory

	public, sandbox *http.Server

	mu       sync.Mutex
	status   status
	inFlight int
	idle     chan struct{} // closed when stopping and nothing is in flight
}

type status string

const (
	starting status = "starting"
	running  status = "running"
	stopping status = "stopping"
)

// New returns an Edge that answers 503 until Ready.
func New(opts Options) *Edge {
	if opts.MaxBodies == 0 {
		opts.MaxBodies = 1 << 30
	}
	e := &Edge{opts: opts, router: protocol.NewRouter(opts.Services...), hosts: map[string]string{}, status: starting, idle: make(chan struct{})}
	for _, s := range opts.Services {
		for _, label := range []string{s.Name, s.EndpointPrefix, s.SigningName} {
			e.hosts[label] = s.SigningName
		}
	}
	e.internal = e.internalMux()
	e.public = e.newServer(e)
	e.sandbox = e.newServer(http.HandlerFunc(e.serveSandbox))
	return e
}

// Ready opens the door: from now on calls are served.
func (e *Edge) Ready() {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.status == starting {
		e.status = running
	}
}

// enter counts a request in, and reports false if none may enter.
func (e *Edge) enter() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.status != running {
		return false
	}
	e.inFlight++
	return true
}

func (e *Edge) leave() {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.inFlight--; e.inFlight == 0 && e.status == stopping {
		close(e.idle)
	}
}

// stop lets nobody in any more.
func (e *Edge) stop() {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.status != stopping && e.inFlight == 0 {
		close(e.idle)
	}
	e.status = stopping
}

func (e *Edge) currentStatus() status {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.status
}

// ServeHTTP serves a request that came from outside a sandbox. It implements http.Handler.
func (e *Edge) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.ProtoMajor == 1 {
		w.Header()["Connection"] = keepAlive
	}
	if !isFunctionURL(r) && !e.cors(w, r) { // functions have their own rules of who may call them
		return
	}
	if r.URL.Path == "/_mayfly/health" && !isURLHost(r.Host) { // answers in every state
		e.health(w, r)
		return
	}
	if !e.enter() {
		w.Header().Set("Connection", "close")
		e.refuse(w, r, apierr.New("ServiceUnavailable", http.StatusServiceUnavailable, "Mayfly is %s. Try again later.", e.currentStatus()))
		return
	}
	defer e.leave()
	e.serve(w, r)
}

var keepAlive = []string{"keep-alive"}

// serveSandbox serves a request that a function sent from inside its sandbox. It is served while Mayfly stops, because
// invocations that are under way must be able to end, and it reaches no internal endpoint but the presigned ones.
func (e *Edge) serveSandbox(w http.ResponseWriter, r *http.Request) {
	e.serve(w, r.WithContext(context.WithValue(r.Context(), sandboxKey{}, true)))
}

type sandboxKey struct{}

func fromSandbox(ctx context.Context) bool { return ctx.Value(sandboxKey{}) != nil }

func (e *Edge) serve(w http.ResponseWriter, r *http.Request) {
	if r.ContentLength != 0 {
		r.Body = newTimedBody(w, r)
	}
	if isFunctionURL(r) {
		e.serveURL(w, r)
		return
	}
	if strings.HasPrefix(r.URL.Path, "/_mayfly/") {
		e.internal.ServeHTTP(w, r)
		return
	}
	info := e.newInfo(r)
	c, resp := e.respond(w, r, info)
	e.send(w, c, info, resp)
}

// respond performs the AWS API call that r is, and returns the response.
func (e *Edge) respond(w http.ResponseWriter, r *http.Request, info *call.Info) (c *protocol.Call, resp *protocol.Response) {
	defer func() { // the gate catches the panics of handlers; these are of what is before and after it
		if p := recover(); p != nil {
			if c == nil {
				c = &protocol.Call{Codec: restCodecs[0]}
			}
			resp = e.failed(r, c, info, fmt.Errorf("panic: %v\n%s", p, debug.Stack()))
		}
	}()
	sig, err := sigv4.Parse(r)
	signingName := sig.Service
	info.Region = sig.Region
	if signingName == "" {
		if signingName, info.Region = e.byHost(r.Host); signingName == "" && isQueueRequest(r) {
			signingName = "sqs"
		}
	}
	secret, err := e.authenticate(r, info, &sig, err)

	req := protocol.NewRequest(r)
	req.Path, req.Query = splitTarget(r)
	body := requestBody{e: e, w: w, r: r, sig: &sig, secret: secret}
	defer body.release()
	if req.IsForm() && (err == nil || isMissing(err)) { // the operation is in the body
		limit := formLimit
		if err != nil {
			limit = anonymousLimit
		}
		if ferr := body.readForm(req, limit); ferr != nil {
			c, _ = e.router.Match(req, signingName)
			return c, e.failed(r, c, info, ferr)
		}
	}
	c, matchErr := e.router.Match(req, signingName)
	matchErr = nameQueue(c, r.Host, matchErr)
	if isMissing(err) && matchErr == nil && c.Op.NoAuth {
		err = nil
	}
	if err = cmp.Or(err, matchErr); err == nil {
		err = body.receive(c)
	}
	if err != nil {
		return c, e.failed(r, c, info, err)
	}
	in, out := c.Op.NewInput(), c.Op.NewOutput()
	if err := c.Decode(in); err != nil {
		return c, e.failed(r, c, info, err)
	}
	if err := e.opts.Caller.Call(call.With(r.Context(), info), c.Op, in, out); err != nil { // logged by the gate
		return c, c.EncodeError(err, info.RequestID)
	}
	return c, c.Encode(out, info.RequestID)
}

func (e *Edge) newInfo(r *http.Request) *call.Info {
	ip, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		ip = r.RemoteAddr
	}
	return &call.Info{
		Account:   e.opts.Root.Account,
		RequestID: call.NewRequestID(),
		Trace:     r.Header.Get("X-Amzn-Trace-Id"),
		SourceIP:  ip,
		UserAgent: r.Header.Get("User-Agent"),
		Host:      r.Host,
		Time:      time.Now(),
	}
}

// byHost finds the service and region that a host name of AWS's form means: lambda.eu-west-1.amazonaws.com,
// iam.amazonaws.com, lambda.localhost.
func (e *Edge) byHost(host string) (signingName, region string) {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	rest, ok := strings.CutSuffix(host, ".amazonaws.com")
	if !ok {
		if rest, ok = strings.CutSuffix(host, ".localhost"); !ok {
			return "", ""
		}
	}
	labels := strings.Split(rest, ".")
	for i, l := range slices.Backward(labels) { // bucket names and prefixes come before the service
		if l == "queue" { // SQS's older names: REGION.queue.amazonaws.com
			if i > 0 && regionForm(labels[i-1]) {
				region = labels[i-1]
			}
			return "sqs", region
		}
		if name, ok := e.hosts[l]; ok {
			if i+1 < len(labels) && regionForm(labels[i+1]) {
				region = labels[i+1]
			}
			return name, region
		}
	}
	return "", ""
}

// regionForm reports whether s can be a region, and so a part of keys and ARNs.
func regionForm(s string) bool {
	if len(s) == 0 || len(s) > 32 {
		return false
	}
	for i := range len(s) {
		if c := s[i]; (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' {
			return false
		}
	}
	return true
}

// splitTarget returns path and query as they are on the request line.
func splitTarget(r *http.Request) (path, query string) {
	path, query, _ = strings.Cut(r.RequestURI, "?")
	if !strings.HasPrefix(path, "/") { // absolute form, "*", or a request that no server read
		return r.URL.EscapedPath(), r.URL.RawQuery
	}
	return path, query
}

// failed logs an error from before or after the gate and returns the response for it.
func (e *Edge) failed(r *http.Request, c *protocol.Call, info *call.Info, err error) *protocol.Response {
	ae := protocolError(c, err)
	level := slog.LevelInfo
	if ae.HTTPStatus() == http.StatusInternalServerError {
		level = slog.LevelError
	}
	if e.opts.Log.Enabled(r.Context(), level) {
		attrs := []slog.Attr{slog.String("method", r.Method), slog.String("path", r.URL.Path), slog.String("from", info.SourceIP),
			slog.String("requestId", info.RequestID), slog.String("code", ae.Code), slog.String("message", ae.Message)}
		if ae.Cause != nil {
			attrs = append(attrs, slog.String("cause", ae.Cause.Error()))
		}
		e.opts.Log.LogAttrs(r.Context(), level, "request refused", attrs...)
	}
	return c.EncodeError(ae, info.RequestID)
}

// refuse answers a request that is not looked at any further, in the form that its client seems to expect.
func (e *Edge) refuse(w http.ResponseWriter, r *http.Request, err *apierr.Error) {
	sig, _ := sigv4.Parse(r)
	c, _ := e.router.Match(protocol.NewRequest(r), sig.Service)
	info := &call.Info{RequestID: call.NewRequestID()}
	e.send(w, c, info, c.EncodeError(err, info.RequestID))
}

// send writes the response.
func (e *Edge) send(w http.ResponseWriter, c *protocol.Call, info *call.Info, resp *protocol.Response) {
	if isS3(c) {
		w.Header().Set("X-Amz-Request-Id", info.RequestID)
		w.Header().Set("X-Amz-Id-2", extendedID())
	}
	broken := false
	defer func() { // a stream runs the handler's code
		if p := recover(); p != nil {
			e.opts.Log.Error("panic in a response stream", "requestId", info.RequestID, "cause", fmt.Sprintf("%v\n%s", p, debug.Stack()))
			broken = true
		}
		if broken { // so that the client does not take it for whole
			panic(http.ErrAbortHandler)
		}
	}()
	if err := resp.WriteTo(&patientWriter{w, http.NewResponseController(w)}); err != nil {
		broken = true
		e.opts.Log.Debug("response broken off", "requestId", info.RequestID, "cause", err)
	}
}

// patientWriter gives each piece of a response its time, so that a client that does not read ties nothing up for ever.
type patientWriter struct {
	http.ResponseWriter
	control *http.ResponseController
}

func (w *patientWriter) Write(p []byte) (int, error) {
	if len(p) <= smallWrite { // goes into a buffer
		return w.ResponseWriter.Write(p)
	}
	w.control.SetWriteDeadline(time.Now().Add(patience(int64(len(p)))))
	defer w.control.SetWriteDeadline(time.Time{})
	return w.ResponseWriter.Write(p)
}

// Flush implements http.Flusher.
func (w *patientWriter) Flush() {
	w.control.SetWriteDeadline(time.Now().Add(patience(0)))
	defer w.control.SetWriteDeadline(time.Time{})
	w.control.Flush()
}

// smallWrite is what net/http and the kernel hold without waiting for the client.
const smallWrite = 16 << 10

// extendedID is S3's x-amz-id-2.
func extendedID() string {
	var b [57]byte
	rand.Read(b[:])
	return base64.StdEncoding.EncodeToString(b[:])
}

var _ http.Handler = (*Edge)(nil)
