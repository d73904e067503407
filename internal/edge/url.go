package edge

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"runtime/debug"
	"strings"
	"time"

	"github.com/mayflyhq/mayfly/internal/aws/api/lambdaapi"
	"github.com/mayflyhq/mayfly/internal/aws/apierr"
	"github.com/mayflyhq/mayfly/internal/aws/protocol"
	"github.com/mayflyhq/mayfly/internal/aws/sigv4"
	"github.com/mayflyhq/mayfly/internal/call"
	"github.com/mayflyhq/mayfly/internal/lang/httpevent"
)

// FunctionURLs knows the URLs of functions. Its methods are called concurrently.
type FunctionURLs interface {
	// Find returns the URL with an id, or nil.
	Find(ctx context.Context, id string) (*FunctionURL, error)
}

// FunctionURL is one URL.
type FunctionURL struct {
	Region  string
	Signed  bool            // requests must be signed
	Streams bool            // the response is sent as it comes
	Cors    *lambdaapi.Cors // nil: the function sees to it

	// Invoke runs the function with an event for the principal of ctx. A principal that may not gets an *apierr.Error with status
	// 403.
	Invoke func(ctx context.Context, event []byte) (*URLResponse, error)
}

// URLResponse is what a function gave for a request.
type URLResponse struct {
	Payload     []byte
	ContentType string // as the runtime said it
	Failed      bool   // with an error of the function

	// Of a URL that Streams: Body is there instead of Payload if the response comes in a stream, and Prelude, if the response has
	// one, is JSON with status, headers and cookies. Close is called at the end if it is not nil.
	Body    io.Reader
	Prelude []byte
	Close   func() error
}

// urlPath is how function URLs are reached where their host names do not resolve: /_mayfly/url/ID/path.
const urlPath = "/_mayfly/url/"

// urlRequest is a request to a function URL.
type urlRequest struct {
	id     string
	domain string // host name of the URL
	path   string // as sent, without urlPath and id
	query  string // as sent
	region string // as the host name has it; may be empty
}

// isFunctionURL reports whether a request is to a function URL, by its path or by its host name, ID.lambda-url.REGION.anything.
func isFunctionURL(r *http.Request) bool {
	return isURLHost(r.Host) || strings.HasPrefix(r.URL.Path, urlPath)
}

// isURLHost reports whether a host is a function URL's, all of whose paths are the function's.
func isURLHost(host string) bool {
	id, rest, _ := strings.Cut(strings.ToLower(host), ".")
	return isURLID(id) && strings.HasPrefix(rest, "lambda-url.")
}

func isURLID(s string) bool {
	for i := range len(s) {
		if c := s[i]; (c < 'a' || c > 'z') && (c < '0' || c > '9') {
			return false
		}
	}
	return len(s) == 32
}

func newURLRequest(r *http.Request) (u urlRequest) {
	u.path, u.query = splitTarget(r)
	host := strings.ToLower(r.Host)
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	if rest, ok := strings.CutPrefix(u.path, urlPath); ok && !isURLHost(r.Host) {
		u.id, u.path, _ = strings.Cut(rest, "/")
		u.path = "/" + u.path
		return u
	}
	u.id, _, _ = strings.Cut(host, ".")
	u.domain = host
	_, rest, _ := strings.Cut(host, ".lambda-url.")
	u.region, _, _ = strings.Cut(rest, ".")
	return u
}

// serveURL answers a request to a function URL.
func (e *Edge) serveURL(w http.ResponseWriter, r *http.Request) {
	info := e.newInfo(r)
	w.Header().Set("X-Amzn-Requestid", info.RequestID)
	w.Header().Set("X-Amzn-Trace-Id", rootOf(&info.Trace, info.Time))
	began := false
	out := &begun{ResponseWriter: &patientWriter{w, http.NewResponseController(w)}, began: &began}
	defer func() {
		if p := recover(); p != nil {
			if p == http.ErrAbortHandler {
				panic(p)
			}
			e.opts.Log.Error("panic at a function URL", "requestId", info.RequestID, "cause", fmt.Sprintf("%v\n%s", p, debug.Stack()))
			if began {
				panic(http.ErrAbortHandler)
			}
			urlError(out, http.StatusInternalServerError, "", errBadGateway.Message)
		}
	}()
	err := e.answerURL(out, r, info)
	attrs := []slog.Attr{slog.String("method", r.Method), slog.String("host", r.Host), slog.String("path", r.URL.Path), slog.String("from", info.SourceIP),
		slog.String("principal", info.Principal.ARN), slog.String("requestId", info.RequestID), slog.Duration("took", time.Since(info.Time))}
	level := slog.LevelDebug
	if err != nil {
		ae := apierr.From(err)
		attrs = append(attrs, slog.String("code", ae.Code), slog.String("message", ae.Message))
		switch status := ae.HTTPStatus(); {
		case r.Context().Err() != nil:
		case status >= http.StatusInternalServerError && status != http.StatusBadGateway:
			level = slog.LevelError
			attrs = append(attrs, slog.Any("cause", ae.Cause))
		case status == http.StatusForbidden:
			level = slog.LevelInfo
		}
		e.opts.Log.LogAttrs(r.Context(), level, "function URL refused", attrs...)
		if began { // so that the client does not take it for whole
			panic(http.ErrAbortHandler)
		}
		status, message := urlMessage(ae)
		urlError(out, status, ae.Code, message)
		return
	}
	e.opts.Log.LogAttrs(r.Context(), level, "function URL", attrs...)
}

