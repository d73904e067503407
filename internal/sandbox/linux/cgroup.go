//go:build linux

package linux

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// hierarchy is where a driver's cgroups live: below the cgroup that Mayfly
// itself is in, in "mayfly/<owner>". cgroup1 and cgroup2 implement it for the
// two versions of the kernel's interface.
type hierarchy interface {
	// create makes a cgroup with no process in it.
	create(name string) (cgroup, error)
	// freezer is a directory whose children have the freezer's files.
	freezer() string
	// close removes the driver's own directory, which must be empty.
	close() error
	// items reports which controllers there are.
	items() []item
}

// cgroup holds the processes of one sandbox.
type cgroup interface {
	// fd is a directory for CLONE_INTO_CGROUP, or -1 in version 1.
	fd() int
	// tasks opens the files into which the only thread of a process writes
	// "0" to join; none in version 2. A process that joins by itself needs
	// no lock on all processes of the machine, which takes up to ten
	// milliseconds to get; that is why nobody adds it from outside.
	tasks() ([]*os.File, error)
	// limit sets the memory, CPU and process limits; 0 is none.
	limit(memory int64, milliCPU, pids int) error
	setCPU(milli int) error
	freeze(frozen bool) error
	// usage reads the counters; init is process 1, which is left out.
	usage(init int) (counters, error)
	oomKills() int64
	// peakCounted is the most memory that the cgroup has counted since the
	// reset, caches included; 0 where the kernel does not say.
	peakCounted() (int64, error)
	resetPeak() error
	// remove removes the cgroup once its processes are gone.
	remove() error
}

// counters are a cgroup's readings.
//
// Memory used is the resident memory of the processes, as they see it
// themselves, or what the cgroup counts, whichever is more: the cgroup knows
// of processes that ended and of the kernel's own memory, but not of pages of
// program files that another sandbox has read first. Cached file pages do not
// count, since they are given back when memory is needed.
type counters struct {
	cpu          time.Duration
	memory, peak int64
	oomKills     int64
	processes    int
}

// countMemory completes the counters from what the cgroup's files say; stat
// gives its file cache. Process 1, in pids too, is not the function's.
func (c *counters) countMemory(used, peak int64, pids []int, init int, stat func() (int64, error)) error {
	for _, pid := range pids {
		if pid == init {
			continue
		}
		rss, most := residentMemory(pid)
		c.memory += rss
		c.peak += most
		c.processes++
	}
	if max(used, peak) > c.memory || peak > c.peak {
		cache, err := stat()
		if err != nil {
			return err
		}
		c.memory = max(c.memory, used-cache)
		c.peak = max(c.peak, peak-cache)
	}
	c.peak = max(c.peak, c.memory)
	return nil
}

// residentMemory reads a process's resident memory and the most since the
// last reset, in bytes; zeros if it has ended.
func residentMemory(pid int) (now, most int64) {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/status")
	if err != nil {
		return 0, 0
	}
	field := func(name string) int64 {
		_, rest, _ := bytes.Cut(b, []byte("\n"+name+":"))
		line, _, _ := bytes.Cut(rest, []byte("\n"))
		n, _ := strconv.ParseInt(string(bytes.TrimSuffix(bytes.TrimSpace(line), []byte(" kB"))), 10, 64)
		return n << 10
	}
	return field("VmRSS"), field("VmHWM")
}

// resetResident begins a new period for the most.
func resetResident(pids []int) {
	for _, pid := range pids {
		if f, err := os.OpenFile("/proc/"+strconv.Itoa(pid)+"/clear_refs", os.O_WRONLY, 0); err == nil {
			f.WriteString("5")
			f.Close()
		}
	}
}

// reader reads the files of a cgroup often, so it keeps them open.
type reader struct {
	mu    sync.Mutex
	files map[string]*os.File
}

// file opens a file, or gives it as it is open.
func (r *reader) file(dir, name string) (*os.File, error) {
	path := dir + "/" + name
	r.mu.Lock()
	defer r.mu.Unlock()
	f := r.files[path]
	if f == nil {
		var err error
		if f, err = os.Open(path); err != nil {
			return nil, err
		}
		if r.files == nil {
			r.files = map[string]*os.File{}
		}
		r.files[path] = f
	}
	return f, nil
}

