// Package gate is the one path of every API call, whether it came over the network or from another part of Mayfly: it
// refuses who may not call, validates the input against the operation's model, runs the handler, and turns whatever
// goes wrong into a coded error and one line of the log.
//
// Who calls is in the context (package call): the edge has verified it, an engine says it for itself with
// call.AsService. A context without it is anonymous and gets nowhere.
package gate

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"runtime/debug"
	"time"

	"github.com/mayflyhq/mayfly/internal/aws/apierr"
	"github.com/mayflyhq/mayfly/internal/aws/smithy"
	"github.com/mayflyhq/mayfly/internal/call"
)

// Authorizer decides whether a call may be made.
type Authorizer interface {
	// Authorize returns nil if the principal of ctx may perform op with in, a pointer to the operation's validated input,
	// and an *apierr.Error that says why not otherwise. It is called concurrently and on every call, before the handler.
	Authorize(ctx context.Context, op *smithy.OpInfo, in any) error
}

// Authenticated is the Authorizer that lets every authenticated principal do everything.
type Authenticated struct{}

// Authorize implements Authorizer.
func (Authenticated) Authorize(context.Context, *smithy.OpInfo, any) error { return nil }

// Gate is a smithy.Caller in front of the handlers of a Mux. Its methods may be called concurrently.
type Gate struct {
	mux  *smithy.Mux
	auth Authorizer
	log  *slog.Logger
}

// New returns a gate in front of mux.
func New(mux *smithy.Mux, auth Authorizer, log *slog.Logger) *Gate {
	return &Gate{mux: mux, auth: auth, log: log}
}

// Call performs op for the principal of ctx. It implements smithy.Caller; its errors are *apierr.Error. A handler's panic
// is an InternalFailure.
func (g *Gate) Call(ctx context.Context, op *smithy.OpInfo, in, out any) error {
	start := time.Now()
	if err := apierr.From(g.admit(ctx, op, in, out)); err != nil {
		g.failed(ctx, op, err, time.Since(start))
		return err
	}
	if g.log.Enabled(ctx, slog.LevelDebug) {
		g.log.LogAttrs(ctx, slog.LevelDebug, "call", attrs(ctx, op, time.Since(start))...)
	}
	return nil
}

func (g *Gate) admit(ctx context.Context, op *smithy.OpInfo, in, out any) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if call.From(ctx).Principal.Type == call.Anonymous && !op.NoAuth {
		return apierr.New("AccessDeniedException", http.StatusForbidden, "Unable to determine who performs %s.", op.Action())
	}
	if !g.mux.Served(op) {
		return smithy.NotImplemented(op)
	}
	if err := g.mux.Validate(op, in); err != nil {
		return err
	}
	if err := g.auth.Authorize(ctx, op, in); err != nil {
		return err
	}
	return g.run(ctx, op, in, out)
}

func (g *Gate) run(ctx context.Context, op *smithy.OpInfo, in, out any) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v\n%s", p, debug.Stack())
		}
	}()
	return g.mux.Call(ctx, op, in, out)
}

// failed logs one line: our failures with their cause; what was refused or is not served as information; other mistakes of the caller,
// who is told of them, when debugging only.
func (g *Gate) failed(ctx context.Context, op *smithy.OpInfo, err *apierr.Error, took time.Duration) {
	level := slog.LevelDebug
	switch status := err.HTTPStatus(); {
	case ctx.Err() != nil: // the caller went away
	case status == http.StatusForbidden || status == http.StatusUnauthorized || status == http.StatusNotImplemented || err.Code == "AccessDeniedException":
		level = slog.LevelInfo
	case status >= http.StatusInternalServerError:
		level = slog.LevelError
	}
	if !g.log.Enabled(ctx, level) {
		return
	}
	a := append(attrs(ctx, op, took), slog.String("code", err.Code), slog.String("message", err.Message))
	if err.Cause != nil {
		a = append(a, slog.String("cause", err.Cause.Error()))
	}
	g.log.LogAttrs(ctx, level, "call failed", a...)
}

func attrs(ctx context.Context, op *smithy.OpInfo, took time.Duration) []slog.Attr {
	i := call.From(ctx)
	return []slog.Attr{
		slog.String("action", op.Action()),
		slog.String("principal", i.Principal.ARN),
		slog.String("region", i.Region),
		slog.String("requestId", i.RequestID),
		slog.Duration("took", took),
	}
}

var _ smithy.Caller = (*Gate)(nil)
