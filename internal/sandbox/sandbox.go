// Package sandbox defines what an execution environment stands in: an isolated
// place with files, processes, memory, CPU and a network of its own.
//
// A Driver makes Instances of one kind. The linux driver isolates with
// namespaces, cgroups and seccomp; the process driver runs plain child
// processes where none of that is to be had, and says so in its Report. The
// package knows nothing about functions, runtimes or AWS beyond the figures
// that define an environment's size.
package sandbox

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"regexp"
	"strings"
	"syscall"
	"time"
)

// ErrClosed is returned by every method of a Driver or Instance that was
// closed.
var ErrClosed = errors.New("sandbox: closed")

// ErrUnsupported is returned (wrapped, with the reason) for what a driver
// cannot do on this machine: a driver that does not isolate has no Freeze, a
// kernel without namespaces has no linux driver. Nothing was done.
var ErrUnsupported = errors.New("sandbox: not supported here")

// Driver makes sandboxes of one kind. Its methods may be called concurrently.
type Driver interface {
	// Name is the driver's short name: "linux", "process".
	Name() string

	// Report says what this driver isolates on this machine and what is
	// missing and why. It is computed when the driver is made and does not
	// change.
	Report() Report

	// Create makes a sandbox with no process of the caller's in it. It is
	// fast when sandboxes were prepared ahead. The instance outlives ctx,
	// which bounds only the creation. A Spec that breaks a rule gives an
	// error that names the field; what the machine refuses gives an error
	// that names the step. No half-made sandbox is left behind.
	Create(ctx context.Context, spec Spec) (Instance, error)

	// Close destroys all instances and removes everything the driver made:
	// processes, mounts, cgroups, network interfaces. Create fails after it.
	Close() error
}

// Network says what a sandbox can reach.
type Network int

const (
	// NetworkEgress lets the sandbox open connections through the host to
	// the world, but not to the host itself, its link-local metadata
	// addresses or other sandboxes. Nothing can connect to it except through
	// Instance.Dial.
	NetworkEgress Network = iota
	// NetworkNone gives a loopback interface and nothing else.
	NetworkNone
)

func (n Network) String() string {
	switch n {
	case NetworkEgress:
		return "egress"
	case NetworkNone:
		return "none"
	}
	return fmt.Sprintf("Network(%d)", int(n))
}

// Spec is the shape of a sandbox. Zero limits mean "no limit of its own".
type Spec struct {
	// ID names the sandbox, unique among the driver's live instances:
	// 1 to 64 of [a-z0-9-].
	ID string

	MemoryBytes int64 // limit over all processes of the sandbox, without what /tmp holds
	MilliCPU    int   // thousandths of one CPU per wall-clock time; see MilliCPUFor
	TmpBytes    int64 // size of the writable /tmp; 0 means 512 MiB
	MaxPIDs     int   // processes and threads; 0 means 1024
	MaxFiles    int   // open files per process; 0 means 1024

	// Root is the directory used as the root file system, read-only; empty
	// means the host's own userland (/usr, /bin, /lib and the files of /etc
	// that programs need), read-only, so that dynamically linked
	// interpreters of the host run.
	Root string

	// Mounts are attached in order, always read-only, without set-user-id
	// and device files. Several directories with one Target are merged, the
	// later hiding the earlier.
	Mounts []Mount

	Network Network
}

// Mount attaches a host directory or file to a path of the sandbox.
type Mount struct {
	Source string // absolute path on the host
	Target string // absolute path inside: /var/task, /opt, /var/runtime, /var/lang, ...
}

