//go:build linux

package linux

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// cgroup1 is the hierarchy of version 1: one directory per controller.
type cgroup1 struct {
	dirs    map[string]string // controller to the driver's directory
	missing []string
}

var controllers1 = []string{"memory", "cpu", "cpuacct", "pids", "freezer"}

func newCgroup1(mounts map[string]cgroupMount, own map[string]string, name string) (*cgroup1, error) {
	h := &cgroup1{dirs: map[string]string{}}
	var bases []string
	for _, c := range controllers1 {
		m, ok := mounts[c]
		if !ok {
			h.missing = append(h.missing, c)
			continue
		}
		base := filepath.Join(m.path(own[c]), "mayfly")
		if err := os.MkdirAll(filepath.Join(base, name), 0o755); err != nil {
			h.close()
			return nil, fmt.Errorf("cgroup v1 %s: %w", c, err)
		}
		h.dirs[c] = filepath.Join(base, name)
		bases = append(bases, base)
	}
	cleanDead(bases...)
	// Without these a sandbox is no sandbox.
	for _, c := range []string{"memory", "pids", "freezer"} {
		if h.dirs[c] == "" {
			h.close()
			return nil, fmt.Errorf("cgroup v1 has no %s controller", c)
		}
	}
	// A parent must count its children for their limits to hold.
	writeFile(h.dirs["memory"], "memory.use_hierarchy", "1")
	return h, nil
}

func (h *cgroup1) freezer() string { return h.dirs["freezer"] }

func (h *cgroup1) close() error {
	var errs []error
	for _, dir := range h.distinct() {
		errs = append(errs, removeDir(dir))
		os.Remove(filepath.Dir(dir)) // "mayfly", if nobody else uses it
	}
	return errors.Join(errs...)
}

// distinct are the directories; controllers mounted together share one.
func (h *cgroup1) distinct() []string {
	var out []string
	seen := map[string]bool{}
	for _, c := range controllers1 {
		if d := h.dirs[c]; d != "" && !seen[d] {
			seen[d] = true
			out = append(out, d)
		}
	}
	return out
}

func (h *cgroup1) items() []item {
	is := []item{
		{name: "memory limit", ok: true, detail: "cgroup v1, swap not used"},
		{name: "process limit", ok: true, detail: "cgroup v1"},
		{name: "freeze", ok: true, detail: "cgroup v1"},
	}
	cpu := item{name: "cpu share", ok: h.dirs["cpu"] != "", detail: "cgroup v1"}
	if !cpu.ok {
		cpu.detail, cpu.remedy = "cgroup v1 has no cpu controller mounted", "mount it: mount -t cgroup -o cpu,cpuacct cgroup /sys/fs/cgroup/cpu,cpuacct"
	}
	return append(is, cpu)
}

func (h *cgroup1) create(name string) (cgroup, error) {
	g := &group1{dirs: map[string]string{}}
	for _, dir := range h.distinct() {
		path := filepath.Join(dir, name)
		if err := os.Mkdir(path, 0o755); err != nil {
			g.remove()
			return nil, fmt.Errorf("cgroup: %w", err)
		}
		g.made = append(g.made, path)
	}
	for c, dir := range h.dirs {
		g.dirs[c] = filepath.Join(dir, name)
	}
	// What is the same for all is written now, when nobody waits.
	writeFile(g.dirs["memory"], "memory.swappiness", "0")
	if dir := g.dirs["cpu"]; dir != "" {
		if err := writeFile(dir, "cpu.cfs_period_us", strconv.FormatInt(cpuPeriod.Microseconds(), 10)); err != nil {
			g.remove()
			return nil, fmt.Errorf("cpu limit: %w", err)
		}
	}
	return g, nil
}

type group1 struct {
	dirs  map[string]string
	made  []string
	files reader
}

func (g *group1) fd() int { return -1 }

func (g *group1) tasks() ([]*os.File, error) {
	var fs []*os.File
	for _, dir := range g.made {
		f, err := os.OpenFile(filepath.Join(dir, "tasks"), os.O_WRONLY, 0)
		if err != nil {
			for _, f := range fs {
				f.Close()
			}
			return nil, fmt.Errorf("cgroup: %w", err)
		}
		fs = append(fs, f)
	}
	return fs, nil
}

