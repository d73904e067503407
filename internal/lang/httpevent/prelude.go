package httpevent

import (
	"bytes"
	"errors"
	"io"
)

// preludeEnd stands between the prelude of a streamed HTTP response and its body.
var preludeEnd = make([]byte, 8)

// maxPrelude is the longest prelude, in bytes. AWS publishes no limit; what it holds becomes headers.
const maxPrelude = 64 << 10

// Errors of SplitPrelude.
var (
	ErrNoPrelude      = errors.New("httpevent: the response has no prelude that ends with 8 NULs")
	ErrPreludeTooLong = errors.New("httpevent: the prelude of the response is longer than 65536 bytes")
)

// SplitPrelude reads the beginning of a response of the type application/vnd.awslambda.http-integration-response, which is
// a JSON object of status, headers and cookies, 8 NULs, and the body. It gives the JSON, which is not looked into, and the
// body, of which it waits for nothing. The error is one of the above, or that of r if the response failed before its body.
func SplitPrelude(r io.Reader) (prelude []byte, body io.Reader, err error) {
	buf := make([]byte, 0, 1024)
	for {
		if len(buf) == cap(buf) {
			buf = append(buf, make([]byte, len(buf))...)[:len(buf)]
		}
		n, err := r.Read(buf[len(buf):min(cap(buf), maxPrelude+len(preludeEnd))])
		from := max(0, len(buf)-len(preludeEnd)+1) // the NULs may come in pieces
		buf = buf[:len(buf)+n]
		if i := bytes.IndexByte(buf[from:], 0); i >= 0 { // no NUL is allowed in JSON
			i += from
			end := buf[i:min(len(buf), i+len(preludeEnd))]
			switch {
			case !bytes.Equal(end, preludeEnd[:len(end)]):
				return nil, nil, ErrNoPrelude
			case len(end) == len(preludeEnd):
				rest := buf[i+len(preludeEnd):]
				return buf[:i:i], &afterPrelude{rest, r, err}, nil
			}
		}
		switch {
		case err == io.EOF:
			return nil, nil, ErrNoPrelude
		case err != nil:
			return nil, nil, err
		case len(buf) == maxPrelude+len(preludeEnd):
			return nil, nil, ErrPreludeTooLong
		}
	}
}

// afterPrelude is the body of a response whose beginning came together with the prelude.
type afterPrelude struct {
	first []byte
	r     io.Reader
	err   error // that came with first
}

func (a *afterPrelude) Read(p []byte) (int, error) {
	if len(a.first) > 0 {
		n := copy(p, a.first)
		a.first = a.first[n:]
		return n, nil
	}
	if a.err != nil {
		return 0, a.err
	}
	return a.r.Read(p)
}
