// Command consumer is a function of the provided runtimes that gets the records of streams and the messages of queues. What it has done with each
// event it puts into the stream "reports" before it answers, so that a report is there however soon everything is killed.
//
// Data is a number, followed by what is special about it: "bad" always fails, "exit" even ends the process, and "flaky" fails in a way that the
// function's name says and that ends.
package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/signer/v4"
)

func main() {
	base := "http://" + os.Getenv("AWS_LAMBDA_RUNTIME_API") + "/2018-06-01/runtime/invocation/"
	c := &consumer{name: os.Getenv("AWS_LAMBDA_FUNCTION_NAME"), seen: map[string]bool{}, salt: os.Getenv("AWS_LAMBDA_LOG_STREAM_NAME")}
	for {
		res, err := http.Get(base + "next")
		if err != nil {
			os.Exit(1)
		}
		var e event
		err = json.NewDecoder(res.Body).Decode(&e)
		res.Body.Close()
		id := res.Header.Get("Lambda-Runtime-Aws-Request-Id")
		var answer any
		if err == nil {
			answer, err = c.process(&e, id)
		}
		kind := "/response"
		if err != nil {
			kind, answer = "/error", map[string]string{"errorType": "Failed", "errorMessage": err.Error()}
		}
		body, _ := json.Marshal(answer)
		if res, err = http.Post(base+id+kind, "application/json", bytes.NewReader(body)); err == nil {
			res.Body.Close()
		}
	}
}

// event is what a function gets of a stream or a queue.
type event struct {
	Records []*record
	State   state
	Shard   string `json:"shardId"`
	Window  struct{ Start string }
	IsFinal bool `json:"isFinalInvokeForWindow"`
}

type record struct {
	EventID string
	Kinesis struct {
		Data           []byte
		SequenceNumber string
	}

	MessageID, ReceiptHandle, Body, EventSourceARN string

	Attributes struct {
		ApproximateReceiveCount, MessageGroupID string
	}

	number int
	kind   string
}

// state is a window's.
type state struct{ Count, Sum int }

// report is what was done with an event.
type report struct {
	Request  string
	Function string
	Shard    string
	Done     []int  // numbers of the records that were processed, in order
	Window   string // start of a window that ended
	State    state  // its last
}

type consumer struct {
	name string
	salt string          // names the environment
	seen map[string]bool // flaky records and ends of windows that this process has failed
}

func (c *consumer) process(e *event, request string) (answer any, err error) {
	out := report{Request: request, Function: c.name, Shard: e.Shard}
	for _, r := range e.Records {
		number, kind, _ := strings.Cut(string(r.Kinesis.Data)+r.Body, " ")
		if r.number, err = strconv.Atoi(number); err != nil {
			return nil, err
		}
		r.kind = kind
		if shard, _, ok := strings.Cut(r.EventID, ":"); ok {
			out.Shard = shard
		}
	}
	var failed []string // identifiers
	var again []*record // messages that shall appear again soon
	switch c.name {
	case "bisect": // flaky records fail in company
		for _, r := range e.Records {
			switch {
			case r.kind == "exit":
				os.Exit(3)
			case r.kind == "bad" || r.kind == "flaky" && len(e.Records) > 1:
				return nil, fmt.Errorf("%d is %s", r.number, r.kind)
			}
		}
	case "checkpoint": // flaky ones unless they are first
		for i, r := range e.Records {
			if r.kind == "bad" || r.kind == "exit" || r.kind == "flaky" && i > 0 {
				failed = append(failed, r.Kinesis.SequenceNumber)
				e.Records = e.Records[:i]
				break
			}
		}
	case "window", "steady": // the first time in some environments, as the ends of some windows do
		for _, r := range e.Records {
			if r.kind == "flaky" && c.first(strconv.Itoa(r.number)) {
				return nil, fmt.Errorf("%d is %s", r.number, r.kind)
			}
		}
		if e.IsFinal && c.first(e.Shard+e.Window.Start) {
			return nil, fmt.Errorf("the window of %s does not end yet", e.Window.Start)
		}
	case "standard", "fifo": // when they are received first, and so do those that follow in their group
		groups := map[string]bool{}
		var done []*record
		for _, r := range e.Records {
			group := r.Attributes.MessageGroupID
			bad := r.kind == "bad" || r.kind == "exit" || r.kind == "flaky" && r.Attributes.ApproximateReceiveCount == "1"
			if !bad && !(group != "" && groups[group]) {
				done = append(done, r)
				continue
			}
			groups[group] = true
			failed = append(failed, r.MessageID)
			again = append(again, r)
		}
		e.Records = done
	}
	for _, r := range e.Records {
		out.Done = append(out.Done, r.number)
		e.State.Count++
		e.State.Sum += r.number
	}
	if e.IsFinal {
		out.Window, out.State = e.Window.Start, e.State
	}
	if len(out.Done) > 0 || e.IsFinal {
		body, _ := json.Marshal(out)
		if err := call("kinesis", "1.1", "Kinesis_20131202.PutRecord", map[string]any{"StreamName": "reports", "PartitionKey": "r", "Data": body}); err != nil {
			return nil, err
		}
	}
	for _, r := range again {
		part := strings.Split(r.EventSourceARN, ":")
		url := os.Getenv("AWS_ENDPOINT_URL") + "/" + part[4] + "/" + part[5]
		if err := call("sqs", "1.0", "AmazonSQS.ChangeMessageVisibility", map[string]any{"QueueUrl": url, "ReceiptHandle": r.ReceiptHandle, "VisibilityTimeout": 1}); err != nil {
			fmt.Println(err) // it appears again later
		}
	}
	failures := []map[string]string{}
	for _, id := range failed {
		failures = append(failures, map[string]string{"itemIdentifier": id})
	}
	return map[string]any{"state": e.State, "batchItemFailures": failures}, nil
}

// first reports whether it is the first time that this process sees what key names, for a quarter of all keys. Another environment has other ones, so
// that not all of them must have failed before a record passes.
func (c *consumer) first(key string) bool {
	seen := c.seen[key]
	c.seen[key] = true
	return !seen && crc32.ChecksumIEEE([]byte(key+c.salt))%4 == 0
}

// call calls an operation of the platform. A report that comes twice is known by its request.
func call(service, version, target string, in any) (err error) {
	body, _ := json.Marshal(in)
	sum := sha256.Sum256(body)
	who := aws.Credentials{AccessKeyID: os.Getenv("AWS_ACCESS_KEY_ID"), SecretAccessKey: os.Getenv("AWS_SECRET_ACCESS_KEY"), SessionToken: os.Getenv("AWS_SESSION_TOKEN")}
	for range 3 {
		var req *http.Request
		if req, err = http.NewRequest("POST", os.Getenv("AWS_ENDPOINT_URL"), bytes.NewReader(body)); err != nil {
			return err
		}
		req.Header.Set("Content-Type", "application/x-amz-json-"+version)
		req.Header.Set("X-Amz-Target", target)
		if err = v4.NewSigner().SignHTTP(context.Background(), who, req, hex.EncodeToString(sum[:]), service, os.Getenv("AWS_REGION"), time.Now()); err != nil {
			return err
		}
		var res *http.Response
		if res, err = http.DefaultClient.Do(req); err != nil {
			continue
		}
		text, _ := io.ReadAll(res.Body)
		res.Body.Close()
		if res.StatusCode == http.StatusOK {
			return nil
		}
		err = fmt.Errorf("%s: %s %s", target, res.Status, text)
	}
	return err
}
