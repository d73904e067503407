//go:build linux

package linux

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/mayflyhq/mayfly/internal/sandbox"
)

// The user that functions run as, by AWS's name and numbers.
const (
	userName = "sbx_user1051"
	userID   = 993
	groupID  = 990
)

// skeleton is the root file system of all sandboxes that run on the host's
// userland: a small file system in memory with directories to mount on and the
// files of /etc. Sandboxes see it read-only and cannot tell it from their own;
// the driver keeps writing to it through the mount that it holds.
type skeleton struct {
	tree int // the mount that we write through

	mu       sync.Mutex
	resolver []byte // resolv.conf as last written
	points   map[string]bool
}

// hostTrees are the directories of the host that programs need to run.
var hostTrees = []string{"/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32",
	"/etc/alternatives", "/etc/ssl", "/etc/pki", "/etc/ca-certificates", "/etc/crypto-policies", "/nix/store"}

// hostFiles are copied from the host if they are there.
var hostFiles = []string{"/etc/ld.so.cache", "/etc/ld.so.conf", "/etc/gai.conf", "/etc/host.conf",
	"/etc/services", "/etc/protocols", "/etc/mime.types", "/etc/os-release"}

const etcPasswd = "root:x:0:0:root:/root:/sbin/nologin\n" +
	userName + ":x:993:990::/home/" + userName + ":/sbin/nologin\n"

const etcGroup = "root:x:0:\n" + userName + ":x:990:\n"

const etcHosts = "127.0.0.1 localhost\n127.0.0.1 sandbox.localdomain sandbox\n"

const etcNSSwitch = "passwd: files\ngroup: files\nhosts: files dns\nservices: files\nprotocols: files\n"

// newSkeleton makes the root and returns it with the mounts that belong to it:
// targets and their trees, the root first.
func newSkeleton() (_ *skeleton, targets []string, trees []int, err error) {
	defer func() {
		if err != nil {
			for _, t := range trees {
				unix.Close(t)
			}
		}
	}()
	s, err := bareSkeleton("/opt", "/var/task", "/var/runtime", "/var/lang", "/mnt", "/root", "/home")
	if err != nil {
		return nil, nil, nil, err
	}
	root := s.tree
	targets, trees = []string{"/"}, []int{root}
	for name, text := range map[string]string{"/etc/passwd": etcPasswd, "/etc/group": etcGroup, "/etc/nsswitch.conf": etcNSSwitch} {
		if err := s.write(name, []byte(text)); err != nil {
			return nil, nil, nil, err
		}
	}
	for _, name := range hostFiles {
		if b, err := os.ReadFile(name); err == nil && len(b) < 4<<20 {
			if err := s.write(name, b); err != nil {
				return nil, nil, nil, err
			}
		}
	}
	for _, dir := range hostTrees {
		st, err := os.Lstat(dir)
		if err != nil {
			continue
		}
		if st.Mode()&fs.ModeSymlink != 0 {
			to, err := os.Readlink(dir)
			if err != nil {
				return nil, nil, nil, err
			}
			if err := unix.Symlinkat(to, root, strings.TrimPrefix(dir, "/")); err != nil {
				return nil, nil, nil, &os.PathError{Op: "symlink", Path: dir, Err: err}
			}
			continue
		}
		if !st.IsDir() {
			continue
		}
		if err := s.mkdir(dir); err != nil {
			return nil, nil, nil, err
		}
		tree, err := bindTree(dir, readOnly)
		if err != nil {
			return nil, nil, nil, err
		}
		targets, trees = append(targets, dir), append(trees, tree)
	}
	dev, err := newDev()
	if err != nil {
		return nil, nil, nil, err
	}
	return s, append(targets, "/dev"), append(trees, dev), nil
}

// bareSkeleton makes a file system with what every root needs.
func bareSkeleton(dirs ...string) (*skeleton, error) {
	tree, err := newFS("tmpfs", unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NODEV, "mode=0755", "size=16m", "nr_inodes=16k")
	if err != nil {
		return nil, err
	}
	s := &skeleton{tree: tree, points: map[string]bool{}}
	for _, dir := range append(dirs, "/dev", "/proc", "/sys", "/tmp", "/etc") {
		if err := s.mkdir(dir); err != nil {
			unix.Close(tree)
			return nil, err
		}
	}
	if err := s.write("/etc/hosts", []byte(etcHosts)); err != nil {
		unix.Close(tree)
		return nil, err
	}
	s.refreshResolver()
	return s, nil
}

// imageTree makes a root of a directory, with the places to mount on and the
// files of the network laid over it.
func imageTree(dir string, ls []layer) (int, error) {
	s, err := bareSkeleton()
	if err != nil {
		return -1, err
	}
	defer unix.Close(s.tree)
	for _, l := range ls {
		st, err := os.Stat(l.sources[0])
		if err != nil {
			return -1, err
		}
		if _, err := s.mountPoint(l.target, !st.IsDir()); err != nil {
			return -1, err
		}
	}
	return overlayTree([]string{dir, fmt.Sprintf("/proc/self/fd/%d", s.tree)})
}