// begun notes that a response has begun.
type begun struct {
	http.ResponseWriter
	began *bool
}

func (b *begun) WriteHeader(status int) {
	*b.began = true
	b.ResponseWriter.WriteHeader(status)
}

func (b *begun) Flush() { b.ResponseWriter.(http.Flusher).Flush() }

// rootOf gives a request without a trace one, and returns its root.
func rootOf(trace *string, now time.Time) string {
	if !strings.Contains(*trace, "Root=") {
		*trace = call.NewTrace(now)
	}
	root, _, _ := strings.Cut((*trace)[strings.Index(*trace, "Root="):], ";")
	return root
}

var errForbidden = apierr.New("AccessDeniedException", http.StatusForbidden, "Forbidden")
var errBadGateway = apierr.New("BadGateway", http.StatusBadGateway, "Internal Server Error")

// urlMessage is what the client is told of an error.
func urlMessage(e *apierr.Error) (status int, message string) {
	switch status = e.HTTPStatus(); {
	case status == http.StatusForbidden && strings.HasPrefix(e.Code, "AccessDenied"):
		return status, errForbidden.Message
	case status == http.StatusBadGateway, e.Code == "FunctionError":
		return http.StatusBadGateway, errBadGateway.Message
	case status == http.StatusServiceUnavailable, status < http.StatusInternalServerError:
		return status, e.Message
	}
	return http.StatusInternalServerError, errBadGateway.Message
}

// urlError writes an error. Its code is told in a header, as by the API, if it is the client's.
func urlError(w http.ResponseWriter, status int, code, message string) {
	h := w.Header()
	if status >= http.StatusInternalServerError && message == errBadGateway.Message {
		h.Set("Content-Type", "text/plain")
		w.WriteHeader(status)
		io.WriteString(w, message)
		return
	}
	h.Set("Content-Type", "application/json")
	h.Set("X-Amzn-Errortype", code)
	w.WriteHeader(status)
	b, _ := json.Marshal(struct{ Message string }{message})
	w.Write(b)
}

// answerURL writes the answer, or returns the error that is one.
func (e *Edge) answerURL(w http.ResponseWriter, r *http.Request, info *call.Info) error {
	req := newURLRequest(r)
	if e.opts.URLs == nil || !isURLID(req.id) {
		return errForbidden
	}
	u, err := e.opts.URLs.Find(r.Context(), req.id)
	if err != nil {
		return err
	}
	if u == nil || req.region != "" && req.region != u.Region {
		return errForbidden
	}
	if req.domain == "" {
		req.domain = req.id + ".lambda-url." + u.Region + ".localhost"
	}
	cross := newCrossOrigin(u.Cors, r)
	if u.Cors != nil && cross.preflight {
		cross.answer(w.Header())
		w.WriteHeader(http.StatusOK)
		return nil
	}
	cross.mark(w.Header())
	if u.Signed && e.opts.Dev && cross.foreign && !cross.allowed {
		return errForbidden // any signature will do, so that a page which may not must not send one
	}
	event, err := e.urlEvent(w, r, info, u, &req)
	if err != nil {
		return err
	}
	res, err := u.Invoke(call.With(r.Context(), info), event)
	if err != nil {
		return err
	}
	if res.Close != nil {
		defer res.Close()
	}
	switch {
	case res.Failed:
		return errBadGateway
	case u.Streams:
		return e.sendStream(w, r, res, cross)
	}
	out, err := httpevent.ParseResponse(res.Payload)
	if err != nil {
		return apierr.New("BadGateway", http.StatusBadGateway, "Internal Server Error").Because(err)
	}
	writeHead(w.Header(), out, cross)
	w.WriteHeader(out.Status)
	if hasBody(r, out.Status) {
		_, err = w.Write(out.Body)
	}
	if err != nil {
		return fmt.Errorf("response broken off: %w", err)
	}
	return nil
}