// read gives a file's text.
func (r *reader) read(dir, name string) ([]byte, error) {
	f, err := r.file(dir, name)
	if err != nil {
		return nil, err
	}
	buf := make([]byte, 4096)
	n := 0
	for {
		m, err := f.ReadAt(buf[n:], int64(n))
		n += m
		if err == io.EOF {
			return buf[:n], nil
		}
		if err != nil {
			return nil, err
		}
		buf = append(buf, make([]byte, len(buf))...)
	}
}

func (r *reader) close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, f := range r.files {
		f.Close()
	}
	r.files = nil
}

// int reads a file of one number. It is read after every invocation, so one
// call of the kernel must do: no number needs more than one, and ReadAt would
// ask again for the end of the file.
func (r *reader) int(dir, name string) (int64, error) {
	f, err := r.file(dir, name)
	if err != nil {
		return 0, err
	}
	raw, err := f.SyscallConn()
	if err != nil {
		return 0, err
	}
	var buf [32]byte
	var n int
	var failed error
	err = raw.Control(func(fd uintptr) {
		for {
			if n, failed = syscall.Pread(int(fd), buf[:], 0); failed != syscall.EINTR {
				return
			}
		}
	})
	if err := errors.Join(err, failed); err != nil {
		return 0, err
	}
	return strconv.ParseInt(string(bytes.TrimSpace(buf[:n])), 10, 64)
}

// readPIDs reads cgroup.procs. Version 1 shows to whoever keeps that file open
// what it was at the first reading.
func readPIDs(dir string) ([]int, error) {
	b, err := os.ReadFile(filepath.Join(dir, "cgroup.procs"))
	if err != nil {
		return nil, err
	}
	var pids []int
	for line := range bytes.Lines(b) {
		if n, err := strconv.Atoi(string(bytes.TrimSpace(line))); err == nil {
			pids = append(pids, n)
		}
	}
	return pids, nil
}

// keys reads a file of "key value" lines.
func (r *reader) keys(dir, name string) (map[string]int64, error) {
	b, err := r.read(dir, name)
	if err != nil {
		return nil, err
	}
	out := map[string]int64{}
	for line := range bytes.Lines(b) {
		if key, value, ok := bytes.Cut(bytes.TrimSpace(line), []byte(" ")); ok {
			if n, err := strconv.ParseInt(string(value), 10, 64); err == nil {
				out[string(key)] = n
			}
		}
	}
	return out, nil
}

// item is a name and whether it is there, with the reason if not.
type item struct {
	name, detail, remedy string
	ok                   bool
}

// cpuPeriod is the period of the CPU quota; Lambda's is 20 ms.
const cpuPeriod = 20 * time.Millisecond

// cpuQuota is the CPU time per period, in microseconds; the kernel's least is
// one millisecond.
func cpuQuota(milli int) int64 {
	return max(1000, int64(milli)*cpuPeriod.Microseconds()/1000)
}

// owner names the run that a cgroup or table belongs to: the process's number
// and its start time, which together never come again until the next boot.
func owner() (string, error) {
	start, err := startTime(os.Getpid())
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%d-%d-%d", os.Getpid(), start, driverCount.Add(1)), nil
}

// ownerDead reports whether name is one that owner gave to a process that is
// no more.
func ownerDead(name string) bool {
	f := strings.Split(name, "-")
	if len(f) != 3 {
		return false
	}
	pid, err1 := strconv.Atoi(f[0])
	start, err2 := strconv.ParseUint(f[1], 10, 64)
	if err1 != nil || err2 != nil {
		return false
	}
	now, err := startTime(pid)
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ESRCH) || err == nil && now != start
}

// startTime is field 22 of a process's stat: ticks since boot. A zombie counts
// as gone.
func startTime(pid int) (uint64, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	s := string(b)
	f := strings.Fields(s[strings.LastIndexByte(s, ')')+1:])
	if len(f) < 20 {
		return 0, fmt.Errorf("unreadable stat of process %d", pid)
	}
	if f[0] == "Z" || f[0] == "X" {
		return 0, fs.ErrNotExist
	}
	return strconv.ParseUint(f[19], 10, 64)
}

