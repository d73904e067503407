package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// An attack prints a line that begins with BREACH for everything that worked
// and should not have.
func breach(format string, args ...any) { fmt.Printf("BREACH "+format+"\n", args...) }

// refused reports a breach if the call worked or if what refused it is not
// among the wanted errors, which would show that it got further than it should.
func refused(what string, err error, want ...error) {
	if err == nil {
		breach("%s worked", what)
		return
	}
	for _, w := range want {
		if errors.Is(err, w) {
			return
		}
	}
	if len(want) > 0 {
		breach("%s failed with %v, not %v", what, err, want)
	}
}

// call makes a raw system call.
func call(nr uintptr, args ...uintptr) error {
	var a [6]uintptr
	copy(a[:], args)
	_, _, errno := syscall.Syscall6(nr, a[0], a[1], a[2], a[3], a[4], a[5])
	if errno != 0 {
		return errno
	}
	return nil
}

func cstr(s string) uintptr {
	b, _ := unix.BytePtrFromString(s)
	return uintptr(unsafe.Pointer(b))
}

func probe(what string, args []string) {
	attacks := map[string]func(args []string){
		"files": files, "processes": processes, "writes": writes, "procfs": procfs, "mounts": mounts,
		"namespaces": namespaces, "kernel": kernel, "devices": devices, "sockets": sockets, "setuid": setuid,
		"descriptors": descriptors, "credentials": credentials, "links": links, "network": network, "reach": reach,
		"ipc": ipc, "fill": fill, "bomb": bomb, "limits": resourceLimits, "euid": euid, "hoard": hoard, "udp": udp,
	}
	f := attacks[what]
	if f == nil {
		fatal("unknown probe %q", what)
	}
	f(args)
	fmt.Println("done " + what)
}