// urlEvent reads and authenticates a request, and makes the event of it.
func (e *Edge) urlEvent(w http.ResponseWriter, r *http.Request, info *call.Info, u *FunctionURL, req *urlRequest) ([]byte, error) {
	var sig sigv4.Signature
	var secret string
	info.Region = u.Region
	if !u.Signed {
		info.Account = "" // nobody's
	} else {
		var err error
		if sig, err = sigv4.Parse(r); isMissing(err) {
			return nil, errForbidden
		}
		info.Region = sig.Region
		secret, err = e.authenticate(r, info, &sig, err)
		info.Region = u.Region
		if err != nil {
			return nil, urlAuthError(err)
		}
		if !e.opts.Dev {
			rules := sigv4.RulesFor("lambda")
			rules.Region = u.Region
			if err := sig.Check(info.Time, rules); err != nil {
				return nil, urlAuthError(err)
			}
		}
	}
	body := requestBody{e: e, w: w, r: r, sig: &sig, secret: secret}
	defer body.release()
	if err := body.read(entityTooLarge(maxInvokePayload, "InvokeFunction")); err != nil {
		return nil, err
	}
	if secret != "" {
		if err := e.verifier.Verify(r, &sig, secret, body.raw); err != nil {
			return nil, urlAuthError(err)
		}
	}
	in := httpevent.Request{
		Method: r.Method, RawPath: req.path, RawQuery: req.query, Protocol: r.Proto, Header: maps.Clone(r.Header), Body: body.raw,
		URLID: req.id, DomainName: req.domain, SourceIP: info.SourceIP, UserAgent: info.UserAgent, RequestID: info.RequestID, Time: info.Time,
	}
	_, port, _ := net.SplitHostPort(r.Host)
	if port == "" {
		port = "80"
	}
	in.Header["Host"] = []string{r.Host}
	in.Header["X-Forwarded-For"] = append(r.Header.Values("X-Forwarded-For")[:0:0], append(r.Header.Values("X-Forwarded-For"), info.SourceIP)...)
	in.Header["X-Forwarded-Port"] = []string{port}
	in.Header["X-Forwarded-Proto"] = []string{"http"}
	in.Header["X-Amzn-Trace-Id"] = []string{info.Trace}
	if len(body.raw) > 0 && r.Header.Get("Content-Length") == "" {
		in.Header["Content-Length"] = []string{fmt.Sprint(len(body.raw))}
	}
	delete(in.Header, "Connection")
	if p := &info.Principal; u.Signed {
		in.Account = info.Account
		in.IAM = &httpevent.IAM{AccessKey: p.AccessKeyID, AccountID: info.Account, CallerID: p.UserID, UserARN: p.ARN, UserID: p.UserID}
	}
	return in.Event(), nil
}

// urlAuthError is a signature's fault, in the words of REST services and with their status.
func urlAuthError(err error) error {
	ae := protocolError(&protocol.Call{Codec: restCodecs[0]}, err)
	return ae
}

// sendStream sends what comes as it comes: after a prelude with status and headers, if the content type says that there is one.
func (e *Edge) sendStream(w http.ResponseWriter, r *http.Request, res *URLResponse, cross *crossOrigin) error {
	body := res.Body
	if body == nil {
		body = bytes.NewReader(res.Payload)
	}
	out := &httpevent.Response{Status: http.StatusOK, Headers: map[string]string{"Content-Type": "application/octet-stream"}}
	if res.ContentType != "" {
		out.Headers["Content-Type"] = res.ContentType
	}
	if res.Prelude != nil {
		var err error
		if out, err = httpevent.ParsePrelude(res.Prelude); err != nil {
			return apierr.New("BadGateway", http.StatusBadGateway, "Internal Server Error").Because(err)
		}
	}
	begun := false
	begin := func() {
		begun = true
		writeHead(w.Header(), out, cross)
		w.WriteHeader(out.Status)
	}
	if res.Prelude != nil { // the client may want to see it long before there is a body
		begin()
		w.(http.Flusher).Flush()
	}
	buf := make([]byte, 32<<10)
	for {
		n, err := body.Read(buf)
		if !begun && err != nil && err != io.EOF { // what fails before its first byte can still say so
			return apierr.New("BadGateway", http.StatusBadGateway, "Internal Server Error").Because(err)
		}
		if !begun && (n > 0 || err == io.EOF) {
			begin()
		}
		if n > 0 && hasBody(r, out.Status) {
			if _, werr := w.Write(buf[:n]); werr != nil {
				return fmt.Errorf("response broken off: %w", werr)
			}
			w.(http.Flusher).Flush()
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return apierr.New("BadGateway", http.StatusBadGateway, "the function failed in the midst of its response").Because(err)
		}
	}
}

// hasBody reports whether HTTP lets the response have a body; what the function gave is left out where not.
func hasBody(r *http.Request, status int) bool {
	return r.Method != http.MethodHead && status != http.StatusNoContent && status != http.StatusNotModified
}

// writeHead sets the headers of a function's response. Those that are the server's own come under another name, as on AWS, or not
// at all.
func writeHead(h http.Header, out *httpevent.Response, cross *crossOrigin) {
	for name, value := range out.Headers {
		switch http.CanonicalHeaderKey(name) {
		case "Connection", "Content-Length", "Date", "Server":
			h.Set("X-Amzn-Remapped-"+http.CanonicalHeaderKey(name), value)
		case "Transfer-Encoding", "Keep-Alive", "Upgrade", "Trailer", "Te", "Proxy-Connection", "X-Amzn-Requestid", "X-Amzn-Trace-Id":
		default:
			h.Set(name, value)
		}
	}
	for _, c := range out.Cookies {
		h.Add("Set-Cookie", c)
	}
	cross.mark(h)
}