// newHierarchy finds the machine's cgroups and cleans what dead owners left.
func newHierarchy(name string) (hierarchy, error) {
	mounts, err := cgroupMounts("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	own, err := ownCgroups("/proc/self/cgroup")
	if err != nil {
		return nil, err
	}
	return pickHierarchy(mounts, own, name)
}

// pickHierarchy takes version 2 if its controllers are there, else version 1.
func pickHierarchy(mounts map[string]cgroupMount, own map[string]string, name string) (hierarchy, error) {
	var reason error
	if m, ok := mounts[""]; ok {
		h, err := newCgroup2(m.path(own[""]), name)
		if err == nil {
			return h, nil
		}
		reason = err
	}
	h, err := newCgroup1(mounts, own, name)
	if err == nil {
		return h, nil
	}
	return nil, errors.Join(err, reason)
}

// cgroupMount is where a hierarchy is mounted, and which part of it.
type cgroupMount struct{ point, root string }

// path is the directory of the cgroup named in /proc/self/cgroup.
func (m cgroupMount) path(own string) string {
	if rel, ok := strings.CutPrefix(own, strings.TrimSuffix(m.root, "/")+"/"); ok {
		return filepath.Join(m.point, rel)
	}
	// Ours lies outside of what is mounted (a container without a cgroup
	// namespace): the mount's root is the best that there is.
	return m.point
}

// cgroupMounts maps the version 1 controllers to their mounts, and "" to that
// of version 2.
func cgroupMounts(file string) (map[string]cgroupMount, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	out := map[string]cgroupMount{}
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		before, after, ok := strings.Cut(lines.Text(), " - ")
		b, a := strings.Fields(before), strings.Fields(after)
		if !ok || len(b) < 6 || len(a) < 3 {
			continue
		}
		m := cgroupMount{point: unescape(b[4]), root: unescape(b[3])}
		switch a[0] {
		case "cgroup2":
			if _, seen := out[""]; !seen {
				out[""] = m
			}
		case "cgroup":
			for option := range strings.SplitSeq(a[2], ",") {
				if _, seen := out[option]; !seen {
					out[option] = m
				}
			}
		}
	}
	return out, lines.Err()
}

// unescape undoes mountinfo's octal escapes.
func unescape(s string) string {
	return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(s)
}

// ownCgroups maps the version 1 controllers to our cgroup's path, and "" to
// that of version 2.
func ownCgroups(file string) (map[string]string, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	out := map[string]string{}
	for line := range strings.Lines(string(b)) {
		f := strings.SplitN(strings.TrimSuffix(line, "\n"), ":", 3)
		if len(f) != 3 {
			continue
		}
		for c := range strings.SplitSeq(f[1], ",") {
			out[c] = f[2]
		}
	}
	return out, nil
}

func writeFile(dir, name, text string) error {
	f, err := os.OpenFile(filepath.Join(dir, name), os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	return errors.Join(err, f.Close())
}

// driverCount tells the drivers of one process apart.
var driverCount atomic.Int64

// removeDir removes a cgroup directory. The kernel refuses for a moment after
// the last process ended.
func removeDir(dir string) error {
	var err error
	for pause := 200 * time.Microsecond; pause < time.Second; pause *= 2 {
		err = syscall.Rmdir(dir)
		if err == nil || err == syscall.ENOENT {
			return nil
		}
		if err != syscall.EBUSY && err != syscall.EINTR {
			break
		}
		time.Sleep(pause)
	}
	return &os.PathError{Op: "rmdir", Path: dir, Err: err}
}

// cleanDead kills what owners that are no more left running below the "mayfly"
// directories, and removes their cgroups. All are killed and thawed before any
// is removed: in version 1 frozen processes do not die.
func cleanDead(bases ...string) {
	var dirs []string
	for _, base := range bases {
		owners, _ := os.ReadDir(base)
		for _, o := range owners {
			if !o.IsDir() || !ownerDead(o.Name()) {
				continue
			}
			dir := filepath.Join(base, o.Name())
			boxes, _ := os.ReadDir(dir)
			for _, b := range boxes {
				if !b.IsDir() {
					continue
				}
				box := filepath.Join(dir, b.Name())
				pids, _ := os.ReadFile(filepath.Join(box, "cgroup.procs"))
				for _, pid := range strings.Fields(string(pids)) {
					if n, err := strconv.Atoi(pid); err == nil {
						syscall.Kill(n, syscall.SIGKILL)
					}
				}
				writeFile(box, "freezer.state", "THAWED")
				writeFile(box, "cgroup.freeze", "0")
				dirs = append(dirs, box)
			}
			dirs = append(dirs, dir)
		}
	}
	for _, dir := range dirs {
		removeDir(dir)
	}
}
