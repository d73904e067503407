//go:build linux

package linux

import (
	"context"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mayflyhq/mayfly/internal/sandbox"
)

// waiting is a box in which a program runs already, with nothing of anybody's.
// The program has given up all rights, as any does; process 1 keeps its own
// until the box becomes an instance, since it has to mount the rest.
type waiting struct {
	*box
	ahead  sandbox.Ahead
	layers []layer
	conn   net.Conn // to the program
	proc   *proc
	in     *instance
}

// StartAhead starts a program that waits; see sandbox.Starter.
func (d *Driver) StartAhead(ctx context.Context, p sandbox.Ahead) (sandbox.Waiting, error) {
	if err := p.Check(); err != nil {
		return nil, err
	}
	d.mu.Lock()
	if d.closed {
		d.mu.Unlock()
		return nil, sandbox.ErrClosed
	}
	d.work.Add(1) // Close waits for us
	d.mu.Unlock()
	defer d.work.Done()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(d.ctx, cancel)()
	w, err := d.startAhead(ctx, p)
	if err != nil {
		return nil, fmt.Errorf("start %s ahead: %w", p.Path, err)
	}
	d.mu.Lock()
	closed := d.closed
	if !closed {
		d.waiting[w] = struct{}{}
	}
	d.mu.Unlock()
	if closed {
		w.end()
		return nil, sandbox.ErrClosed
	}
	return w, nil
}

func (d *Driver) startAhead(ctx context.Context, p sandbox.Ahead) (_ *waiting, err error) {
	var f furniture
	defer f.close()
	if err := d.furnish(&f, "", p.Mounts); err != nil {
		return nil, err
	}
	b, err := d.build(ctx, p.Network == sandbox.NetworkEgress && d.net.egress)
	if err != nil {
		return nil, err
	}
	w := &waiting{box: b, ahead: p, layers: layers(p.Mounts)}
	defer func() {
		if err != nil {
			w.end()
		}
	}()
	if _, err := b.ask(attachProgram(&f), nil); err != nil {
		return nil, err
	}
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("socketpair: %w", err)
	}
	ours := os.NewFile(uintptr(pair[0]), "ahead")
	w.conn, err = net.FileConn(ours)
	ours.Close()
	if err != nil {
		unix.Close(pair[1])
		return nil, err
	}
	w.proc, err = b.spawn(&spawn{
		Process: p.Process, files: fileLimit(sandbox.DefaultMaxFiles),
		ahead: true, users: b.users.fd, lastCap: d.lastCap, waits: pair[1],
	})
	unix.Close(pair[1]) // so that ours ends with the program
	if err != nil {
		return nil, err
	}
	if err := w.awaitReady(ctx); err != nil {
		return nil, err
	}
	return w, nil
}

// awaitReady reads the line that says that the program waits.
func (w *waiting) awaitReady(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() { w.conn.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	var line []byte
	for !slices.Contains(line, '\n') {
		buf := make([]byte, 64)
		n, err := w.conn.Read(buf)
		if err != nil || len(line) > 1<<10 {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			return fmt.Errorf("it did not say that it waits: %w", err)
		}
		line = append(line, buf[:n]...)
	}
	return nil
}

func (w *waiting) Done() <-chan struct{} { return w.proc.done }

// Create makes it an instance; see sandbox.Waiting.
func (w *waiting) Create(ctx context.Context, spec sandbox.Spec) (sandbox.Instance, error) {
	if !w.forget() {
		return nil, sandbox.ErrClosed
	}
	err := w.ahead.Adopts(spec)
	if err == nil {
		w.in, err = w.d.create(ctx, spec, w)
	} else {
		w.destroy()
	}
	if err != nil {
		w.conn.Close()
		return nil, err
	}
	return w.in, nil
}

// mountsOver separates what the box shows already from what it is to show, and
// notes in f what it is to show no longer.
func (w *waiting) mountsOver(want []sandbox.Mount, f *furniture) (missing []sandbox.Mount, err error) {
	kept := map[string]bool{}
	wanted := layers(want)
	for _, l := range w.layers {
		if slices.ContainsFunc(wanted, l.equal) {
			kept[l.target] = true
		} else {
			f.leave = append(f.leave, l.target)
		}
	}
	for _, m := range want {
		if kept[m.Target] {
			continue
		}
		for target := range kept {
			if strings.HasPrefix(target, m.Target+"/") || strings.HasPrefix(m.Target, target+"/") {
				return nil, fmt.Errorf("mount %s: %s is mounted already", m.Target, target)
			}
		}
		missing = append(missing, m)
	}
	slices.Reverse(f.leave) // the last is on top
	return missing, nil
}

func (l layer) equal(other layer) bool {
	return l.target == other.target && slices.Equal(l.sources, other.sources)
}

// Tell lets the program begin; see sandbox.Waiting. Process 1 has given up its
// rights by then.
func (w *waiting) Tell(message []byte) (sandbox.Proc, error) {
	defer w.conn.Close()
	err := w.in.use(func() error {
		if err := w.in.setFrozen(false); err != nil {
			return err
		}
		if _, err := w.await(w.in.furnished); err != nil {
			return err
		}
		_, err := w.conn.Write(message)
		return err
	})
	if err != nil {
		return nil, err
	}
	return w.proc, nil
}

// Close ends it; see sandbox.Waiting.
func (w *waiting) Close() error {
	if w.forget() {
		w.end()
	} else {
		w.conn.Close()
	}
	return nil
}

// forget takes it from the driver's list. It reports false if it is not there.
func (w *waiting) forget() bool {
	w.d.mu.Lock()
	defer w.d.mu.Unlock()
	_, ok := w.d.waiting[w]
	delete(w.d.waiting, w)
	return ok
}

// end kills what runs and gives the box back.
func (w *waiting) end() {
	if w.conn != nil {
		w.conn.Close()
	}
	w.destroy()
}
