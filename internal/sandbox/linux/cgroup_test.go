//go:build linux

package linux

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

func writeAll(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func content(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestCgroupMounts(t *testing.T) {
	file := filepath.Join(t.TempDir(), "mountinfo")
	writeAll(t, filepath.Dir(file), map[string]string{"mountinfo": `22 27 0:21 / /proc rw,relatime - proc proc rw
33 32 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:9 - cgroup cgroup rw,cpu,cpuacct
35 32 0:31 /docker/abc /sys/fs/cgroup/with\040space rw,relatime - cgroup cgroup rw,memory
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw,nsdelegate
broken line
`})
	got, err := cgroupMounts(file)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]cgroupMount{
		"cpu":     {"/sys/fs/cgroup/cpu,cpuacct", "/"},
		"cpuacct": {"/sys/fs/cgroup/cpu,cpuacct", "/"},
		"memory":  {"/sys/fs/cgroup/with space", "/docker/abc"},
		"":        {"/sys/fs/cgroup/unified", "/"},
	} {
		if got[name] != want {
			t.Errorf("%q: %v, want %v", name, got[name], want)
		}
	}
	for _, c := range []struct{ root, own, want string }{
		{"/", "/", "/m"},
		{"/", "/user.slice/x", "/m/user.slice/x"},
		{"/docker/abc", "/docker/abc/sub", "/m/sub"},
		{"/docker/abc", "/docker/abc", "/m"},
		{"/docker/abc", "/elsewhere", "/m"},
	} {
		if got := (cgroupMount{"/m", c.root}).path(c.own); got != c.want {
			t.Errorf("root %s, own %s: %s, want %s", c.root, c.own, got, c.want)
		}
	}
}

func TestOwnCgroups(t *testing.T) {
	dir := t.TempDir()
	writeAll(t, dir, map[string]string{"cgroup": "9:name=systemd:/\n4:cpu,cpuacct:/a:b\n0::/user.slice\n"})
	got, err := ownCgroups(filepath.Join(dir, "cgroup"))
	if err != nil {
		t.Fatal(err)
	}
	if got["cpu"] != "/a:b" || got["cpuacct"] != "/a:b" || got[""] != "/user.slice" {
		t.Errorf("%v", got)
	}
}

func TestOwner(t *testing.T) {
	name, err := owner()
	if err != nil {
		t.Fatal(err)
	}
	if ownerDead(name) {
		t.Error("we are alive")
	}
	again, _ := owner()
	if again == name {
		t.Error("two drivers of one process have the same name")
	}
	cmd := exec.Command("/proc/self/exe", "-test.run=^$")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	start, err := startTime(cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	other := fmt.Sprintf("%d-%d-1", cmd.Process.Pid, start)
	cmd.Process.Kill()
	cmd.Wait()
	if !ownerDead(other) {
		t.Error("a process that ended counts as alive")
	}
	if !ownerDead(fmt.Sprintf("%d-1-1", os.Getpid())) {
		t.Error("a former process of our number counts as alive")
	}
	for _, strange := range []string{"", "x", "1-2", "a-b-c", "system.slice"} {
		if ownerDead(strange) {
			t.Errorf("%q is not ours to remove", strange)
		}
	}
}

// TestCgroup2Files checks what is written to version 2's files, in a directory
// that stands for the kernel's.
func TestCgroup2Files(t *testing.T) {
	dir := t.TempDir()
	g := &group2{dir: dir, dirFD: -1, cpu: true}
	writeAll(t, dir, map[string]string{
		"memory.max": "max\n", "memory.swap.max": "max\n", "pids.max": "max\n", "cpu.max": "max 100000\n",
		"cgroup.freeze": "0\n", "cgroup.events": "populated 1\nfrozen 1\n", "cgroup.procs": fmt.Sprintf("%d\n%d\n", 1<<22+7, 1<<22+8),
		"cpu.stat": "usage_usec 1234\nuser_usec 1000\n", "memory.current": "5000000\n", "memory.peak": "9000000\n",
		"memory.stat": "anon 100\nfile 3000000\ninactive_file 1000000\nactive_file 2000000\n", "memory.events": "low 0\noom 3\noom_kill 2\n",
	})
	if err := g.limit(128<<20, 72, 1024); err != nil {
		t.Fatal(err)
	}
	if err := g.freeze(true); err != nil {
		t.Fatal(err)
	}
	// A write to a file of the kernel's replaces all of it; here it leaves
	// the rest.
	for name, want := range map[string]string{"memory.max": "134217728", "memory.swap.max": "0", "pids.max": "1025", "cpu.max": "1440 20000", "cgroup.freeze": "1"} {
		if got := content(t, filepath.Join(dir, name)); !strings.HasPrefix(got, want) {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	c, err := g.usage(1<<22 + 7)
	if err != nil {
		t.Fatal(err)
	}
	want := counters{cpu: 1234 * time.Microsecond, memory: 2000000, peak: 6000000, oomKills: 2, processes: 1}
	if c != want {
		t.Errorf("%+v, want %+v", c, want)
	}
	if err := g.setCPU(0); err != nil {
		t.Fatal(err)
	}
	if got := content(t, filepath.Join(dir, "cpu.max")); !strings.HasPrefix(got, "max") {
		t.Errorf("cpu.max: %q", got)
	}
	// A kernel before 5.19 has no peak at all.
	os.Remove(filepath.Join(dir, "memory.peak"))
	g = &group2{dir: dir, dirFD: -1}
	if c, err = g.usage(1<<22 + 7); err != nil || c.peak != c.memory {
		t.Errorf("%+v, %v", c, err)
	}
	if err := g.resetPeak(); !os.IsNotExist(err) {
		t.Errorf("reset of a counter that is not there: %v", err)
	}
}

// TestCgroup2Pick checks where the sandboxes' cgroups go.
func TestCgroup2Pick(t *testing.T) {
	for _, c := range []struct {
		name    string
		files   map[string]string
		own     string
		want    string // the directory, or
		failure string
	}{
		{"beside a service's processes", map[string]string{
			"cgroup.controllers": "cpu memory pids", "cgroup.subtree_control": "",
			"mayfly.service/cgroup.controllers": "", "mayfly.service/cgroup.subtree_control": ""}, "mayfly.service", "mayfly/run", ""},
		{"no memory", map[string]string{"cgroup.controllers": "hugetlb", "cgroup.subtree_control": ""}, "", "", "no memory controller"},
	} {
		t.Run(c.name, func(t *testing.T) {
			root := t.TempDir()
			writeAll(t, root, c.files)
			// mkdir in the kernel's directory brings the files.
			writeAll(t, root, map[string]string{"mayfly/cgroup.subtree_control": "", "mayfly/run/cgroup.subtree_control": "", "mayfly/run/probe/x": ""})
			os.RemoveAll(filepath.Join(root, "mayfly/run/probe"))
			h, err := newCgroup2(filepath.Join(root, c.own), "run")
			if c.failure != "" {
				if err == nil || !strings.Contains(err.Error(), c.failure) {
					t.Errorf("%v, want %q", err, c.failure)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if h.dir != filepath.Join(root, c.want) || !h.cpu {
				t.Errorf("%+v", h)
			}
			if got := content(t, filepath.Join(root, "cgroup.subtree_control")); got != "+memory +pids +cpu" {
				t.Errorf("enabled %q", got)
			}
		})
	}
}

// TestCgroup2StepsAsideForNobody: where version 2 has no controllers, or ours is
// the machine's root, no process may be moved.
func TestCgroup2StepsAsideForNobody(t *testing.T) {
	for _, controllers := range []string{"hugetlb", "cpu memory pids"} {
		root := filepath.Join(t.TempDir(), "unified")
		writeAll(t, root, map[string]string{"cgroup.controllers": controllers, "cgroup.procs": "1\n2\n"})
		if _, err := newCgroup2(root, "run"); err == nil {
			t.Error("a hierarchy without subtree_control was taken")
		}
		if _, err := os.Stat(filepath.Join(root, "mayfly-main")); err == nil {
			t.Errorf("controllers %q: processes were moved", controllers)
		}
	}
}

// TestCgroup2Kernel uses the kernel's version 2 as far as this machine has it:
// to freeze needs no controller.
func TestCgroup2Kernel(t *testing.T) {
	mounts, err := cgroupMounts("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	m, ok := mounts[""]
	if !ok {
		t.Skip("no cgroup v2 is mounted")
	}
	own, err := ownCgroups("/proc/self/cgroup")
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(m.path(own[""]), fmt.Sprintf("mayfly-test-%d", os.Getpid()))
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Skipf("no right to make a cgroup: %v", err)
	}
	defer removeDir(dir)
	fd, err := syscall.Open(dir, syscall.O_DIRECTORY|syscall.O_RDONLY|syscall.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	g := &group2{dir: dir, dirFD: fd}
	cmd := exec.Command("/proc/self/exe", "-test.run=^TestSpin$")
	cmd.Env = append(os.Environ(), "MAYFLY_TEST_SPIN=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: g.fd()}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Wait()
	defer cmd.Process.Kill()
	cpu := func() int64 {
		k, err := g.files.keys(dir, "cpu.stat")
		if err != nil {
			t.Fatal(err)
		}
		return k["usage_usec"]
	}
	for deadline := time.Now().Add(2 * time.Minute); cpu() == 0; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("it does not run in the cgroup")
		}
	}
	if err := g.freeze(true); err != nil {
		t.Fatal(err)
	}
	before := cpu()
	time.Sleep(30 * time.Millisecond)
	if after := cpu(); after-before > 5000 {
		t.Errorf("frozen, it used %d us", after-before)
	}
	if err := g.freeze(false); err != nil {
		t.Fatal(err)
	}
	cmd.Process.Kill()
	cmd.Wait()
	if err := g.remove(); err != nil {
		t.Error(err)
	}
}

// TestSpin is the process of TestCgroup2Kernel.
func TestSpin(*testing.T) {
	if os.Getenv("MAYFLY_TEST_SPIN") == "" {
		return
	}
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); {
	}
}

func TestCPUQuota(t *testing.T) {
	for milli, want := range map[int]int64{1: 1000, 72: 1440, 1000: 20000, 5788: 115760} {
		if got := cpuQuota(milli); got != want {
			t.Errorf("%d: %d, want %d", milli, got, want)
		}
	}
}
