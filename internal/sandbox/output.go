//go:build unix

package sandbox

import (
	"errors"
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
	copiers   []*copier
}

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
	c := &copier{from: pr, to: w, drained: make(chan struct{})}
	o.childEnds = append(o.childEnds, pw)
	o.copiers = append(o.copiers, c)
	go c.run()
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
	for _, c := range o.copiers {
		c.from.Close()
	}
}

// Drain returns when everything that the process had written when it ended was
// handed on. A child of it may hold the pipe open; its output is still copied
// afterwards.
func (o *Output) Drain() {
	for _, c := range o.copiers {
		c.from.SetReadDeadline(time.Unix(1, 0)) // wakes run up; fails if it has ended
	}
	for _, c := range o.copiers {
		<-c.drained
	}
}

// copier hands on what comes out of a pipe.
type copier struct {
	from    *os.File
	to      io.Writer
	drained chan struct{} // closed when a drain or the pipe came to its end
	ended   bool          // drained is closed
}

func (c *copier) end() {
	if !c.ended {
		c.ended = true
		close(c.drained)
	}
}

func (c *copier) run() {
	defer c.end()
	defer c.from.Close()
	buf := make([]byte, 4096)
	for {
		n, err := c.from.Read(buf)
		if n > 0 {
			// A writer that fails does not stop the process: its output is
			// discarded.
			c.to.Write(buf[:n])
			if n == len(buf) && n < 64<<10 {
				buf = make([]byte, 2*n)
			}
		}
		switch {
		case err == nil:
		case errors.Is(err, os.ErrDeadlineExceeded):
			c.from.SetReadDeadline(time.Time{})
			if !c.drain(buf) {
				return
			}
			c.end()
		default:
			return
		}
	}
}

// drain reads until the pipe is empty, or held more than a pipe can hold if
// something else writes on. It reports whether the pipe is still open.
func (c *copier) drain(buf []byte) bool {
	raw, err := c.from.SyscallConn()
	if err != nil {
		return false
	}
	for total := 0; total < 1<<20; {
		var n int
		var readErr error
		err := raw.Read(func(fd uintptr) bool {
			n, readErr = syscall.Read(int(fd), buf)
			return true
		})
		switch {
		case err != nil:
			return false
		case readErr == syscall.EINTR:
		case readErr == syscall.EAGAIN:
			return true
		case readErr != nil || n == 0:
			return false
		default:
			c.to.Write(buf[:n])
			total += n
		}
	}
	return true
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
