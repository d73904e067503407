// Command bootstrap is a function of the provided runtimes that does to its sandbox whatever its event says.
package main

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"
)

func main() {
	if len(os.Args) > 1 { // a child that was left behind
		for {
			os.Stdout.WriteString("child\n")
			time.Sleep(10 * time.Millisecond)
		}
	}
	base := "http://" + os.Getenv("AWS_LAMBDA_RUNTIME_API") + "/2018-06-01/runtime/"
	for {
		res, err := http.Get(base + "invocation/next")
		if err != nil {
			os.Exit(1)
		}
		body, _ := io.ReadAll(res.Body)
		res.Body.Close()
		id := res.Header.Get("Lambda-Runtime-Aws-Request-Id")
		var event struct {
			Do, Token      string
			Ms             int
			RequestPayload struct{ Token string } // of a destination's record
			batch
		}
		json.Unmarshal(body, &event)
		if t := event.RequestPayload.Token; t != "" {
			os.Stdout.WriteString("followed " + t + "\n")
			time.Sleep(300 * time.Millisecond)
		}
		kind := "/response"
		answer, _ := json.Marshal(map[string]string{"token": event.Token, "version": os.Getenv("VERSION"), "id": id})
		if event.Records != nil {
			kind, answer = event.process()
		}
		switch event.Do {
		case "error":
			kind, answer = "/error", []byte(`{"errorType":"Wanted","errorMessage":"`+event.Token+`"}`)
		case "exit":
			os.Exit(3)
		case "crash":
			syscall.Kill(os.Getpid(), syscall.SIGSEGV)
			select {}
		case "hang":
			time.Sleep(time.Minute)
		case "sleep":
			time.Sleep(time.Duration(event.Ms) * time.Millisecond)
		case "oom":
			for hog := [][]byte{}; ; {
				b := make([]byte, 16<<20)
				for i := range b {
					b[i] = 1
				}
				hog = append(hog, b)
			}
		case "fork":
			child := exec.Command("/proc/self/exe", "child")
			child.Stdout = os.Stdout
			child.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
			child.Start()
		case "fork and exit":
			child := exec.Command("/proc/self/exe", "child")
			child.Stdout = os.Stdout
			child.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
			child.Start()
			os.Exit(4)
		case "big":
			answer = append(append([]byte{'"'}, bytes.Repeat([]byte{'x'}, 6<<20+200)...), '"')
		case "note", "note and fail": // the line is stored before the answer
			os.Stdout.WriteString("noted " + event.Token + "\n")
			time.Sleep(300 * time.Millisecond)
			if event.Do != "note" {
				kind, answer = "/error", []byte(`{"errorType":"Wanted","errorMessage":"`+event.Token+`"}`)
			}
		case "print":
			os.Stdout.WriteString("line of " + event.Token + "\n")
		case "no newline":
			os.Stdout.WriteString("open end of " + event.Token)
		case "binary":
			b := bytes.Repeat([]byte{0xa5, 0x5a, 0, 0, 0xff, 0xfe, 0}, 20_000)
			os.Stdout.Write(b)
		case "print later":
			go func() {
				time.Sleep(5 * time.Millisecond)
				os.Stdout.WriteString("afterwards " + event.Token + "\n")
			}()
		case "version": // of the code
			version, _ := os.ReadFile("/var/task/version")
			answer, _ = json.Marshal(map[string]string{"token": event.Token, "code": string(version)})
		case "gigabyte":
			line := []byte(strings.Repeat(strings.Repeat("g", 99)+"\n", 10_000))
			for range 1000 {
				os.Stdout.Write(line)
			}
		}
		res, err = http.Post(base+"invocation/"+id+kind, "application/json", bytes.NewReader(answer))
		if err == nil {
			res.Body.Close()
		}
	}
}

// batch is what a function gets of a stream or queue.
type batch struct {
	Records []struct {
		Body    string
		Kinesis struct{ Data []byte }
	}
	State   struct{ Sum int }
	Shard   string `json:"shardId"`
	Window  struct{ Start string }
	IsFinal bool `json:"isFinalInvokeForWindow"`
}

// process notes the records, which is stored before the answer, and adds up their numbers in the state. It fails if one is bad.
func (b *batch) process() (kind string, answer []byte) {
	var all []string
	for _, r := range b.Records {
		data := r.Body + string(r.Kinesis.Data)
		if strings.HasSuffix(data, "-bad") {
			return "/error", []byte(`{"errorType":"Bad","errorMessage":"` + data + `"}`)
		}
		all = append(all, data)
		n, _ := strconv.Atoi(data[strings.LastIndexByte(data, '-')+1:])
		b.State.Sum += n
	}
	if len(all) > 0 {
		os.Stdout.WriteString("records " + strings.Join(all, " ") + "\n")
	}
	if b.IsFinal {
		os.Stdout.WriteString("sum " + b.Shard + " " + b.Window.Start + " " + strconv.Itoa(b.State.Sum) + "\n")
	}
	time.Sleep(300 * time.Millisecond)
	answer, _ = json.Marshal(map[string]any{"state": b.State})
	return "/response", answer
}
