//go:build linux

package linux

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// cgroup2 is the hierarchy of version 2.
type cgroup2 struct {
	dir  string // "mayfly/<owner>", whose children have the controllers
	cpu  bool
	peak bool // memory.peak can be reset, since Linux 6.12
}

// newCgroup2 makes the directory below our own cgroup. Version 2 allows no
// processes in a cgroup whose children have controllers, the root excepted, so
// where ours has processes the sandboxes go beside it, if the controllers are
// on there, as they are for a systemd service without delegation.
func newCgroup2(own, name string) (*cgroup2, error) {
	var reasons []error
	try := func(parent string) *cgroup2 {
		h, err := tryCgroup2(parent, name)
		if err != nil {
			reasons = append(reasons, fmt.Errorf("cgroup v2 in %s: %w", parent, err))
		}
		return h
	}
	if h := try(own); h != nil {
		return h, nil
	}
	above := filepath.Dir(own)
	if _, err := os.Stat(filepath.Join(above, "cgroup.controllers")); err == nil {
		if h := try(above); h != nil {
			return h, nil
		}
	} else if _, err := os.Stat(filepath.Join(own, "cgroup.type")); err == nil && errors.Is(reasons[0], syscall.EBUSY) {
		// Ours is the topmost that we see but not the machine's root, so
		// this is a container, and its processes can step aside.
		if err := stepAside(own); err != nil {
			reasons = append(reasons, err)
		} else if h := try(own); h != nil {
			return h, nil
		}
	}
	return nil, errors.Join(reasons...)
}

// stepAside moves the processes of a cgroup into a child of it.
func stepAside(own string) error {
	dir := filepath.Join(own, "mayfly-main")
	if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	pids, err := readPIDs(own)
	if err != nil {
		return err
	}
	for _, pid := range pids {
		if err := writeFile(dir, "cgroup.procs", strconv.Itoa(pid)); err != nil && !errors.Is(err, syscall.ESRCH) {
			return err
		}
	}
	return nil
}

func tryCgroup2(parent, name string) (_ *cgroup2, err error) {
	has, err := os.ReadFile(filepath.Join(parent, "cgroup.controllers"))
	if err != nil {
		return nil, err
	}
	available := strings.Fields(string(has))
	for _, c := range []string{"memory", "pids"} {
		if !slices.Contains(available, c) {
			return nil, fmt.Errorf("no %s controller", c)
		}
	}
	h := &cgroup2{cpu: slices.Contains(available, "cpu")}
	base := filepath.Join(parent, "mayfly")
	h.dir = filepath.Join(base, name)
	enable := "+memory +pids"
	if h.cpu {
		enable += " +cpu"
	}
	if err := writeFile(parent, "cgroup.subtree_control", enable); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(h.dir, 0o755); err != nil {
		return nil, err
	}
	for _, dir := range []string{base, h.dir} {
		if err := writeFile(dir, "cgroup.subtree_control", enable); err != nil {
			h.close()
			return nil, err
		}
	}
	cleanDead(base)
	probe, err := h.create("probe")
	if err != nil {
		h.close()
		return nil, err
	}
	h.peak = probe.resetPeak() == nil
	if err := probe.remove(); err != nil {
		h.close()
		return nil, err
	}
	return h, nil
}

func (h *cgroup2) freezer() string { return h.dir }

func (h *cgroup2) close() error {
	err := removeDir(h.dir)
	os.Remove(filepath.Dir(h.dir)) // "mayfly", if nobody else uses it
	return err
}

func (h *cgroup2) items() []item {
	is := []item{
		{name: "memory limit", ok: true, detail: "cgroup v2, swap not used"},
		{name: "process limit", ok: true, detail: "cgroup v2"},
		{name: "freeze", ok: true, detail: "cgroup v2"},
	}
	cpu := item{name: "cpu share", ok: h.cpu, detail: "cgroup v2"}
	if !cpu.ok {
		cpu.detail, cpu.remedy = "the cpu controller is not delegated to Mayfly's cgroup", "with systemd: Delegate=yes in the unit"
	}
	if !h.peak {
		is = append(is, item{name: "memory used", ok: true,
			detail: "this kernel's peak counter cannot be reset: the most since the environment's start is reported"})
	}
	return append(is, cpu)
}

