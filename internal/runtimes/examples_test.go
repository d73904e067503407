package runtimes

import (
	"errors"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// The examples run on what is installed here, and answer alike.
func TestExamples(t *testing.T) {
	f := testFinder(t)
	for _, test := range []struct{ name, runtime, handler, log string }{
		{"hello-go", "provided.al2023", "", "greeting World"},
		{"hello-node", "nodejs22.x", "index.handler", "\t" + requestIDOf(0) + "\tINFO\tgreeting World"},
		{"hello-python", "python3.13", "app.handler", "\t" + requestIDOf(0) + "\tgreeting World"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			l, err := f.Resolve(t.Context(), test.runtime, "")
			if missing, ok := errors.AsType[*NotInstalledError](err); ok {
				t.Skipf("SKIPPED: %v", missing)
			}
			if err != nil {
				t.Fatal(err)
			}
			task, err := filepath.Abs(filepath.Join("../../examples", test.name))
			if err != nil {
				t.Fatal(err)
			}
			api := newFakeAPI(t, []string{`{"name":"World"}`, `{}`}, "")
			l = onHost(l, task)
			if l.Family == Provided {
				program := filepath.Join(t.TempDir(), "bootstrap")
				if out, err := exec.Command("go", "build", "-o", program, task).CombinedOutput(); err != nil {
					t.Fatalf("%v\n%s", err, out)
				}
				l.Exec = []string{program}
			}
			p := startClient(t, l, api, task, map[string]string{"_HANDLER": test.handler})
			log, exit := p.finish(t, api)
			got := strings.ReplaceAll(api.transcript(exit), `": "`, `":"`)
			if !strings.Contains(got, `"message":"Hello, World!"`) || !strings.Contains(got, requestIDOf(0)) ||
				!strings.Contains(got, `"the event has no name"`) {
				t.Errorf("the function did:\n%s", got)
			}
			if !strings.Contains(log, test.log) {
				t.Errorf("log:\n%s", log)
			}
		})
	}
}
