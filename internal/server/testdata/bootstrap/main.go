// Command bootstrap is a custom runtime of the fewest instructions, for measuring cold starts: it answers every event with itself.
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
		if ms, ok := bytes.CutPrefix(event, []byte(`{"sleep":`)); ok {
			n, _ := strconv.Atoi(string(bytes.TrimSuffix(ms, []byte("}"))))
			time.Sleep(time.Duration(n) * time.Millisecond)
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