func (h *cgroup2) create(name string) (cgroup, error) {
	dir := filepath.Join(h.dir, name)
	if err := os.Mkdir(dir, 0o755); err != nil {
		return nil, fmt.Errorf("cgroup: %w", err)
	}
	fd, err := syscall.Open(dir, syscall.O_DIRECTORY|syscall.O_RDONLY|syscall.O_CLOEXEC, 0)
	if err != nil {
		syscall.Rmdir(dir)
		return nil, &os.PathError{Op: "open", Path: dir, Err: err}
	}
	return &group2{dir: dir, dirFD: fd, cpu: h.cpu}, nil
}

type group2 struct {
	dir   string
	dirFD int
	cpu   bool
	files reader

	mu   sync.Mutex
	peak *os.File // a reset of memory.peak holds for the descriptor that made it
}

func (g *group2) fd() int { return g.dirFD }

func (g *group2) tasks() ([]*os.File, error) { return nil, nil }

func (g *group2) limit(memory int64, milliCPU, pids int) error {
	if memory > 0 {
		if err := writeFile(g.dir, "memory.max", strconv.FormatInt(memory, 10)); err != nil {
			return fmt.Errorf("memory limit: %w", err)
		}
		writeFile(g.dir, "memory.swap.max", "0") // absent without swap accounting
	}
	if pids > 0 {
		if err := writeFile(g.dir, "pids.max", strconv.Itoa(pids+1)); err != nil {
			return fmt.Errorf("process limit: %w", err)
		}
	}
	return g.setCPU(milliCPU)
}

func (g *group2) setCPU(milli int) error {
	if !g.cpu {
		return nil
	}
	text := "max"
	if milli > 0 {
		text = fmt.Sprintf("%d %d", cpuQuota(milli), cpuPeriod.Microseconds())
	}
	if err := writeFile(g.dir, "cpu.max", text); err != nil {
		return fmt.Errorf("cpu limit: %w", err)
	}
	return nil
}

func (g *group2) freeze(frozen bool) error {
	text := "0"
	if frozen {
		text = "1"
	}
	if err := writeFile(g.dir, "cgroup.freeze", text); err != nil {
		return fmt.Errorf("freezer: %w", err)
	}
	return awaitFrozen(frozen, func() (bool, error) {
		k, err := g.files.keys(g.dir, "cgroup.events")
		return k["frozen"] == 1, err
	})
}

func (g *group2) usage(init int) (c counters, err error) {
	cpu, err := g.files.keys(g.dir, "cpu.stat") // there even without the controller
	if err != nil {
		return c, err
	}
	c.cpu = time.Duration(cpu["usage_usec"]) * time.Microsecond
	used, err := g.files.int(g.dir, "memory.current")
	if err != nil {
		return c, err
	}
	pids, err := readPIDs(g.dir)
	if err != nil {
		return c, err
	}
	c.oomKills = g.oomKills()
	return c, c.countMemory(used, g.readPeak(), pids, init, func() (int64, error) {
		stat, err := g.files.keys(g.dir, "memory.stat")
		return stat["inactive_file"] + stat["active_file"], err
	})
}

func (g *group2) oomKills() int64 {
	k, _ := g.files.keys(g.dir, "memory.events")
	return k["oom_kill"]
}

// readPeak is 0 where the kernel has no such counter, before Linux 5.19.
func (g *group2) readPeak() int64 {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.peak == nil {
		n, _ := g.files.int(g.dir, "memory.peak")
		return n
	}
	var b [32]byte
	n, err := g.peak.ReadAt(b[:], 0)
	if n == 0 && err != nil {
		return 0
	}
	v, _ := strconv.ParseInt(strings.TrimSpace(string(b[:n])), 10, 64)
	return v
}

// resetPeak fails where the kernel cannot; the counter then goes on from the
// sandbox's start.
func (g *group2) peakCounted() (int64, error) { return g.readPeak(), nil }

func (g *group2) resetPeak() error {
	if pids, err := readPIDs(g.dir); err == nil {
		resetResident(pids)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.peak == nil {
		f, err := os.OpenFile(filepath.Join(g.dir, "memory.peak"), os.O_RDWR, 0)
		if err != nil {
			return err
		}
		g.peak = f
	}
	_, err := g.peak.WriteString("reset")
	if err != nil {
		g.peak.Close()
		g.peak = nil
	}
	return err
}

func (g *group2) remove() error {
	g.files.close()
	g.mu.Lock()
	if g.peak != nil {
		g.peak.Close()
		g.peak = nil
	}
	if g.dirFD >= 0 {
		syscall.Close(g.dirFD)
		g.dirFD = -1
	}
	g.mu.Unlock()
	return removeDir(g.dir)
}
