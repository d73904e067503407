//go:build unix

package process_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/mayflyhq/mayfly/internal/sandbox"
	"github.com/mayflyhq/mayfly/internal/sandbox/process"
	"github.com/mayflyhq/mayfly/internal/sandbox/sandboxtest"
)

func TestMain(m *testing.M) {
	code := m.Run()
	sandboxtest.Cleanup()
	os.Exit(code)
}

func TestBehaviour(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "sandboxes")
	d, err := process.New(process.Config{Dir: dir, Why: "a test"})
	if err != nil {
		t.Fatal(err)
	}
	sandboxtest.Behaviour(t, d)
	if err := d.Close(); err != nil {
		t.Error(err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	if _, err := d.Create(t.Context(), sandbox.Spec{ID: "late"}); err != sandbox.ErrClosed {
		t.Errorf("Create after Close: %v", err)
	}
}
