//go:build linux

package linux_test

import (
	"os"
	"testing"

	"github.com/mayflyhq/mayfly/internal/sandbox/linux"
	"github.com/mayflyhq/mayfly/internal/sandbox/sandboxtest"
)

func TestMain(m *testing.M) {
	linux.MaybeInit()
	code := m.Run()
	sandboxtest.Cleanup()
	os.Exit(code)
}

func TestBehaviour(t *testing.T) {
	d, err := linux.New(linux.Config{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("\n%s", d.Report())
	sandboxtest.Behaviour(t, d)
	if err := d.Close(); err != nil {
		t.Error(err)
	}
}
