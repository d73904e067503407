// Command bootstrap is a function for the provided runtimes that does what its event says, in the plainest terms of the
// Runtime API.
package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"syscall"
	"time"
)

// order is the event.
type order struct {
	Do    string
	Code  int
	Text  string
	Bytes int
}

var api = "http://" + os.Getenv("AWS_LAMBDA_RUNTIME_API") + "/2018-06-01/runtime/"

func main() {
	switch os.Getenv("INIT") { // what goes wrong before the first event
	case "hang":
		time.Sleep(time.Hour)
	case "slow": // longer than the init phase lasts, but only once
		if _, err := os.Stat("/tmp/tried"); err != nil {
			os.WriteFile("/tmp/tried", nil, 0o600)
			time.Sleep(time.Hour)
		}
	case "error":
		post("init/error", `{"errorType":"Config.Missing","errorMessage":"no configuration"}`, "Lambda-Runtime-Function-Error-Type", "Function.ConfigMissing")
		os.Exit(1)
	}
	for {
		res, err := http.Get(api + "invocation/next")
		if err != nil {
			panic(err)
		}
		event, err := io.ReadAll(res.Body)
		res.Body.Close()
		if err != nil {
			panic(err)
		}
		id := res.Header.Get("Lambda-Runtime-Aws-Request-Id")
		if answer, ok := os.LookupEnv("ANSWER"); ok { // says what it got, and always answers so
			fmt.Println("event", string(event))
			post("invocation/"+id+"/response", answer)
			continue
		}
		var o order
		json.Unmarshal(event, &o) // events that are no orders are echoed
		obey(id, &o, event, res.Header)
	}
}

func obey(id string, o *order, event []byte, header http.Header) {
	if o.Text != "" {
		fmt.Println(o.Text)
	}
	switch o.Do {
	default:
		post("invocation/"+id+"/response", string(event))
	case "headers":
		h := map[string]string{}
		for name := range header {
			if strings.HasPrefix(name, "Lambda-Runtime-") {
				h[name] = header.Get(name)
			}
		}
		b, _ := json.Marshal(h)
		post("invocation/"+id+"/response", string(b))
	case "exit":
		os.Exit(o.Code)
	case "kill":
		syscall.Kill(os.Getpid(), syscall.Signal(o.Code))
		select {}
	case "hang":
		time.Sleep(time.Hour)
	case "error":
		post("invocation/"+id+"/error", `{"errorType":"Own.Kind","errorMessage":"as I say","stackTrace":[]}`, "Lambda-Runtime-Function-Error-Type", "Own.Kind")
	case "big":
		res := post("invocation/"+id+"/response", `"`+strings.Repeat("x", o.Bytes-2)+`"`)
		if res.StatusCode != http.StatusAccepted {
			fmt.Println("status", res.StatusCode)
		}
	case "raw": // an answer that is not JSON passes through as it is
		post("invocation/"+id+"/response", o.Text)
	case "late": // writes after its answer
		post("invocation/"+id+"/response", `"early"`)
		fmt.Println("after the answer")
	}
}

func post(path, body string, header ...string) *http.Response {
	req, err := http.NewRequest(http.MethodPost, api+path, bytes.NewReader([]byte(body)))
	if err != nil {
		panic(err)
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		panic(err)
	}
	io.Copy(io.Discard, res.Body)
	res.Body.Close()
	return res
}
