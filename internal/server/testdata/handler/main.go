// Command handler is a function of event source mappings that does what the texts of its records say: "bad" fails, "hang" never answers, "crash" ends
// the process, "oom" takes more memory than there is, "large" answers too much, "text" answers what is no JSON, "wait" takes a second. In windows it counts
// records: "grow" makes the state too large, "stateless" answers without one, and "sour" fails the first two attempts to end the window.
//
// With MODE=report it reports the record that fails instead of failing. It prints what it did: "did", the time in nanoseconds, VERSION and the texts;
// "window", start, how many records, and whether it ended early.
package main

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"time"
)

type event struct {
	Records []struct {
		MessageID string `json:"messageId"`
		Body      string `json:"body"`
		Kinesis   struct {
			SequenceNumber string `json:"sequenceNumber"`
			Data           string `json:"data"`
		} `json:"kinesis"`
	}
	Window *struct{ Start, End string } `json:"window"`
	State  struct {
		Count int
		Sour  bool
		Fill  string
	} `json:"state"`
	Final bool `json:"isFinalInvokeForWindow"`
	Early bool `json:"isWindowTerminatedEarly"`
}

func main() {
	api := "http://" + os.Getenv("AWS_LAMBDA_RUNTIME_API") + "/2018-06-01/runtime/invocation/"
	for {
		res, err := http.Get(api + "next")
		if err != nil {
			os.Exit(1)
		}
		body, err := io.ReadAll(res.Body)
		res.Body.Close()
		if err != nil {
			os.Exit(1)
		}
		answer, failed := handle(body)
		to := api + res.Header.Get("Lambda-Runtime-Aws-Request-Id") + "/response"
		if failed {
			to = strings.TrimSuffix(to, "response") + "error"
		}
		res, err = http.Post(to, "application/json", bytes.NewReader(answer))
		if err != nil {
			os.Exit(1)
		}
		io.Copy(io.Discard, res.Body)
		res.Body.Close()
	}
}

var ballast [][]byte
var soured = map[string]int{}

func handle(body []byte) (answer []byte, failed bool) {
	no := []byte(`{"errorType":"No","errorMessage":"no"}`)
	var e event
	if err := json.Unmarshal(body, &e); err != nil {
		return no, true
	}
	report := os.Getenv("MODE") == "report"
	var did []string
	fails, text, stateless := "", false, false
records:
	for _, r := range e.Records {
		id, what := r.MessageID, r.Body
		if r.Kinesis.Data != "" {
			b, _ := base64.StdEncoding.DecodeString(r.Kinesis.Data)
			id, what = r.Kinesis.SequenceNumber, string(b)
		}
		switch what {
		case "bad":
			if !report {
				return no, true
			}
			fails = id
			break records
		case "hang":
			select {}
		case "crash":
			os.Exit(1)
		case "oom":
			for range 64 {
				ballast = append(ballast, bytes.Repeat([]byte("x"), 8<<20))
			}
			os.Exit(1)
		case "large":
			return bytes.Repeat([]byte("1"), 7<<20), false
		case "text":
			text = true
		case "wait":
			time.Sleep(time.Second)
		case "grow":
			e.State.Fill = strings.Repeat("x", 1<<20)
		case "sour":
			e.State.Sour = true
		case "stateless":
			stateless = true
		}
		did = append(did, what)
		e.State.Count++
	}
	if stateless {
		return []byte(`{"count":1}`), false
	}
	if e.Final {
		if e.State.Sour && soured[e.Window.Start] < 2 {
			soured[e.Window.Start]++
			return no, true
		}
		fmt.Println("window", e.Window.Start, e.State.Count, e.Early)
	} else {
		fmt.Println("did", time.Now().UnixNano(), os.Getenv("VERSION"), strings.Join(did, " "))
	}
	if text {
		return []byte("done, but this is no JSON"), false
	}
	out := map[string]any{}
	if e.Window != nil {
		out["state"] = e.State
	}
	if fails != "" {
		out["batchItemFailures"] = []any{map[string]string{"itemIdentifier": fails}}
	}
	answer, _ = json.Marshal(out)
	return answer, false
}