// files tries to read the host's files: the paths given, and some that every
// host has.
func files(args []string) {
	for _, p := range append(args, "/etc/shadow", "/etc/sudoers", "/proc/1/root", "/proc/1/environ", "/proc/1/cwd",
		"/root/.ssh", "/var/lib", "/var/log", "/boot", "/run", "/sys/kernel", "/sys/fs/cgroup", "/old_root", "/proc/kcore", "/dev/mem") {
		if f, err := os.Open(p); err == nil {
			buf := make([]byte, 64)
			n, _ := f.Read(buf)
			names, _ := f.Readdirnames(-1)
			if n > 0 || len(names) > 0 {
				breach("read %s: %q %v", p, buf[:n], names)
			}
			f.Close()
		}
	}
	known := map[string]bool{}
	for _, n := range strings.Fields("bin dev etc home lib lib32 lib64 libx32 mnt nix opt proc root sbin sys tmp usr var") {
		known[n] = true
	}
	top, err := os.ReadDir("/")
	if err != nil {
		fatal("%v", err)
	}
	for _, e := range top {
		if !known[e.Name()] {
			breach("/%s is there", e.Name())
		}
	}
	// Up from the root is the root.
	fd, err := unix.Open("/", unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		fatal("%v", err)
	}
	up, err := unix.Openat(fd, "../../../..", unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err == nil {
		var a, b unix.Stat_t
		unix.Fstat(fd, &a)
		unix.Fstat(up, &b)
		if a.Ino != b.Ino || a.Dev != b.Dev {
			breach("openat .. leaves the root")
		}
	}
	mounts, _ := os.ReadFile("/proc/self/mountinfo")
	for line := range strings.Lines(string(mounts)) {
		f := strings.Fields(line)
		if f[4] != "/tmp" && !strings.HasPrefix(f[5], "ro") {
			breach("a writable mount: %s", line)
		}
		if !strings.Contains(f[5], "nosuid") {
			breach("a mount with set-user-id: %s", line)
		}
		if f[4] != "/dev" && !strings.HasPrefix(f[4], "/proc/") && !strings.Contains(f[5], "nodev") {
			breach("a mount with devices: %s", line)
		}
	}
}

// processes looks for processes other than those of this sandbox, and tries to
// reach the host's numbers given.
func processes(args []string) {
	dirs, err := os.ReadDir("/proc")
	if err != nil {
		fatal("%v", err)
	}
	for _, d := range dirs {
		pid, err := strconv.Atoi(d.Name())
		if err != nil {
			continue
		}
		exe, _ := os.Readlink("/proc/" + d.Name() + "/exe")
		if !strings.HasPrefix(exe, "/var/task/") {
			breach("process %d is visible: %q", pid, exe)
		}
	}
	for _, a := range args {
		pid, _ := strconv.Atoi(a)
		refused("signal to "+a, syscall.Kill(pid, 0), syscall.ESRCH, syscall.EPERM)
		if _, err := os.Stat("/proc/" + a + "/status"); err == nil {
			if exe, _ := os.Readlink("/proc/" + a + "/exe"); !strings.HasPrefix(exe, "/var/task/") {
				breach("/proc/%s is the host's: %s", a, exe)
			}
		}
	}
	refused("signal to process 1", syscall.Kill(1, syscall.SIGKILL), syscall.EPERM, syscall.ESRCH)
	refused("attach to process 1", call(unix.SYS_PTRACE, unix.PTRACE_ATTACH, 1), syscall.EPERM)
	refused("PTRACE_TRACEME", call(unix.SYS_PTRACE, unix.PTRACE_TRACEME), syscall.EPERM)
	refused("process_vm_readv", call(unix.SYS_PROCESS_VM_READV, 1), syscall.EPERM)
	refused("process_vm_writev", call(unix.SYS_PROCESS_VM_WRITEV, 1), syscall.EPERM)
	refused("pidfd_getfd", call(unix.SYS_PIDFD_GETFD, 0, 0, 0), syscall.EPERM)
	refused("kcmp", call(unix.SYS_KCMP, 1, 1, 0, 0, 0), syscall.EPERM)
	refused("priority of process 1", syscall.Setpriority(syscall.PRIO_PROCESS, 1, 5))
	refused("a higher priority", syscall.Setpriority(syscall.PRIO_PROCESS, 0, -5))
	refused("prlimit of process 1", unix.Prlimit(1, unix.RLIMIT_NOFILE, nil, new(unix.Rlimit)))
}

// writes tries to create a file in every directory, and to open every file of
// /etc and the code for writing.
func writes([]string) {
	filepath.WalkDir("/", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return nil
		}
		if path == "/proc" || path == "/tmp" {
			return fs.SkipDir
		}
		if d.IsDir() {
			if strings.Count(path, "/") > 4 {
				return fs.SkipDir
			}
			name := filepath.Join(path, "breach")
			if f, err := os.Create(name); err == nil {
				f.Close()
				os.Remove(name)
				breach("created %s", name)
			}
			if os.Mkdir(name, 0o777) == nil {
				os.Remove(name)
				breach("made the directory %s", name)
			}
			return nil
		}
		if d.Type().IsRegular() && (strings.HasPrefix(path, "/etc/") || strings.HasPrefix(path, "/var/")) {
			if f, err := os.OpenFile(path, os.O_WRONLY, 0); err == nil {
				f.Close()
				breach("opened %s for writing", path)
			}
			refused("chmod "+path, os.Chmod(path, 0o777))
			refused("remove "+path, os.Remove(path))
		}
		return nil
	})
	if err := os.WriteFile("/tmp/fine", []byte("x"), 0o600); err != nil {
		breach("/tmp is not writable: %v", err) // the other way round
	}
}

// procfs tries to open everything in /proc that is not a process for writing,
// and reads what would tell about the host.
func procfs([]string) {
	filepath.WalkDir("/proc", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return nil
		}
		if d.IsDir() {
			if _, err := strconv.Atoi(d.Name()); err == nil {
				return fs.SkipDir
			}
			return nil
		}
		if d.Type()&fs.ModeSymlink != 0 {
			return nil
		}
		if fd, err := unix.Open(path, unix.O_WRONLY|unix.O_NONBLOCK, 0); err == nil {
			var st unix.Stat_t
			unix.Fstat(fd, &st)
			if st.Mode&unix.S_IFMT != unix.S_IFCHR { // a masked file is /dev/null
				breach("%s can be written", path)
			}
			unix.Close(fd)
		}
		return nil
	})
	for _, p := range []string{"kcore", "keys", "key-users", "kmsg", "kallsyms", "timer_list", "sysrq-trigger", "config.gz", "cmdline", "modules"} {
		if b, err := os.ReadFile("/proc/" + p); err == nil && len(b) > 0 {
			breach("/proc/%s reads %d bytes", p, len(b))
		}
	}
	for _, p := range []string{"oom_score_adj", "uid_map", "gid_map", "setgroups", "attr/current", "mem"} {
		if f, err := os.OpenFile("/proc/self/"+p, os.O_WRONLY, 0); err == nil {
			f.Close()
			breach("/proc/self/%s can be written", p)
		}
	}
	if e, _ := os.ReadDir("/sys"); len(e) > 0 {
		breach("/sys has %v", e)
	}
	if b, _ := os.ReadFile("/proc/self/cgroup"); strings.Contains(string(b), "mayfly") {
		breach("/proc/self/cgroup tells where we are: %s", b)
	}
	for _, want := range []string{"/proc/cpuinfo", "/proc/meminfo", "/proc/self/status", "/proc/sys/kernel/osrelease"} {
		if b, err := os.ReadFile(want); err != nil || len(b) == 0 {
			breach("%s, which programs need, does not read: %v", want, err)
		}
	}
}

