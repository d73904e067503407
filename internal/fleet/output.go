package fleet

import (
	"bytes"
	"encoding/binary"
	"time"
)

// maxEvent is the size of the largest log event; longer lines go on in another event.
const maxEvent = 256 << 10

// frameMagic opens a framed record of the telemetry log protocol. Its first byte cannot open a UTF-8 character, so text
// is never taken for a frame. Of the low 16 bits, some carry level and format, which the records themselves repeat.
const (
	frameMagic  = 0xa55a0000
	frameHeader = 16      // type, length, microseconds since the epoch
	maxFrame    = 2 << 20 // what claims to be longer is not a frame: no client writes such a record
)

// output cuts what the processes of an environment print into log events: one a line, or one a frame where the
// runtime's client frames its records, as the clients of the managed runtimes do so that a stack trace stays one event.
// One goroutine at a time may write.
type output struct {
	emit func(at time.Time, message []byte) // may block to slow the function down; message is valid during the call
	now  func() time.Time
	buf  []byte
}

// Write takes what a process printed. It never fails: there is nobody to tell.
func (o *output) Write(p []byte) (int, error) {
	n := len(p)
	if len(o.buf) > 0 {
		o.buf = append(o.buf, p...)
		p = o.buf
	}
	rest := o.cut(p)
	if len(rest) > 0 && cap(o.buf) > 0 && len(o.buf) > 0 {
		o.buf = o.buf[:copy(o.buf, rest)]
	} else {
		o.buf = append(o.buf[:0], rest...)
	}
	if cap(o.buf) > 4<<10 && len(o.buf) == 0 {
		o.buf = nil // a burst must not stay with an idle environment
	}
	return n, nil
}

// EndLine emits an unfinished line, so that it does not run into what the next invocation prints. A record whose frame is
// not whole stays: the rest is on its way.
func (o *output) EndLine() {
	if len(o.buf) > 0 && (o.buf[0] != frameMagic>>24 || frameAt(o.buf) == noFrame) {
		o.Flush()
	}
}

// Flush emits whatever is left.
func (o *output) Flush() {
	if len(o.buf) > 0 {
		o.emit(o.now(), o.buf)
		o.buf = nil
	}
}

// cut emits every whole event of p and returns what is not yet one.
func (o *output) cut(p []byte) (rest []byte) {
	for len(p) > 0 {
		line := bytes.IndexByte(p, '\n')
		if line < 0 || line > maxEvent {
			line = min(len(p), maxEvent)
		}
		// A frame may begin in the middle of a line, where somebody printed without a newline before it.
		begin, state := findFrame(p, line)
		switch {
		case state != noFrame && begin > 0 && state != maybeFrame:
			o.emit(o.now(), p[:begin])
			p = p[begin:]
		case state == wholeFrame:
			size := frameHeader + int(binary.BigEndian.Uint32(p[4:]))
			o.emit(time.UnixMicro(int64(binary.BigEndian.Uint64(p[8:]))), p[frameHeader:size])
			p = p[size:]
		case state != noFrame && len(p) < begin+frameHeader+maxFrame:
			return p
		case line < len(p) && p[line] == '\n':
			o.emit(o.now(), p[:line+1])
			p = p[line+1:]
		case line == maxEvent:
			o.emit(o.now(), p[:line])
			p = p[line:]
		default:
			return p
		}
	}
	return nil
}

type frameState int

const (
	noFrame    frameState = iota
	maybeFrame            // the header is not whole
	openFrame             // the message is not whole
	wholeFrame
)

// findFrame looks for the first frame that begins in p[:end+1].
func findFrame(p []byte, end int) (begin int, state frameState) {
	for end = min(end+1, len(p)); begin < end; begin++ {
		i := bytes.IndexByte(p[begin:end], frameMagic>>24)
		if i < 0 {
			break
		}
		begin += i
		if state = frameAt(p[begin:]); state != noFrame {
			return begin, state
		}
	}
	return 0, noFrame
}

// frameAt says whether p begins with a frame, given that its first byte does.
func frameAt(p []byte) frameState {
	if len(p) > 1 && p[1] != frameMagic>>16&0xff {
		return noFrame
	}
	if len(p) < frameHeader {
		return maybeFrame
	}
	switch n := binary.BigEndian.Uint32(p[4:]); {
	case n > maxFrame:
		return noFrame
	case len(p) < frameHeader+int(n):
		return openFrame
	}
	return wholeFrame
}
