//go:build unix

package sandbox

import (
	"io"
	"os"
	"syscall"
	"time"
)

// Output connects a process's standard output and error to a Process's
// writers: the shared half of every driver's Start.
type Output struct {
	Stdout, Stderr *os.File // what the child gets

	childEnds []*os.File // to close once the child has them
	readers   []*os.File
	copied    []chan struct{} // each closed at the end of a pipe
}

// drainGrace is how long the end of a process waits for the last of its output
// while something else holds the pipe open.
const drainGrace = 50 * time.Millisecond

// OpenOutput opens what is needed and starts to copy. Then CloseChildEnds must
// be called, and one of Drain (when the process ended) or Abandon (when it did
// not start).
func OpenOutput(stdout, stderr io.Writer) (*Output, error) {
	o := &Output{}
	var err error
	if o.Stdout, err = o.open(stdout); err != nil {
		o.CloseChildEnds()
		return nil, err
	}
	if stdout != nil && stdout == stderr {
		o.Stderr = o.Stdout
	} else if o.Stderr, err = o.open(stderr); err != nil {
		o.CloseChildEnds()
		o.Abandon()
		return nil, err
	}
	return o, nil
}

func (o *Output) open(w io.Writer) (*os.File, error) {
	if f, ok := w.(*os.File); ok {
		return f, nil
	}
	if w == nil {
		f, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
		if err == nil {
			o.childEnds = append(o.childEnds, f)
		}
		return f, err
	}
	pr, pw, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	done := make(chan struct{})
	o.childEnds = append(o.childEnds, pw)
	o.readers = append(o.readers, pr)
	o.copied = append(o.copied, done)
	go func() {
		defer close(done)
		defer pr.Close()
		buf := make([]byte, 4096)
		for {
			n, err := pr.Read(buf)
			if n > 0 {
				// A writer that fails does not stop the process: its
				// output is discarded, as AWS discards what logs refuse.
				w.Write(buf[:n])
				if n == len(buf) && n < 64<<10 {
					buf = make([]byte, 2*n)
				}
			}
			if err != nil {
				return
			}
		}
	}()
	return pw, nil
}

// CloseChildEnds closes our copies of what the child has.
func (o *Output) CloseChildEnds() {
	for _, f := range o.childEnds {
		f.Close()
	}
	o.childEnds = nil
}

// Abandon ends the copying at once.
func (o *Output) Abandon() {
	for _, f := range o.readers {
		f.Close()
	}
}

// Drain waits until the pipes are empty, but only a moment if a child of the
// process holds them open; that child's output is still copied afterwards.
func (o *Output) Drain() {
	if len(o.copied) == 0 {
		return
	}
	timer := time.NewTimer(drainGrace)
	defer timer.Stop()
	for _, done := range o.copied {
		select {
		case <-done:
		case <-timer.C:
			return
		}
	}
}

// ExitOf turns a wait status into an Exit.
func ExitOf(status syscall.WaitStatus, at time.Time) Exit {
	if status.Signaled() {
		return Exit{Code: -1, Signal: status.Signal(), At: at}
	}
	return Exit{Code: status.ExitStatus(), At: at}
}

// IsLocalName reports whether host is one of the names by which a sandbox's
// processes know themselves.
func IsLocalName(host string) bool {
	switch host {
	case "localhost", "sandbox", "sandbox.localdomain":
		return true
	}
	return false
}