func mounts([]string) {
	eperm := syscall.EPERM
	os.Mkdir("/tmp/m", 0o700)
	refused("mount tmpfs", unix.Mount("x", "/tmp/m", "tmpfs", 0, ""), eperm)
	refused("mount proc", unix.Mount("x", "/tmp/m", "proc", 0, ""), eperm)
	refused("mount sysfs", unix.Mount("x", "/tmp/m", "sysfs", 0, ""), eperm)
	refused("mount cgroup", unix.Mount("x", "/tmp/m", "cgroup2", 0, ""), eperm)
	refused("bind", unix.Mount("/", "/tmp/m", "", unix.MS_BIND, ""), eperm)
	for _, p := range []string{"/", "/var/task", "/proc", "/usr", "/dev"} {
		refused("remount "+p, unix.Mount("", p, "", unix.MS_REMOUNT|unix.MS_BIND, ""), eperm)
		refused("umount "+p, unix.Unmount(p, unix.MNT_DETACH), eperm)
	}
	refused("umount a mask", unix.Unmount("/proc/kcore", 0), eperm)
	refused("pivot_root", unix.PivotRoot("/tmp", "/tmp/m"), eperm)
	refused("chroot", unix.Chroot("/tmp"), eperm)
	_, err := unix.Fsopen("tmpfs", 0)
	refused("fsopen", err, eperm)
	_, err = unix.OpenTree(unix.AT_FDCWD, "/", unix.OPEN_TREE_CLONE)
	refused("open_tree", err, eperm)
	refused("move_mount", unix.MoveMount(unix.AT_FDCWD, "/tmp", unix.AT_FDCWD, "/tmp/m", 0), eperm)
	refused("mount_setattr", unix.MountSetattr(unix.AT_FDCWD, "/", 0, &unix.MountAttr{Attr_clr: unix.MOUNT_ATTR_RDONLY}), eperm)
	_, _, err = unix.NameToHandleAt(unix.AT_FDCWD, "/", 0)
	refused("name_to_handle_at", err, eperm)
	refused("open_by_handle_at", call(unix.SYS_OPEN_BY_HANDLE_AT, 0, 0, 0), eperm)
	refused("swapon", call(unix.SYS_SWAPON, cstr("/tmp/fine"), 0), eperm)
	refused("quotactl", call(unix.SYS_QUOTACTL, 0, 0, 0, 0), eperm)
}

func namespaces([]string) {
	for name, flag := range map[string]uintptr{"user": unix.CLONE_NEWUSER, "mount": unix.CLONE_NEWNS, "pid": unix.CLONE_NEWPID,
		"net": unix.CLONE_NEWNET, "ipc": unix.CLONE_NEWIPC, "uts": unix.CLONE_NEWUTS, "cgroup": unix.CLONE_NEWCGROUP, "time": unix.CLONE_NEWTIME} {
		refused("unshare "+name, call(unix.SYS_UNSHARE, flag), syscall.EPERM)
		cmd := exec.Command(self(), "exit", "0")
		cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: flag}
		refused("clone "+name, cmd.Run(), syscall.EPERM, syscall.ENOSYS) // clone3, where the flag needs it
		if f, err := os.Open("/proc/self/ns/" + map[string]string{"mount": "mnt"}[name] + strings.TrimPrefix(name, "mount")); err == nil {
			refused("setns "+name, unix.Setns(int(f.Fd()), 0), syscall.EPERM)
		}
	}
	refused("clone3", call(unix.SYS_CLONE3, 0, 0), syscall.ENOSYS)
	refused("sethostname", unix.Sethostname([]byte("x")), syscall.EPERM)
}

