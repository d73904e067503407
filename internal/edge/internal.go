package edge

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"runtime/debug"
	"slices"
	"time"

	"github.com/mayflyhq/mayfly/internal/aws/apierr"
	"github.com/mayflyhq/mayfly/internal/aws/protocol"
	"github.com/mayflyhq/mayfly/internal/aws/sigv4"
	"github.com/mayflyhq/mayfly/internal/call"
	"github.com/mayflyhq/mayfly/internal/credential"
)

// SigningName is the service in the credential scope of requests to Mayfly's own endpoints.
const SigningName = "mayfly"

// Access says who may use an internal endpoint.
type Access int

const (
	// RootOnly is for requests that the account's root user signed for the service SigningName.
	RootOnly Access = iota
	// Presigned is for URLs that a Presigner made.
	Presigned
	// Open is for everyone who can connect, sandboxes excepted.
	Open
)

// Internal is an endpoint of Mayfly's own. The handler finds the caller in the context (package call); bodies are
// limited to 1 MiB.
type Internal struct {
	Access  Access
	Handler http.Handler
}

// maxInternalBody limits the bodies of internal endpoints.
const maxInternalBody = 1 << 20

func (e *Edge) internalMux() *http.ServeMux {
	m := http.NewServeMux()
	for pattern, in := range e.opts.Internal {
		m.Handle(pattern, e.guarded(in))
	}
	if e.opts.Reset != nil {
		m.Handle("POST /_mayfly/reset", e.guarded(Internal{RootOnly, http.HandlerFunc(e.reset)}))
	}
	m.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		writeError(w, apierr.New("UnknownOperationException", http.StatusNotFound, "Mayfly has no %s %s.", r.Method, r.URL.Path))
	})
	return m
}

// guarded lets through to an internal endpoint only whom its Access says.
func (e *Edge) guarded(in Internal) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		info := e.newInfo(r)
		info.Region = e.opts.Root.Region
		r.Body = http.MaxBytesReader(w, r.Body, maxInternalBody)
		if err := e.admit(w, r, in.Access, info); err != nil {
			writeError(w, err)
			return
		}
		w.Header().Set("X-Amzn-Requestid", info.RequestID)
		defer func() {
			if p := recover(); p != nil && p != http.ErrAbortHandler {
				e.opts.Log.Error("panic in an internal endpoint", "path", r.URL.Path, "requestId", info.RequestID, "cause", fmt.Sprintf("%v\n%s", p, debug.Stack()))
				panic(http.ErrAbortHandler) // closes the connection
			}
		}()
		in.Handler.ServeHTTP(w, r.WithContext(call.With(r.Context(), info)))
	})
}

func (e *Edge) admit(w http.ResponseWriter, r *http.Request, access Access, info *call.Info) *apierr.Error {
	if fromSandbox(r.Context()) && access != Presigned {
		return apierr.New("AccessDeniedException", http.StatusForbidden, "Functions may not use %s.", r.URL.Path)
	}
	if access == Open {
		return nil
	}
	sig, err := sigv4.Parse(r)
	if e.opts.Dev && access == RootOnly {
		e.authenticateDev(r, info, &sig)
		return nil
	}
	c := &protocol.Call{Codec: restCodecs[0], Request: protocol.NewRequest(r)}
	if err != nil {
		return protocolError(c, err)
	}
	if sig.Presigned != (access == Presigned) || sig.Presigned && sig.Expires == 0 {
		return protocolError(c, &sigv4.Error{Kind: sigv4.Missing, Message: "Missing Authentication Token"})
	}
	rules := sigv4.RulesFor(SigningName)
	if regionForm(sig.Region) { // these endpoints are of no region, and clients sign for theirs
		info.Region = sig.Region
	} else {
		rules.Region = e.opts.Root.Region
	}
	if err := sig.Check(info.Time, rules); err != nil {
		return protocolError(c, err)
	}
	key, err := e.opts.Keys.Find(r.Context(), sig.AccessKeyID, sig.SessionToken)
	if err != nil {
		return protocolError(c, err)
	}
	if key.Principal.Type != call.Root {
		return apierr.New("AccessDeniedException", http.StatusForbidden, "User: %s is not authorized to use %s: only the root user is.", key.Principal.ARN, r.URL.Path)
	}
	body := requestBody{e: e, w: w, r: r, sig: &sig}
	defer body.release()
	if err := body.read(entityTooLarge(maxInternalBody, r.URL.Path)); err != nil {
		return protocolError(c, err)
	}
	if err := e.verifier.Verify(r, &sig, key.Secret, body.raw); err != nil {
		return protocolError(c, err)
	}
	r.Body = newStream(body.raw)
	info.Account, info.Principal = key.Account, key.Principal
	return nil
}

// health answers in every state, and with 200 only when calls are served.
func (e *Edge) health(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		writeError(w, apierr.New("MethodNotAllowed", http.StatusMethodNotAllowed, "GET is allowed."))
		return
	}
	status := e.currentStatus()
	services := []string{}
	for _, s := range e.opts.Services {
		services = append(services, s.Name)
	}
	slices.Sort(services)
	code := http.StatusOK
	if status != running {
		code = http.StatusServiceUnavailable
	}
	writeJSON(w, code, map[string]any{"status": status, "version": e.opts.Version, "services": services})
}

func (e *Edge) reset(w http.ResponseWriter, r *http.Request) {
	if err := e.opts.Reset(r.Context()); err != nil {
		e.opts.Log.Error("reset failed", "cause", err)
		writeError(w, apierr.From(err))
		return
	}
	writeJSON(w, http.StatusOK, map[string]any{"status": "reset"})
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(v)
}

func writeError(w http.ResponseWriter, e *apierr.Error) {
	w.Header().Set("X-Amzn-Errortype", e.Code)
	w.Header().Set("X-Amzn-Requestid", call.NewRequestID())
	writeJSON(w, e.HTTPStatus(), map[string]string{"message": e.Message})
}

// Presigner makes URLs to internal endpoints with Access Presigned: whoever has one may GET it, for a time.
type Presigner struct {
	Root *credential.Root
	Addr string // host and port for calls that came from inside
}

// URL returns the URL of a path under /_mayfly/ on the host that the caller of ctx used. The path is already escaped and
// may have a query. It holds for the given time, at most a week.
func (p Presigner) URL(ctx context.Context, path string, holds time.Duration) (string, error) {
	host := call.From(ctx).Host
	if host == "" {
		host = p.Addr
	}
	u, err := url.Parse("http://" + host + path)
	if err != nil {
		return "", err
	}
	c := sigv4.Credentials{AccessKeyID: p.Root.AccessKeyID, SecretAccessKey: p.Root.SecretAccessKey}
	return sigv4.Presign(&http.Request{Method: http.MethodGet, URL: u, Host: host}, c, SigningName, p.Root.Region, sigv4.EmptyPayload, time.Now(), holds), nil
}