// Instance is one sandbox. Its methods may be called concurrently, except that
// Close ends all others.
type Instance interface {
	// ID is the Spec's.
	ID() string

	// Listen opens TCP listeners on addresses of the sandbox's own loopback,
	// such as "127.0.0.1:9001": processes inside connect to them, nobody
	// else can. A driver without network isolation listens on a free port
	// of the host's loopback instead, so callers use Listener.Addr. Either
	// all are opened or none. The caller closes them; they survive KillAll
	// but not Close.
	Listen(addrs ...string) ([]net.Listener, error)

	// Dial connects to a TCP port that a process inside listens on. addr is
	// "host:port"; the names localhost, sandbox and sandbox.localdomain are
	// the sandbox itself.
	Dial(ctx context.Context, addr string) (net.Conn, error)

	// Start runs a program inside, in a session of its own. An error means
	// that no process was started; one that wraps os.ErrNotExist or
	// os.ErrPermission means that the program itself is missing or is not
	// executable.
	Start(p Process) (Proc, error)

	// Freeze stops every process inside without their knowing; Thaw
	// continues them. Both are idempotent. ErrUnsupported where there is no
	// freezer.
	Freeze() error
	Thaw() error

	// SetCPU changes Spec.MilliCPU: AWS runs the init phase with more CPU
	// than the memory size buys. 0 means no limit. A driver without CPU
	// limits ignores it.
	SetCPU(milliCPU int) error

	// Usage reads the counters.
	Usage() (Usage, error)

	// PeakMemory is Usage's PeakMemoryBytes, for those who ask after every
	// little thing that runs inside: much cheaper as long as memory in use
	// does not rise, and then at most a second old for pages of program files.
	PeakMemory() (int64, error)

	// ResetPeak begins a new period for Usage.PeakMemoryBytes.
	ResetPeak() error

	// KillAll kills everything that runs inside, frozen or not, and returns
	// when nothing is left. The sandbox, its listeners and its /tmp stay,
	// ready for another Start.
	KillAll(ctx context.Context) error

	// Close destroys the sandbox. When it returns, no process of it runs;
	// what takes long and disturbs nobody is done afterwards, in the
	// background. Closing twice is allowed.
	Close() error
}

// Process is a program to start.
type Process struct {
	Path string   // absolute path inside the sandbox
	Args []string // argv including argv[0]; empty means Path alone
	Env  []string // "NAME=value"; nothing is added
	Dir  string   // working directory inside; empty means "/"

	// Stdout and Stderr receive what the process writes; nil discards it.
	// An *os.File is handed to the process as it is. Any other Writer gets
	// the bytes from a goroutine that reads a pipe; it sees writes until
	// every holder of the pipe is gone, and Proc.Done waits for that only
	// for the process's own output, see Proc. The same Writer in both gets
	// one pipe, so that the order is kept.
	Stdout, Stderr io.Writer
}

// Proc is a started process.
type Proc interface {
	// PID is the host's number for the process, 0 if the driver has none.
	PID() int

	// Signal sends sig to the process. os.ErrProcessDone after it ended.
	Signal(sig syscall.Signal) error

	// Done is closed when the process ended and what it had written to
	// Stdout and Stderr was handed on. Children that hold its pipes open do
	// not delay it by more than a moment.
	Done() <-chan struct{}

	// Exit says how the process ended; valid after Done.
	Exit() Exit
}

// Exit is the end of a process.
type Exit struct {
	Code      int            // exit status; -1 if a signal ended it
	Signal    syscall.Signal // the signal that ended it, or 0
	OOMKilled bool           // the memory limit killed it or another process of the sandbox with it
	At        time.Time      // when it was found ended
}

// String gives "exit status 1" or "signal: killed", as os/exec does.
func (e Exit) String() string {
	if e.Signal != 0 {
		return "signal: " + e.Signal.String()
	}
	return fmt.Sprintf("exit status %d", e.Code)
}

// Usage is a reading of a sandbox's counters.
type Usage struct {
	CPU             time.Duration // CPU time of all processes since Create
	MemoryBytes     int64         // in use now: resident, without cached files
	PeakMemoryBytes int64         // most in use since ResetPeak or Create; at most Spec.MemoryBytes
	OOMKills        int64         // processes killed for memory since Create
	TmpBytes        int64         // held by /tmp now
	Processes       int           // processes of the caller's that run now, their children included
}

// Report says what a driver isolates on this machine.
type Report struct {
	Driver string `json:"driver"`
	Items  []Item `json:"items"`
}