func kernel([]string) {
	eperm, enosys := syscall.EPERM, syscall.ENOSYS
	for name, nr := range map[string]uintptr{
		"bpf": unix.SYS_BPF, "perf_event_open": unix.SYS_PERF_EVENT_OPEN, "userfaultfd": unix.SYS_USERFAULTFD,
		"init_module": unix.SYS_INIT_MODULE, "finit_module": unix.SYS_FINIT_MODULE, "delete_module": unix.SYS_DELETE_MODULE,
		"kexec_load": unix.SYS_KEXEC_LOAD, "kexec_file_load": unix.SYS_KEXEC_FILE_LOAD, "reboot": unix.SYS_REBOOT,
		"acct": unix.SYS_ACCT, "syslog": unix.SYS_SYSLOG, "fanotify_init": unix.SYS_FANOTIFY_INIT,
		"add_key": unix.SYS_ADD_KEY, "request_key": unix.SYS_REQUEST_KEY, "keyctl": unix.SYS_KEYCTL,
		"settimeofday": unix.SYS_SETTIMEOFDAY, "clock_settime": unix.SYS_CLOCK_SETTIME,
		"move_pages": unix.SYS_MOVE_PAGES, "process_madvise": unix.SYS_PROCESS_MADVISE,
	} {
		refused(name, call(nr, 0, 0, 0, 0, 0), eperm)
	}
	for name, nr := range map[string]uintptr{
		"io_uring_setup": unix.SYS_IO_URING_SETUP, "io_uring_enter": unix.SYS_IO_URING_ENTER, "io_uring_register": unix.SYS_IO_URING_REGISTER,
		"a system call of the future": 999, "an x32 system call": 0x40000000 + 39,
	} {
		refused(name, call(nr, 0, 0, 0, 0, 0), enosys)
	}
	refused("personality", call(unix.SYS_PERSONALITY, 0x0040000), eperm) // ADDR_NO_RANDOMIZE
	refused("read-implies-exec", call(unix.SYS_PERSONALITY, 0x0400000), eperm)
	refused("TIOCSTI", call(unix.SYS_IOCTL, 0, unix.TIOCSTI, cstr("x")), eperm)
}

func devices([]string) {
	for name, dev := range map[string]uint64{"mem": unix.Mkdev(1, 1), "vda": unix.Mkdev(254, 0), "sda": unix.Mkdev(8, 0), "null": unix.Mkdev(1, 3)} {
		refused("mknod "+name, unix.Mknod("/tmp/"+name, unix.S_IFCHR|0o666, int(dev)), syscall.EPERM)
		refused("mknod "+name, unix.Mknod("/tmp/b"+name, unix.S_IFBLK|0o666, int(dev)), syscall.EPERM)
	}
	known := map[string]bool{}
	for _, n := range strings.Fields("null zero full random urandom fd stdin stdout stderr") {
		known[n] = true
	}
	entries, err := os.ReadDir("/dev")
	if err != nil {
		fatal("%v", err)
	}
	for _, e := range entries {
		if !known[e.Name()] {
			breach("/dev/%s is there", e.Name())
		}
	}
	if err := os.WriteFile("/dev/null", []byte("x"), 0); err != nil {
		breach("/dev/null, which programs need: %v", err)
	}
	for _, n := range []string{"/dev/zero", "/dev/urandom"} {
		f, err := os.Open(n)
		if err != nil {
			breach("%s, which programs need: %v", n, err)
			continue
		}
		if _, err := io.ReadFull(f, make([]byte, 16)); err != nil {
			breach("%s, which programs need: %v", n, err)
		}
		f.Close()
	}
	if f, err := os.OpenFile("/dev/full", os.O_WRONLY, 0); err == nil {
		if _, err := f.Write([]byte("x")); !errors.Is(err, syscall.ENOSPC) {
			breach("/dev/full: %v", err)
		}
		f.Close()
	}
	refused("chmod of a device", os.Chmod("/dev/null", 0o777))
}

