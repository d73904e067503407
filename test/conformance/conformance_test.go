package conformance

import (
	"archive/zip"
	"bufio"
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestConformance runs every suite against one server, and stops and starts it again.
func TestConformance(t *testing.T) {
	s := newInstance(t, "--async-retry-wait", "200ms")
	s.start()
	t.Run("suites", func(t *testing.T) {
		t.Run("terraform", func(t *testing.T) { t.Parallel(); terraform(t, s) })
		t.Run("terraform queues", func(t *testing.T) { t.Parallel(); terraformQueues(t, s) })
		t.Run("boto3", func(t *testing.T) { t.Parallel(); boto3(t, s, "all") })
		t.Run("behaviour", func(t *testing.T) { t.Parallel(); boto3(t, s, "behaviour", "--at-once=10") })
		t.Run("cli", func(t *testing.T) { t.Parallel(); cli(t, s) })
		t.Run("sdk", func(t *testing.T) { t.Parallel(); queues(t, s) })
	})
	s.keep()
	before := s.inventory()
	s.stop()
	s.start()
	if after := s.inventory(); after != before {
		t.Errorf("after another start there is\n%s\nbefore it there was\n%s", after, before)
	}
	s.stop()
}

// keep leaves something behind that must be found again: a function that ran.
func (s *instance) keep() {
	s.t.Helper()
	program, err := os.ReadFile(bootstrap)
	if err != nil {
		s.t.Fatal(err)
	}
	if err := s.createFunction(s.t.Context(), "kept", archive(s.t, "bootstrap", string(program))); err != nil {
		s.t.Fatal(err)
	}
	if err := s.awaitActive(s.t.Context(), "kept"); err != nil {
		s.t.Fatal(err)
	}
	if got := s.mayfly("invoke", "kept", "--quiet", "--event", `{"n":1}`); got != `{"n":1}`+"\n" {
		s.t.Errorf("mayfly invoke prints %q", got)
	}
	for deadline := time.Now().Add(2 * time.Minute); ; time.Sleep(20 * time.Millisecond) {
		if strings.Contains(s.mayfly("logs", "kept"), "REPORT") {
			return
		}
		if time.Now().After(deadline) {
			s.t.Fatal("the invocation's log is not there")
		}
	}
}

// TestThrottling is a suite for a server that allows two invocations at a time.
func TestThrottling(t *testing.T) {
	s := newInstance(t, "--concurrency", "2")
	s.start()
	boto3(t, s, "throttle")
	s.stop()
}

// check is what a Python suite says about one of its tests.
type check struct {
	Test, Outcome, Detail string
}

// boto3 runs Python suites: "all" are those that share a server and have their tests one after the other.
func boto3(t *testing.T, s *instance, args ...string) {
	python := needPython(t)
	cmd := exec.CommandContext(t.Context(), python, append([]string{filepath.Join("boto3", "run.py")}, args...)...)
	cmd.Env = append(s.env(), "MAYFLY_BOOTSTRAP="+bootstrap, "MAYFLY="+mayfly)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	lines.Buffer(nil, 1<<20)
	n := 0
	for lines.Scan() {
		var c check
		if err := json.Unmarshal(lines.Bytes(), &c); err != nil {
			t.Errorf("the suite prints %q", lines.Text())
			continue
		}
		n++
		t.Run(c.Test, func(t *testing.T) {
			switch c.Outcome {
			case "skipped":
				t.Skip(c.Detail)
			case "failed":
				t.Error(c.Detail)
			}
		})
	}
	if err := cmd.Wait(); err != nil || n == 0 {
		t.Errorf("the suite ended after %d tests with %v\n%s", n, err, stderr.String())
	}
}

func needPython(t *testing.T) string {
	t.Helper()
	python, err := exec.LookPath("python3")
	if err != nil {
		missing(t, "python3", "install Python 3.9 or later")
	}
	if err := exec.Command(python, "-c", "import boto3").Run(); err != nil {
		missing(t, "boto3", "python3 -m pip install boto3")
	}
	return python
}

// archive is a .zip file of the files given as name and content in turn, which all may be executed.
func archive(t *testing.T, files ...string) []byte {
	t.Helper()
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	for i := 0; i < len(files); i += 2 {
		h := &zip.FileHeader{Name: files[i], Method: zip.Deflate}
		h.SetMode(0o755)
		f, err := w.CreateHeader(h)
		if err != nil {
			t.Fatal(err)
		}
		f.Write([]byte(files[i+1]))
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func write(t *testing.T, path string, data []byte) {
	t.Helper()
	if err := os.WriteFile(path, data, 0o644); err != nil {
		t.Fatal(err)
	}
}

// command is one of mayfly's, with what it will print.
func (s *instance) command(args ...string) (*exec.Cmd, *bytes.Buffer) {
	cmd := exec.Command(mayfly, args...)
	cmd.Env = s.env()
	out := &bytes.Buffer{}
	cmd.Stdout, cmd.Stderr = out, out
	return cmd, out
}

// mayfly returns what a command prints that succeeds.
func (s *instance) mayfly(args ...string) string {
	s.t.Helper()
	cmd, out := s.command(args...)
	if err := cmd.Run(); err != nil {
		s.t.Fatalf("mayfly %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return out.String()
}