// newDev makes /dev with the devices that cannot do harm.
func newDev() (tree int, err error) {
	tree, err = newFS("tmpfs", unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NOEXEC, "mode=0755", "size=64k", "nr_inodes=64")
	if err != nil {
		return -1, err
	}
	defer func() {
		if err != nil {
			unix.Close(tree)
		}
	}()
	for name, minor := range map[string]uint32{"null": 3, "zero": 5, "full": 7, "random": 8, "urandom": 9} {
		if err := unix.Mknodat(tree, name, unix.S_IFCHR|0o666, int(unix.Mkdev(1, minor))); err != nil {
			return -1, fmt.Errorf("mknod /dev/%s: %w", name, err)
		}
		if err := unix.Fchmodat(tree, name, 0o666, 0); err != nil { // whatever our umask is
			return -1, fmt.Errorf("chmod /dev/%s: %w", name, err)
		}
	}
	for name, to := range map[string]string{"fd": "/proc/self/fd", "stdin": "/proc/self/fd/0", "stdout": "/proc/self/fd/1", "stderr": "/proc/self/fd/2"} {
		if err := unix.Symlinkat(to, tree, name); err != nil {
			return -1, fmt.Errorf("symlink /dev/%s: %w", name, err)
		}
	}
	if err := setAttr(tree, unix.MOUNT_ATTR_RDONLY); err != nil {
		return -1, fmt.Errorf("make /dev read-only: %w", err)
	}
	return tree, nil
}

// mkdir makes a directory and its parents. The path was checked to be clean,
// and the skeleton holds no links except to the host's userland, which is not
// followed: it is mounted elsewhere.
func (s *skeleton) mkdir(path string) error {
	parts := strings.Split(strings.TrimPrefix(path, "/"), "/")
	for i := range parts {
		name := strings.Join(parts[:i+1], "/")
		err := unix.Mkdirat(s.tree, name, 0o755)
		if err == nil {
			err = unix.Fchmodat(s.tree, name, 0o755, 0)
		}
		if err != nil && err != unix.EEXIST {
			return &os.PathError{Op: "mkdir", Path: path, Err: err}
		}
	}
	return nil
}

// write makes or replaces a file. It writes in place, since a sandbox that has
// the file open must see the new content too.
func (s *skeleton) write(path string, text []byte) error {
	name := strings.TrimPrefix(path, "/")
	fd, err := unix.Openat(s.tree, name, unix.O_WRONLY|unix.O_CREAT|unix.O_TRUNC|unix.O_CLOEXEC|unix.O_NOFOLLOW, 0o644)
	if err != nil {
		return &os.PathError{Op: "create", Path: path, Err: err}
	}
	f := os.NewFile(uintptr(fd), path)
	_, err = f.Write(text)
	return errors.Join(err, f.Chmod(0o644), f.Close())
}