func sockets([]string) {
	for name, s := range map[string][3]int{
		"raw ICMP": {unix.AF_INET, unix.SOCK_RAW, unix.IPPROTO_ICMP}, "raw TCP": {unix.AF_INET, unix.SOCK_RAW, unix.IPPROTO_TCP},
		"packet": {unix.AF_PACKET, unix.SOCK_RAW, 0x300}, "audit": {unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_AUDIT},
		"netfilter": {unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_NETFILTER}, "vsock": {unix.AF_VSOCK, unix.SOCK_STREAM, 0},
		"crypto": {unix.AF_ALG, unix.SOCK_SEQPACKET, 0}, "key": {unix.AF_KEY, unix.SOCK_RAW, 2}, "bluetooth": {unix.AF_BLUETOOTH, unix.SOCK_RAW, 0},
		"tipc": {unix.AF_TIPC, unix.SOCK_DGRAM, 0}, "xdp": {unix.AF_XDP, unix.SOCK_RAW, 0},
	} {
		fd, err := unix.Socket(s[0], s[1], s[2])
		refused("a socket of "+name, err)
		if err == nil {
			unix.Close(fd)
		}
	}
	// What getifaddrs needs must work.
	if _, err := net.Interfaces(); err != nil {
		breach("interfaces, which programs need: %v", err)
	}
	// And no link may be changed.
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0)
	if err != nil {
		fatal("%v", err)
	}
	req, _ := unix.NewIfreq("lo")
	req.SetUint16(0)
	refused("switch off lo", call(unix.SYS_IOCTL, uintptr(fd), unix.SIOCSIFFLAGS, uintptr(unsafe.Pointer(req))), syscall.EPERM)
}

// setuid runs a program with the set-user-id bit and root's as owner, and one
// of our own.
func setuid(args []string) {
	for _, path := range args {
		out, err := exec.Command(path, "euid").Output()
		if err != nil {
			fatal("%s: %v", path, err)
		}
		if s := strings.Fields(string(out))[0]; s != "993" {
			breach("%s runs as %s", path, s)
		}
	}
	for _, id := range []int{0, 1, 1000, 994} {
		refused(fmt.Sprintf("setuid %d", id), call(unix.SYS_SETUID, uintptr(id)))
		refused(fmt.Sprintf("setgid %d", id), call(unix.SYS_SETGID, uintptr(id)))
	}
	refused("setgroups", call(unix.SYS_SETGROUPS, 0, 0))
	if os.WriteFile("/tmp/own", []byte("x"), 0o600) == nil {
		refused("chown to root", os.Chown("/tmp/own", 0, 0))
	}
	head := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	data := [2]unix.CapUserData{{Effective: 1 << unix.CAP_SYS_ADMIN, Permitted: 1 << unix.CAP_SYS_ADMIN}}
	refused("capset", unix.Capset(&head, &data[0]), syscall.EPERM)
}

func euid([]string) { fmt.Println(syscall.Geteuid(), syscall.Getegid()) }

func descriptors([]string) {
	for fd := range 4096 {
		to, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", fd))
		if err != nil || fd <= 2 || strings.HasPrefix(to, "anon_inode:[event") { // the Go runtime's own
			continue
		}
		breach("descriptor %d is open: %s", fd, to)
	}
	for fd := range 3 {
		var st unix.Stat_t
		if err := unix.Fstat(fd, &st); err != nil {
			breach("descriptor %d is not open: %v", fd, err)
		}
		if st.Mode&unix.S_IFMT == unix.S_IFDIR {
			breach("descriptor %d is a directory", fd)
		}
	}
}

func credentials([]string) {
	b, err := os.ReadFile("/proc/self/status")
	if err != nil {
		fatal("%v", err)
	}
	want := map[string]string{
		"Uid": "993 993 993 993", "Gid": "990 990 990 990", "Groups": "", "NoNewPrivs": "1", "Seccomp": "2",
		"CapInh": "0000000000000000", "CapPrm": "0000000000000000", "CapEff": "0000000000000000",
		"CapBnd": "0000000000000000", "CapAmb": "0000000000000000",
	}
	for line := range strings.Lines(string(b)) {
		key, value, _ := strings.Cut(line, ":")
		value = strings.Join(strings.Fields(value), " ")
		if w, ok := want[key]; ok && value != w {
			breach("%s is %q, not %q", key, value, w)
		}
		if key == "SigBlk" && value != "0000000000000000" || key == "Umask" && value != "0022" {
			breach("%s is %s", key, value)
		}
		if key == "SigIgn" && value != "0000000000000000" {
			breach("%s is %s", key, value)
		}
	}
	passwd, _ := os.ReadFile("/etc/passwd")
	if !strings.Contains(string(passwd), "sbx_user1051:x:993:990:") {
		breach("/etc/passwd does not name the user: %s", passwd)
	}
	host, _ := os.Hostname()
	if host != "sandbox" {
		breach("the hostname is %q", host)
	}
	if pid := os.Getpid(); pid > 1000 {
		breach("the process number %d is the host's", pid)
	}
}

