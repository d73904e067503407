package kvtest

import (
	"bufio"
	"bytes"
	"os"
	"os/exec"
	"regexp"
	"testing"
)

// Kill runs the test that calls it as a process of its own, with a variable in its environment by which it knows that it is the child, and
// kills that once it has written some lines to its standard output. Each line is given to line, those that were still under way too. A child that
// ends by itself fails the test.
func Kill(t *testing.T, variable string, lines int, line func(string)) {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe, "-test.run=^"+regexp.QuoteMeta(t.Name())+"$")
	cmd.Env = append(os.Environ(), variable)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	left := lines
	for s := bufio.NewScanner(stdout); s.Scan(); {
		line(s.Text())
		if left--; left == 0 {
			if err := cmd.Process.Kill(); err != nil {
				t.Error(err)
			}
		}
	}
	cmd.Wait() // it was killed
	if left > 0 {
		t.Fatalf("the child ended by itself: %s", stderr.String())
	}
}