// mountPoint makes sure that a target can be mounted on, or says that this is
// not certain, because the target lies in something that is mounted itself.
func (s *skeleton) mountPoint(target string, file bool) (certain bool, err error) {
	for _, dir := range hostTrees {
		if strings.HasPrefix(target, dir+"/") {
			return false, nil
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.points[target] {
		return true, nil
	}
	dir := target
	if file {
		dir = filepath.Dir(target)
	}
	if err := s.mkdir(dir); err != nil {
		return false, err
	}
	if file {
		var st unix.Stat_t
		if unix.Fstatat(s.tree, strings.TrimPrefix(target, "/"), &st, unix.AT_SYMLINK_NOFOLLOW) != nil {
			if err := s.write(target, nil); err != nil {
				return false, err
			}
		}
	}
	s.points[target] = true
	return true, nil
}

// refreshResolver brings the sandboxes' resolv.conf up to date with the host's.
func (s *skeleton) refreshResolver() {
	text, _ := resolvConf()
	s.mu.Lock()
	defer s.mu.Unlock()
	if text != nil && !bytes.Equal(text, s.resolver) && s.write("/etc/resolv.conf", text) == nil {
		s.resolver = text
	}
}

// resolvConf gives the host's resolver configuration as a sandbox can use it,
// and whether it names a server that a sandbox can reach. Where the host asks
// itself, systemd-resolved's list of the servers behind it is used.
func resolvConf() ([]byte, bool) {
	var first []byte
	for _, path := range []string{"/etc/resolv.conf", "/run/systemd/resolve/resolv.conf", "/run/NetworkManager/no-stub-resolv.conf"} {
		b, err := os.ReadFile(path)
		if err != nil {
			continue
		}
		if first == nil {
			first = b
		}
		if slices.ContainsFunc(nameservers(b), func(s string) bool {
			return !strings.HasPrefix(s, "127.") && !strings.Contains(s, ":")
		}) {
			return b, true
		}
	}
	return first, false
}

func nameservers(resolv []byte) []string {
	var servers []string
	for line := range strings.Lines(string(resolv)) {
		if f := strings.Fields(line); len(f) >= 2 && f[0] == "nameserver" {
			servers = append(servers, f[1])
		}
	}
	return servers
}

// prepareProgram is what process 1 does first: the mounts that every sandbox
// has.
func prepareProgram(netns int, tasks []*os.File) *program {
	p := &program{kind: kindRun}
	for _, f := range tasks {
		p.call("join a cgroup", unix.SYS_WRITE, p.fd(int(f.Fd())), p.str("0"), num(1))
	}
	if netns >= 0 {
		p.call("join the network", unix.SYS_SETNS, p.fd(netns), num(unix.CLONE_NEWNET))
	} else {
		p.call("unshare the network", unix.SYS_UNSHARE, num(unix.CLONE_NEWNET))
	}
	proc := p.str("proc")
	p.call("mount /proc", unix.SYS_MOUNT, proc, p.str("/proc"), proc,
		num(unix.MS_RDONLY|unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC), p.str("hidepid=2"))
	// All of /proc is read-only; these tell about the host or its kernel.
	null, empty := p.str("/dev/null"), p.str("/sys")
	for _, name := range []string{"kcore", "keys", "key-users", "kmsg", "kallsyms", "timer_list", "sysrq-trigger", "modules", "config.gz", "cmdline"} {
		p.try(unix.SYS_MOUNT, null, p.str("/proc/"+name), num(0), num(unix.MS_BIND), num(0))
	}
	for _, name := range []string{"acpi", "asound", "bus", "driver", "fs", "irq", "scsi", "tty"} {
		p.try(unix.SYS_MOUNT, empty, p.str("/proc/"+name), num(0), num(unix.MS_BIND), num(0))
	}
	host := p.str("sandbox")
	p.call("sethostname", unix.SYS_SETHOSTNAME, host, num(len("sandbox")))
	p.call("unshare the cgroups", unix.SYS_UNSHARE, num(unix.CLONE_NEWCGROUP))
	return p
}

// furnishProgram gives a prepared sandbox its /tmp and its code, and shuts the
// door: after it, process 1 has power over its own user namespace only.
// With a root of its own it leaves the common one.
func furnishProgram(f *furniture, tmp, users, lastCap int) *program {
	p := &program{kind: kindRun}
	root := ""
	if f.image > 0 {
		root = "/mnt"
		p.attach(f.image, root)
		for _, dir := range []string{"/proc", "/dev"} {
			p.call("move "+dir, unix.SYS_MOUNT, p.str(dir), p.str(root+dir), num(0), num(unix.MS_MOVE), num(0))
		}
	}
	for _, target := range f.leave {
		p.call("leave "+target, unix.SYS_UMOUNT2, p.str(target), num(unix.MNT_DETACH))
	}
	p.attach(tmp, root+"/tmp")
	for i, tree := range f.trees {
		p.attach(tree, root+f.targets[i])
	}
	if f.image > 0 {
		here := p.str(".")
		p.call("chdir", unix.SYS_CHDIR, p.str(root))
		p.call("pivot_root", unix.SYS_PIVOT_ROOT, here, here)
		p.call("leave the common root", unix.SYS_UMOUNT2, here, num(unix.MNT_DETACH))
		p.call("chdir", unix.SYS_CHDIR, p.str("/"))
	}
	p.surrender(users, lastCap)
	// The change of user has cleared it.
	p.prctl("parent death signal", unix.PR_SET_PDEATHSIG, uint64(unix.SIGKILL))
	return p
}

// surrender enters the sandbox's user namespace and gives up all that could
// lead out of it.
func (p *program) surrender(users, lastCap int) {
	p.call("join the user namespace", unix.SYS_SETNS, p.fd(users), num(unix.CLONE_NEWUSER))
	p.call("setgroups", unix.SYS_SETGROUPS, num(0), num(0))
	p.call("setresgid", unix.SYS_SETRESGID, num(0), num(0), num(0))
	p.call("setresuid", unix.SYS_SETRESUID, num(0), num(0), num(0))
	for c := range lastCap + 1 {
		p.prctl("drop capabilities", unix.PR_CAPBSET_DROP, uint64(c))
	}
	// No program that a process of the sandbox executes gains a capability
	// for being root.
	p.prctl("securebits", unix.PR_SET_SECUREBITS, securebits)
	p.prctl("no new privileges", unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
}

// SECBIT_NOROOT, NO_CAP_AMBIENT_RAISE and their locks.
const securebits = 1<<0 | 1<<1 | 1<<6 | 1<<7

// attachProgram mounts what a program needs that is started ahead.
func attachProgram(f *furniture) *program {
	p := &program{kind: kindRun}
	for i, tree := range f.trees {
		p.attach(tree, f.targets[i])
	}
	return p
}

// spawn is a program to start.
type spawn struct {
	sandbox.Process
	stdout, stderr int
	files          uint64 // the limit of descriptors
	filter         []byte

	// Of a program that is started ahead: process 1 has not given up its rights
	// yet, so that the program does it for itself.
	ahead          bool
	users, lastCap int
	waits          int // what becomes descriptor AheadFD
}

// spawnProgram starts a program as the sandbox's user.
func spawnProgram(s *spawn) *program {
	p := &program{kind: kindSpawn}
	hello := p.words(kindHello, 0, 0, 0)
	p.call("report", unix.SYS_SENDTO, num(initSocket), hello, num(32), num(unix.MSG_NOSIGNAL), num(0), num(0))
	p.call("setsid", unix.SYS_SETSID)
	p.call("stdout", unix.SYS_DUP3, p.fd(s.stdout), num(1), num(0))
	p.call("stderr", unix.SYS_DUP3, p.fd(s.stderr), num(2), num(0))
	inherited := 3
	if s.ahead {
		p.surrender(s.users, s.lastCap)
		p.call("descriptor", unix.SYS_DUP3, p.fd(s.waits), num(sandbox.AheadFD), num(0))
		inherited = sandbox.AheadFD + 1
	}
	p.call("close descriptors", unix.SYS_CLOSE_RANGE, num(inherited), num(1<<31-1), num(0))
	rlimit := func(which int, n uint64) {
		p.call("prlimit", unix.SYS_PRLIMIT64, num(0), num(which), p.words(n, n), num(0))
	}
	rlimit(unix.RLIMIT_NOFILE, s.files)
	// With 0 a core handler of the host would still be run, as root and
	// outside, for a crash inside; with 1 it is not, and no file is written.
	rlimit(unix.RLIMIT_CORE, 1)
	rlimit(unix.RLIMIT_MEMLOCK, 64<<10) // AWS's, recorded
	p.call("setgroups", unix.SYS_SETGROUPS, num(0), num(0))
	p.call("setresgid", unix.SYS_SETRESGID, num(groupID), num(groupID), num(groupID))
	p.call("setresuid", unix.SYS_SETRESUID, num(userID), num(userID), num(userID))
	// The change of user from root cleared the permitted and effective sets;
	// this says it for the inheritable one too.
	const capabilityVersion3 = 0x20080522
	p.call("capset", unix.SYS_CAPSET, p.words(capabilityVersion3), p.words(0, 0, 0))
	p.call("umask", unix.SYS_UMASK, num(0o022))
	dir := s.Dir
	if dir == "" {
		dir = "/"
	}
	p.call("chdir "+dir, unix.SYS_CHDIR, p.str(dir))
	// What ignores a signal when Mayfly is started (a shell in the background, posix_spawn) must not make functions ignore it.
	for _, sig := range ignoredSignals() {
		p.call("signal default", unix.SYS_RT_SIGACTION, num(sig), p.words(0, 0, 0, 0), num(0), num(8))
	}
	p.call("signal mask", unix.SYS_RT_SIGPROCMASK, num(unix.SIG_SETMASK), p.words(0), num(0), num(8))
	code := p.bytes(s.filter)
	fprog := p.words(uint64(len(s.filter)/8), code.value)
	p.relocs = append(p.relocs, reloc{op: -1, data: int(fprog.value) + 8})
	args := s.Args
	if len(args) == 0 {
		args = []string{s.Path}
	}
	strs := func(ss []string) []arg {
		out := make([]arg, len(ss))
		for i, s := range ss {
			out[i] = p.str(s)
		}
		return out
	}
	path, argv, envp := p.str(s.Path), p.pointers(strs(args)), p.pointers(strs(s.Env))
	p.call("seccomp", unix.SYS_SECCOMP, num(unix.SECCOMP_SET_MODE_FILTER), num(0), fprog)
	p.call("exec "+s.Path, unix.SYS_EXECVE, path, argv, envp)
	return p
}

// ignoredSignals lists the signals that this process was started with as
// ignored. The zygote inherits that, and its forks do.
var ignoredSignals = sync.OnceValue(func() (sigs []int) {
	b, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return nil
	}
	_, rest, _ := strings.Cut(string(b), "\nSigIgn:")
	line, _, _ := strings.Cut(rest, "\n")
	mask, _ := strconv.ParseUint(strings.TrimSpace(line), 16, 64)
	for i := range 64 {
		if mask&(1<<i) != 0 {
			sigs = append(sigs, i+1)
		}
	}
	return sigs
})