// links follows links that the code archive might hold: pairs of a path and
// what must not be in it.
func links(args []string) {
	for i := 0; i+1 < len(args); i += 2 {
		if b, err := os.ReadFile(args[i]); err == nil && strings.Contains(string(b), args[i+1]) {
			breach("%s leads out: %q", args[i], b)
		}
	}
}

// network tries to reach addresses that must be out of reach.
func network(args []string) {
	done := make(chan string)
	for _, a := range args {
		go func() {
			c, err := net.DialTimeout("tcp", a, 700*time.Millisecond)
			if err == nil {
				c.Close()
				done <- a
				return
			}
			done <- ""
		}()
	}
	for range args {
		if a := <-done; a != "" {
			breach("connected to %s", a)
		}
	}
}

// reach prints what an address says, so that network's failures mean something.
func reach(args []string) {
	c, err := net.DialTimeout("tcp", args[0], 5*time.Second)
	if err != nil {
		fatal("%v", err)
	}
	b, _ := io.ReadAll(c)
	fmt.Printf("%s says %s\n", args[0], b)
}

// udp sends a datagram to each address.
func udp(args []string) {
	for _, a := range args {
		if c, err := net.Dial("udp", a); err == nil {
			c.Write([]byte("breach"))
			c.Close()
		}
	}
}

// ipc tries the host's abstract socket and System V segment.
func ipc(args []string) {
	if c, err := net.Dial("unix", "@"+args[0]); err == nil {
		c.Close()
		breach("connected to the host's abstract socket")
	}
	key, _ := strconv.Atoi(args[1])
	refused("the host's shared memory", call(unix.SYS_SHMGET, uintptr(key), 4096, 0), syscall.ENOENT)
}

// fill writes /tmp full and says how much went in.
func fill([]string) {
	f, err := os.Create("/tmp/big")
	if err != nil {
		fatal("%v", err)
	}
	buf := make([]byte, 1<<20)
	total := 0
	for {
		n, err := f.Write(buf)
		total += n
		if err != nil {
			if !errors.Is(err, syscall.ENOSPC) {
				breach("a full /tmp says %v", err)
			}
			break
		}
	}
	fmt.Printf("filled %d\n", total)
}

// bomb starts processes until it is refused, and says how many.
func bomb([]string) {
	n := 0
	for ; n < 5000; n++ {
		p, err := os.StartProcess(self(), []string{"probe", "sleep"}, &os.ProcAttr{})
		if err != nil {
			if !errors.Is(err, syscall.EAGAIN) {
				fmt.Printf("bomb: %v\n", err)
			}
			break
		}
		p.Release()
	}
	fmt.Printf("started %d\n", n)
	forever()
}

// hoard takes memory until it is killed.
func hoard([]string) {
	var all [][]byte
	for {
		b := make([]byte, 8<<20)
		for i := 0; i < len(b); i += 4096 {
			b[i] = 1
		}
		all = append(all, b)
	}
}

func resourceLimits(args []string) {
	want, _ := strconv.ParseUint(args[0], 10, 64)
	var l unix.Rlimit
	unix.Getrlimit(unix.RLIMIT_NOFILE, &l)
	if l.Max != want {
		breach("files are limited to %d, not %d", l.Max, want)
	}
	refused("raise the file limit", unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: want + 1, Max: want + 1}))
	n := 0
	for ; n < 5000; n++ {
		if _, err := unix.Open("/dev/null", unix.O_RDONLY, 0); err != nil {
			refused("a file too many", err, syscall.EMFILE)
			break
		}
	}
	if n >= int(want) {
		breach("%d files are open", n)
	}
	unix.Getrlimit(unix.RLIMIT_CORE, &l)
	if l.Max > 1 { // 1 means no file and no handler
		breach("core files of %d bytes", l.Max)
	}
}