func (g *group1) limit(memory int64, milliCPU, pids int) error {
	if memory > 0 {
		n := strconv.FormatInt(memory, 10)
		if err := writeFile(g.dirs["memory"], "memory.limit_in_bytes", n); err != nil {
			return fmt.Errorf("memory limit: %w", err)
		}
		// The kernel may be built without swap accounting, and a machine
		// without swap needs none.
		writeFile(g.dirs["memory"], "memory.memsw.limit_in_bytes", n)
	}
	if pids > 0 {
		// One more for process 1.
		if err := writeFile(g.dirs["pids"], "pids.max", strconv.Itoa(pids+1)); err != nil {
			return fmt.Errorf("process limit: %w", err)
		}
	}
	return g.setCPU(milliCPU)
}

func (g *group1) setCPU(milli int) error {
	dir := g.dirs["cpu"]
	if dir == "" {
		return nil
	}
	quota := "-1"
	if milli > 0 {
		quota = strconv.FormatInt(cpuQuota(milli), 10)
	}
	if err := writeFile(dir, "cpu.cfs_quota_us", quota); err != nil {
		return fmt.Errorf("cpu limit: %w", err)
	}
	return nil
}

func (g *group1) freeze(frozen bool) error {
	dir, state := g.dirs["freezer"], "THAWED"
	if frozen {
		state = "FROZEN"
	}
	if err := writeFile(dir, "freezer.state", state); err != nil {
		return fmt.Errorf("freezer: %w", err)
	}
	return awaitFrozen(frozen, func() (bool, error) {
		b, err := os.ReadFile(filepath.Join(dir, "freezer.state"))
		return strings.TrimSpace(string(b)) == state, err
	})
}

// awaitFrozen waits until every process is where it should be. Thawing needs
// no wait. A process that starts others while it is frozen needs some tries.
func awaitFrozen(frozen bool, done func() (bool, error)) error {
	if !frozen {
		return nil
	}
	for pause := 20 * time.Microsecond; pause < 4*time.Second; pause *= 2 {
		ok, err := done()
		if err != nil {
			return fmt.Errorf("freezer: %w", err)
		}
		if ok {
			return nil
		}
		time.Sleep(pause)
	}
	return errors.New("freezer: a process does not freeze")
}

func (g *group1) usage(init int) (c counters, err error) {
	if dir := g.dirs["cpuacct"]; dir != "" {
		ns, err := g.files.int(dir, "cpuacct.usage")
		if err != nil {
			return c, err
		}
		c.cpu = time.Duration(ns)
	}
	dir := g.dirs["memory"]
	used, err := g.files.int(dir, "memory.usage_in_bytes")
	if err != nil {
		return c, err
	}
	peak, err := g.peakCounted()
	if err != nil {
		return c, err
	}
	pids, err := readPIDs(dir)
	if err != nil {
		return c, err
	}
	c.oomKills = g.oomKills()
	return c, c.countMemory(used, peak, pids, init, func() (int64, error) {
		stat, err := g.files.keys(dir, "memory.stat")
		return stat["total_inactive_file"] + stat["total_active_file"], err
	})
}

func (g *group1) oomKills() int64 {
	k, _ := g.files.keys(g.dirs["memory"], "memory.oom_control")
	return k["oom_kill"]
}

func (g *group1) peakCounted() (int64, error) {
	return g.files.int(g.dirs["memory"], "memory.max_usage_in_bytes")
}

func (g *group1) resetPeak() error {
	pids, err := readPIDs(g.dirs["memory"])
	if err != nil {
		return err
	}
	resetResident(pids)
	return writeFile(g.dirs["memory"], "memory.max_usage_in_bytes", "0")
}

func (g *group1) remove() error {
	g.files.close()
	var errs []error
	for _, dir := range g.made {
		errs = append(errs, removeDir(dir))
	}
	return errors.Join(errs...)
}
