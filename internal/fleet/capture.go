package fleet

import (
	"os"
	"sync"
	"syscall"
	"time"
)

// capture reads what a process prints through a pipe of our own. Unlike a plain copying goroutine it can be drained:
// after drain, everything that was printed before has been cut into events, so that the END line comes behind the
// function's last line.
type capture struct {
	r, w *os.File
	raw  syscall.RawConn

	mu  sync.Mutex // serialises reading and cutting
	out output
	eof bool
}

// pipeSize is what a pipe holds. Whoever has read as much has read everything that was in it when he began.
const pipeSize = 64 << 10

const readSize = 16 << 10

// readBuffers are shared by all captures: each needs one for a moment after every invocation.
var readBuffers = sync.Pool{New: func() any { return new([readSize]byte) }}

// newCapture opens the pipe. The process gets w; started must be called once it has it.
func newCapture(emit func(at time.Time, message []byte)) (*capture, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	raw, err := r.SyscallConn()
	if err != nil {
		r.Close()
		w.Close()
		return nil, err
	}
	return &capture{r: r, w: w, raw: raw, out: output{emit: emit, now: time.Now}}, nil
}

// started closes our copy of the writing end and reads in the background until every process that holds it is gone.
func (c *capture) started() {
	c.w.Close() // of a process that was started ahead it is closed already
	go func() {
		defer c.r.Close()
		// The poller calls back when there is something to read; returning false waits for more.
		c.raw.Read(func(fd uintptr) bool {
			for {
				if empty, eof := c.readSome(fd); empty || eof {
					return eof
				}
			}
		})
	}()
}

// readSome reads a little and lets drain have its turn: a process may print without end.
func (c *capture) readSome(fd uintptr) (empty, eof bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	empty = c.readLocked(fd, 1)
	if c.eof {
		c.out.Flush()
	}
	return empty, c.eof
}

// abandon is for a process that was not started, or will not be read.
func (c *capture) abandon() {
	c.w.Close()
	c.r.Close()
}

// drain cuts everything that was printed until now, an unfinished line too. A framed record that is not whole stays for
// later, unless this is the end.
func (c *capture) drain(end bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.eof {
		c.raw.Control(func(fd uintptr) { c.readLocked(fd, pipeSize) }) // an error means that the reader closed the pipe at its end
	}
	if end {
		c.out.Flush()
	} else {
		c.out.EndLine()
	}
}

// readLocked reads until it has least bytes or the pipe is empty, which it reports.
func (c *capture) readLocked(fd uintptr, least int) (empty bool) {
	buf := readBuffers.Get().(*[readSize]byte) // idle environments hold none
	defer readBuffers.Put(buf)
	for read := 0; read < least; {
		n, err := syscall.Read(int(fd), buf[:])
		switch {
		case err == syscall.EINTR:
		case err == syscall.EAGAIN:
			return true
		case err != nil || n == 0:
			c.eof = true
			return false
		default:
			c.out.Write(buf[:n])
			read += n
		}
	}
	return false
}
