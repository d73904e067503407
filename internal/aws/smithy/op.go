package smithy

import (
	"context"
	"fmt"
	"iter"
	"net/http"

	"github.com/mayflyhq/mayfly/internal/aws/apierr"
)

// Op is an operation as a value, with the Go types of its input and output.
type Op[In, Out any] struct{ Info *OpInfo }

// Caller performs operations: a Mux in the same process, a gate in front of it, or a client over HTTP. in and
// out point to the operation's input and output types; out is filled only if the error is nil. Errors that the
// operation answers are *apierr.Error. Callers are safe for concurrent use.
type Caller interface {
	Call(ctx context.Context, op *OpInfo, in, out any) error
}

// Call performs the operation through c.
func (o Op[In, Out]) Call(ctx context.Context, c Caller, in *In) (*Out, error) {
	out := new(Out)
	if err := c.Call(ctx, o.Info, in, out); err != nil {
		return nil, err
	}
	return out, nil
}

// Handle makes f the operation's handler in m. It panics if the operation has one already. A handler may return a nil output
// for an empty one. Options change how the input is validated before it.
func (o Op[In, Out]) Handle(m *Mux, f func(context.Context, *In) (*Out, error), opts ...Option) {
	h := &handler{call: func(ctx context.Context, in, out any) error {
		res, err := f(ctx, in.(*In))
		if err == nil && res != nil {
			*out.(*Out) = *res
		}
		return err
	}}
	for _, opt := range opts {
		opt(h)
	}
	if m.handlers[o.Info] != nil {
		panic(fmt.Sprintf("smithy: %s has a handler already", o.Info))
	}
	m.handlers[o.Info] = h
}

// Option is an option of Op.Handle.
type Option func(*handler)

// Unchecked leaves the constraints at the given places to the handler, which then owns the rule and its words. A place is the path
// of a member as messages print it, with * for list elements and map keys or values: "functionName", "tags.*.key".
// What lies below the place is unchecked too.
func Unchecked(paths ...string) Option {
	return func(h *handler) {
		if h.unchecked == nil {
			h.unchecked = map[string]bool{}
		}
		for _, p := range paths {
			h.unchecked[p] = true
		}
	}
}

type handler struct {
	call      func(ctx context.Context, in, out any) error
	unchecked map[string]bool
}

// Mux holds the handlers of operations of any number of services. All Handle calls come before the first Call;
// after that it is safe for concurrent use.
type Mux struct{ handlers map[*OpInfo]*handler }

// NewMux returns an empty Mux.
func NewMux() *Mux { return &Mux{handlers: map[*OpInfo]*handler{}} }

// Call runs the operation's handler. It does not validate: see Validate. An operation without a handler answers NotImplemented.
func (m *Mux) Call(ctx context.Context, op *OpInfo, in, out any) error {
	h := m.handlers[op]
	if h == nil {
		return NotImplemented(op)
	}
	return h.call(ctx, in, out)
}

// Validate checks in against the constraints of the operation's model, except where its handler opted out, and
// returns nil or an *apierr.Error in AWS's words.
func (m *Mux) Validate(op *OpInfo, in any) error {
	var unchecked map[string]bool
	if h := m.handlers[op]; h != nil {
		unchecked = h.unchecked
	}
	return validate(op, in, unchecked)
}

// Served reports whether the operation has a handler.
func (m *Mux) Served(op *OpInfo) bool { return m.handlers[op] != nil }

// Coverage lists the operations of svc by name, each with whether m serves it.
func (m *Mux) Coverage(svc *Service) iter.Seq2[*OpInfo, bool] {
	return func(yield func(*OpInfo, bool) bool) {
		for i := range svc.Ops {
			if op := &svc.Ops[i]; !yield(op, m.Served(op)) {
				return
			}
		}
	}
}

// NotImplemented is the answer of an operation that AWS has and we do not serve. The status is 501, which no AWS SDK retries.
func NotImplemented(op *OpInfo) *apierr.Error {
	return apierr.New("NotImplemented", http.StatusNotImplemented, "Mayfly does not serve %s yet.", op.Action())
}
