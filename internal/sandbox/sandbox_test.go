package sandbox_test

import (
	"strings"
	"syscall"
	"testing"

	"github.com/mayflyhq/mayfly/internal/sandbox"
)

func TestMilliCPUFor(t *testing.T) {
	for mb, want := range map[int]int{0: 1, 1: 1, 128: 72, 1769: 1000, 3538: 2000, 10240: 5788} {
		if got := sandbox.MilliCPUFor(mb); got != want {
			t.Errorf("%d MB: %d, want %d", mb, got, want)
		}
	}
}

func TestSpecDefaults(t *testing.T) {
	s, err := sandbox.Spec{ID: "a-1"}.WithDefaults()
	if err != nil || s.TmpBytes != 512<<20 || s.MaxPIDs != 1024 || s.MaxFiles != 1024 {
		t.Errorf("%+v, %v", s, err)
	}
	for _, target := range []string{"", "relative", "/", "/a/../b", "/a//b", "/a/", "/proc", "/proc/1", "/dev/x", "/tmp", "/tmp/x", "/sys", "/a\x00b"} {
		if _, err := (sandbox.Spec{ID: "x", Mounts: []sandbox.Mount{{Source: "/usr", Target: target}}}).WithDefaults(); err == nil {
			t.Errorf("target %q passes", target)
		}
	}
	for _, id := range []string{"", "-a", "A", "a b", "a/b", "..", strings.Repeat("a", 65)} {
		if _, err := (sandbox.Spec{ID: id}).WithDefaults(); err == nil {
			t.Errorf("ID %q passes", id)
		}
	}
	for _, target := range []string{"/var/task", "/opt", "/tmpfiles", "/process"} {
		if _, err := (sandbox.Spec{ID: "x", Mounts: []sandbox.Mount{{Source: "/usr", Target: target}}}).WithDefaults(); err != nil {
			t.Error(err)
		}
	}
}

func TestExitString(t *testing.T) {
	for want, e := range map[string]sandbox.Exit{
		"exit status 0":  {},
		"exit status 42": {Code: 42},
		"signal: killed": {Code: -1, Signal: syscall.SIGKILL},
	} {
		if e.String() != want {
			t.Errorf("%q, want %q", e, want)
		}
	}
}

func TestReport(t *testing.T) {
	r := sandbox.Report{Items: []sandbox.Item{{Name: "memory", OK: true, Detail: "cgroup"}, {Name: "network", Detail: "none", Remedy: "do this"}}}
	if m := r.Missing(); len(m) != 1 || m[0].Name != "network" {
		t.Errorf("%v", m)
	}
	if s := r.String(); !strings.Contains(s, "MISSING  network") || !strings.Contains(s, "do this") {
		t.Errorf("%s", s)
	}
}