// Item is one line of a Report.
type Item struct {
	Name   string `json:"name"`             // "memory limit", "network", ...
	OK     bool   `json:"ok"`               // isolated here
	Detail string `json:"detail"`           // how, or what is missing and why
	Remedy string `json:"remedy,omitempty"` // what to do about it; empty when OK or when nothing helps
}

// Missing returns the items that are not OK.
func (r Report) Missing() []Item {
	var m []Item
	for _, it := range r.Items {
		if !it.OK {
			m = append(m, it)
		}
	}
	return m
}

// String gives one line per item, for a terminal or a log.
func (r Report) String() string {
	var b strings.Builder
	for _, it := range r.Items {
		mark := "ok     "
		if !it.OK {
			mark = "MISSING"
		}
		fmt.Fprintf(&b, "%s  %-16s %s\n", mark, it.Name, it.Detail)
		if !it.OK && it.Remedy != "" {
			fmt.Fprintf(&b, "         %-16s %s\n", "", it.Remedy)
		}
	}
	return b.String()
}

// Defaults for the zero values of a Spec.
const (
	DefaultTmpBytes = 512 << 20 // AWS's smallest ephemeral storage
	DefaultMaxPIDs  = 1024      // AWS's documented limit of processes and threads
	DefaultMaxFiles = 1024      // AWS's documented limit of file descriptors
)

// MilliCPUFor is the CPU share that AWS gives with a memory size: 1,769 MB buy
// one whole CPU, in proportion below and above.
func MilliCPUFor(memoryMB int) int {
	return max(1, memoryMB*1000/1769)
}

var idPattern = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,63}$`)

// WithDefaults checks the spec and returns it with zero values replaced by
// their defaults. Drivers call it first.
func (s Spec) WithDefaults() (Spec, error) {
	if !idPattern.MatchString(s.ID) {
		return s, fmt.Errorf("sandbox: ID %q is not 1 to 64 of [a-z0-9-]", s.ID)
	}
	if s.MemoryBytes < 0 || s.MilliCPU < 0 || s.TmpBytes < 0 || s.MaxPIDs < 0 || s.MaxFiles < 0 {
		return s, fmt.Errorf("sandbox %s: a limit is negative", s.ID)
	}
	if s.Root != "" && !clean(s.Root) {
		return s, fmt.Errorf("sandbox %s: Root %q is not an absolute, clean path", s.ID, s.Root)
	}
	for _, m := range s.Mounts {
		if !clean(m.Source) {
			return s, fmt.Errorf("sandbox %s: mount source %q is not an absolute, clean path", s.ID, m.Source)
		}
		if !clean(m.Target) || m.Target == "/" {
			return s, fmt.Errorf("sandbox %s: mount target %q is not an absolute, clean path below /", s.ID, m.Target)
		}
		for _, taken := range []string{"/proc", "/dev", "/tmp", "/sys"} {
			if m.Target == taken || strings.HasPrefix(m.Target, taken+"/") {
				return s, fmt.Errorf("sandbox %s: mount target %q lies in %s, which is the sandbox's own", s.ID, m.Target, taken)
			}
		}
	}
	if s.Network != NetworkEgress && s.Network != NetworkNone {
		return s, fmt.Errorf("sandbox %s: unknown network %v", s.ID, s.Network)
	}
	if s.TmpBytes == 0 {
		s.TmpBytes = DefaultTmpBytes
	}
	if s.MaxPIDs == 0 {
		s.MaxPIDs = DefaultMaxPIDs
	}
	if s.MaxFiles == 0 {
		s.MaxFiles = DefaultMaxFiles
	}
	return s, nil
}

// clean reports whether p is absolute, without "..", "." or doubled slashes,
// and free of what a mount option string would misread.
func clean(p string) bool {
	if !strings.HasPrefix(p, "/") || strings.ContainsAny(p, "\x00\n") {
		return false
	}
	if p == "/" {
		return true
	}
	for part := range strings.SplitSeq(p[1:], "/") {
		if part == "" || part == "." || part == ".." {
			return false
		}
	}
	return true
}
