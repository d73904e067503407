package server

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net"
	"strconv"
)

// runtimeConn speaks the Runtime API with as little as it takes, so that benchmarks measure the platform.
type runtimeConn struct {
	conn net.Conn
	r    *bufio.Reader
	host string
	out  []byte
	body []byte
}

func dialRuntime(api string) (*runtimeConn, error) {
	conn, err := net.Dial("tcp", api)
	if err != nil {
		return nil, err
	}
	return &runtimeConn{conn: conn, r: bufio.NewReaderSize(conn, 64<<10), host: api}, nil
}

var requestIDHeader = []byte("Lambda-Runtime-Aws-Request-Id: ")

// next waits for an event. What it returns is valid until the next call.
func (c *runtimeConn) next() (id string, event []byte, err error) {
	c.out = append(c.out[:0], "GET /2018-06-01/runtime/invocation/next HTTP/1.1\r\nHost: "...)
	c.out = append(append(c.out, c.host...), "\r\n\r\n"...)
	if _, err := c.conn.Write(c.out); err != nil {
		return "", nil, err
	}
	return c.response()
}

func (c *runtimeConn) respond(id string, answer []byte) error {
	c.out = append(c.out[:0], "POST /2018-06-01/runtime/invocation/"...)
	c.out = append(append(c.out, id...), "/response HTTP/1.1\r\nHost: "...)
	c.out = append(append(c.out, c.host...), "\r\nContent-Length: "...)
	c.out = append(strconv.AppendInt(c.out, int64(len(answer)), 10), "\r\n\r\n"...)
	c.out = append(c.out, answer...)
	if _, err := c.conn.Write(c.out); err != nil {
		return err
	}
	_, _, err := c.response()
	return err
}

// response reads one response with a Content-Length.
func (c *runtimeConn) response() (id string, body []byte, err error) {
	length := -1
	for first := true; ; first = false {
		line, err := c.r.ReadSlice('\n')
		if err != nil {
			return "", nil, err
		}
		line = bytes.TrimRight(line, "\r\n")
		switch {
		case first:
		case len(line) == 0:
			if length < 0 {
				return "", nil, errors.New("no Content-Length")
			}
			if cap(c.body) < length {
				c.body = make([]byte, length)
			}
			body = c.body[:length]
			_, err = io.ReadFull(c.r, body)
			return id, body, err
		case bytes.HasPrefix(line, requestIDHeader):
			id = string(line[len(requestIDHeader):])
		case len(line) > 15 && bytes.EqualFold(line[:15], []byte("content-length:")):
			if length, err = strconv.Atoi(string(bytes.TrimSpace(line[15:]))); err != nil {
				return "", nil, err
			}
		}
	}
}
