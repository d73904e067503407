// Command bootstrap is a function of the provided runtimes that does to its sandbox whatever its event says.
package main

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"os/exec"
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
		}
		json.Unmarshal(body, &event)
		if t := event.RequestPayload.Token; t != "" {
			os.Stdout.WriteString("followed " + t + "\n")
			time.Sleep(300 * time.Millisecond)
		}
		kind := "/response"
		answer, _ := json.Marshal(map[string]string{"token": event.Token, "version": os.Getenv("VERSION"), "id": id})
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
