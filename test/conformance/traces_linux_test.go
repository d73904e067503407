package conformance

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/google/nftables"
)

// traces says what a server could leave on the machine. Other servers may run on it, so that everything is told apart by
// the server's process number, its data directory, or the place that it took among the servers of the machine.
type traces struct {
	pid  int
	data string
	slot string // empty without network
}

// tracesOf looks at a running server.
func tracesOf(pid int, data string) traces {
	t := traces{pid: pid, data: data}
	sockets := map[string]bool{}
	for _, link := range links(fmt.Sprintf("/proc/%d/fd", pid)) {
		if inode, ok := strings.CutPrefix(link, "socket:["); ok {
			sockets[strings.TrimSuffix(inode, "]")] = true
		}
	}
	b, _ := os.ReadFile("/proc/net/unix")
	for line := range strings.Lines(string(b)) {
		f := strings.Fields(line)
		if len(f) < 8 || !sockets[f[6]] {
			continue
		}
		if slot, ok := strings.CutPrefix(f[7], "@mayfly-sandbox-"); ok {
			t.slot = slot
		}
	}
	return t
}

// left lists what is there of a server that ended.
func (t traces) left() (found []string) {
	owner := fmt.Sprintf("%d-", t.pid)
	filepath.WalkDir("/sys/fs/cgroup", func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() && filepath.Base(filepath.Dir(path)) == "mayfly" && strings.HasPrefix(d.Name(), owner) {
			found = append(found, "cgroup "+path)
		}
		return nil
	})
	procs, _ := filepath.Glob("/proc/[0-9]*")
	for _, p := range procs {
		exe, _ := os.Readlink(p + "/exe")
		cgroup, _ := os.ReadFile(p + "/cgroup")
		stat, _ := os.ReadFile(p + "/stat")
		if strings.Contains(string(cgroup), "/mayfly/"+owner) || exe == mayfly && orphan(string(stat)) {
			found = append(found, "process "+filepath.Base(p)+" "+exe)
		}
	}
	mounts, _ := os.ReadFile("/proc/self/mountinfo")
	for line := range strings.Lines(string(mounts)) {
		if strings.Contains(line, t.data) {
			found = append(found, "mount "+line)
		}
	}
	loops, _ := filepath.Glob("/sys/block/loop*/loop/backing_file")
	for _, l := range loops {
		if b, err := os.ReadFile(l); err == nil && strings.HasPrefix(string(b), t.data) {
			found = append(found, "loop device for "+string(b))
		}
	}
	if t.slot != "" {
		interfaces, _ := os.ReadDir("/sys/class/net")
		for _, i := range interfaces {
			if strings.HasPrefix(i.Name(), "mf"+t.slot+"x") {
				found = append(found, "interface "+i.Name())
			}
		}
	}
	if c, err := nftables.New(); err == nil {
		tables, _ := c.ListTables()
		for _, table := range tables {
			if strings.HasPrefix(table.Name, "mayfly-"+owner) {
				found = append(found, "table "+table.Name)
			}
		}
	}
	return found
}

// orphan reports whether a process lost its parent. Those of servers that still run have one.
func orphan(stat string) bool {
	f := strings.Fields(stat[strings.LastIndexByte(stat, ')')+1:])
	if len(f) < 2 {
		return false
	}
	parent, err := strconv.Atoi(f[1])
	return err == nil && parent == 1
}

func links(dir string) (all []string) {
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		if to, err := os.Readlink(filepath.Join(dir, e.Name())); err == nil {
			all = append(all, to)
		}
	}
	return all
}
