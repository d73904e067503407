// Command bootstrap is a custom runtime of the fewest instructions, for measuring cold starts: it answers every event with itself,
// after {"sleep":MILLISECONDS}, or with as many bytes as stream=N in it says, in a stream. With the handler "sink" it answers null, and with the
// handler "clock" it prints the time at which it got the event before that, in nanoseconds since 1970.
package main

import (
	"bufio"
	"bytes"
	"io"
	"net"
	"os"
	"strconv"
	"time"
)

func main() {
	api := os.Getenv("AWS_LAMBDA_RUNTIME_API")
	conn, err := net.Dial("tcp", api)
	if err != nil {
		os.Exit(1)
	}
	r := bufio.NewReader(conn)
	for {
		io.WriteString(conn, "GET /2018-06-01/runtime/invocation/next HTTP/1.1\r\nHost: "+api+"\r\n\r\n")
		id, event := response(r)
		switch os.Getenv("_HANDLER") {
		case "clock":
			io.WriteString(os.Stdout, "start "+strconv.FormatInt(time.Now().UnixNano(), 10)+"\n")
			fallthrough
		case "sink":
			event = []byte("null")
		}
		if ms, ok := bytes.CutPrefix(event, []byte(`{"sleep":`)); ok {
			n, _ := strconv.Atoi(string(bytes.TrimSuffix(ms, []byte("}"))))
			time.Sleep(time.Duration(n) * time.Millisecond)
		}
		if _, n, ok := bytes.Cut(event, []byte("stream=")); ok {
			n, _, _ = bytes.Cut(n, []byte(`"`))
			stream(conn, api, id, string(n))
			response(r)
			continue
		}
		io.WriteString(conn, "POST /2018-06-01/runtime/invocation/"+id+"/response HTTP/1.1\r\nHost: "+api+
			"\r\nContent-Length: "+strconv.Itoa(len(event))+"\r\n\r\n"+string(event))
		response(r)
	}
}

func response(r *bufio.Reader) (id string, body []byte) {
	length := 0
	for {
		line, err := r.ReadBytes('\n')
		if err != nil {
			os.Exit(0)
		}
		line = bytes.TrimSpace(line)
		name, value, _ := bytes.Cut(line, []byte(": "))
		switch {
		case len(line) == 0:
			body = make([]byte, length)
			io.ReadFull(r, body)
			return id, body
		case bytes.EqualFold(name, []byte("Content-Length")):
			length, _ = strconv.Atoi(string(value))
		case bytes.EqualFold(name, []byte("Lambda-Runtime-Aws-Request-Id")):
			id = string(value)
		}
	}
}

var piece = bytes.Repeat([]byte("x"), 64<<10)

func stream(conn net.Conn, api, id, length string) {
	io.WriteString(conn, "POST /2018-06-01/runtime/invocation/"+id+"/response HTTP/1.1\r\nHost: "+api+
		"\r\nLambda-Runtime-Function-Response-Mode: streaming\r\nTransfer-Encoding: chunked\r\n\r\n")
	left, _ := strconv.Atoi(length)
	for left > 0 {
		n := min(left, len(piece))
		chunk := append(strconv.AppendInt(nil, int64(n), 16), "\r\n"...)
		conn.Write(append(append(chunk, piece[:n]...), "\r\n"...))
		left -= n
	}
	io.WriteString(conn, "0\r\n\r\n")
}
