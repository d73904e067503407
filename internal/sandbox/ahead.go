package sandbox

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
)

// Starter is a Driver that can start a program in a sandbox before it is known
// what for: an interpreter, whose start then costs nobody time.
type Starter interface {
	Driver

	// StartAhead makes a sandbox that belongs to nobody yet and starts p in it
	// as Instance.Start would: as the same user, with the same rights and
	// limits of descriptors. It returns when the program has written a line to
	// its descriptor AheadFD, a stream socket, which says that it waits there.
	// ctx bounds that.
	StartAhead(ctx context.Context, p Ahead) (Waiting, error)
}

// AheadFD is the descriptor on which a program that is started ahead waits.
const AheadFD = 3

// Ahead is a program to start ahead. What it prints before it is told
// anything goes where all goes that it prints.
type Ahead struct {
	Process
	Mounts  []Mount // what it needs to start
	Network Network
}

// Waiting is a sandbox with a program that waits. It becomes one Instance, or
// none. Create, Tell and Close are not called concurrently.
type Waiting interface {
	// Done is closed when the program has ended.
	Done() <-chan struct{}

	// Create makes the sandbox an instance of spec, as Driver.Create would, and
	// may be called once. The program sees spec's mounts then and, of those
	// that it was started with, only the ones that are spec's too. spec's
	// Network must be that of the Ahead, its Root empty and its MaxFiles the
	// default. When it fails, the sandbox is closed.
	Create(ctx context.Context, spec Spec) (Instance, error)

	// Tell writes message to the descriptor on which the program waits, and
	// closes that. It may be called once, after Create; the program is a
	// process of the instance from then on. An error means that it has ended,
	// or that the instance was closed.
	Tell(message []byte) (Proc, error)

	// Close ends the sandbox; after Create only the program, by the end of its
	// descriptor; after Tell nothing.
	Close() error
}

// Check says what a driver cannot start ahead.
func (p Ahead) Check() error {
	if !filepath.IsAbs(p.Path) {
		return fmt.Errorf("sandbox: path %q is not absolute", p.Path)
	}
	_, err := Spec{ID: "ahead", Mounts: p.Mounts, Network: p.Network}.WithDefaults()
	return err
}

// Adopts says why a sandbox in which p waits cannot become one of spec.
func (p Ahead) Adopts(spec Spec) error {
	switch {
	case spec.Root != "":
		return errors.New("a program that was started ahead has a root already")
	case spec.Network != p.Network:
		return errors.New("a program that was started ahead has another network")
	case spec.MaxFiles != 0 && spec.MaxFiles != DefaultMaxFiles:
		return errors.New("a program that was started ahead has the default limit of descriptors")
	}
	return nil
}
