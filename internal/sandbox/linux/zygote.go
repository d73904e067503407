//go:build linux

package linux

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// The zygote is our own binary executed anew, once per driver, in a mount
// namespace that holds the sandboxes' root and nothing of the host. Every
// sandbox's process 1 is a fork of it. It holds no secret: its environment is
// empty and it has read nothing. When the driver's end of its socket closes,
// because Mayfly ended or was killed, it thaws what is frozen, so that every
// process 1 sees its own socket closed, and ends.

// zygoteName is argv[0] of the zygote.
const zygoteName = "mayfly-sandbox"

// MaybeInit turns the process into the driver's helper if it was started as
// such, and does not return then. A program that uses the driver, its tests
// included, calls it first thing in main or TestMain.
func MaybeInit() {
	if len(os.Args) == 0 || os.Args[0] != zygoteName {
		return
	}
	runtime.LockOSThread()
	debug.SetGCPercent(-1)
	zygoteMain()
	os.Exit(0)
}

const zygoteSocket = 3

func zygoteMain() {
	unix.CloseOnExec(zygoteSocket)
	// Not the session keyring of whoever started Mayfly.
	unix.KeyctlJoinSessionKeyring("")
	thaw := -1
	buf := make([]byte, 64<<10)
	for {
		msg, fds, err := receive(zygoteSocket, buf)
		if err != nil || len(msg) == 0 {
			if thaw >= 0 {
				thawAll(thaw)
			}
			return
		}
		switch msg[0] {
		case 'R': // the root: targets, separated by NUL, with their trees; the last is the freezer
			last := len(fds) - 1
			thaw = fds[last]
			err = enterRoot(strings.Split(string(msg[1:]), "\x00"), fds[:last])
			answer(0, err, nil)
		case 'F', 'U': // fork process 1, or the first process of a user namespace: the socket, maybe a cgroup
			cgroup := -1
			if len(fds) > 1 {
				cgroup = fds[1]
			}
			flags := uint64(unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWIPC | unix.CLONE_NEWUTS)
			if msg[0] == 'U' {
				flags = unix.CLONE_NEWUSER
			}
			var pidfd uint64
			pid, errno := forkInit(flags, fds[0], cgroup, &pidfd)
			for _, fd := range fds {
				unix.Close(fd)
			}
			if errno != 0 {
				answer(0, syscall.Errno(errno), nil)
				continue
			}
			answer(int(pid), nil, []int{int(int32(pidfd))})
			unix.Close(int(int32(pidfd)))
		case 'W': // collect those that ended
			for {
				if pid, err := unix.Wait4(-1, nil, unix.WNOHANG, nil); pid <= 0 || err != nil {
					break
				}
			}
		}
	}
}

// answer is the zygote's reply: a number and an error text.
func answer(n int, err error, fds []int) {
	text := ""
	if err != nil {
		text = err.Error()
	}
	var oob []byte
	if fds != nil {
		oob = unix.UnixRights(fds...)
	}
	unix.Sendmsg(zygoteSocket, fmt.Appendf(nil, "%d %s", n, text), oob, nil, unix.MSG_NOSIGNAL)
}

func receive(socket int, buf []byte) ([]byte, []int, error) {
	oob := make([]byte, unix.CmsgSpace(4*maxFDs))
	for {
		n, oobn, _, _, err := unix.Recvmsg(socket, buf, oob, unix.MSG_CMSG_CLOEXEC)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return nil, nil, err
		}
		var fds []int
		if oobn > 0 {
			msgs, err := unix.ParseSocketControlMessage(oob[:oobn])
			if err != nil {
				return nil, nil, err
			}
			for _, m := range msgs {
				if f, err := unix.ParseUnixRights(&m); err == nil {
					fds = append(fds, f...)
				}
			}
		}
		return buf[:n], fds, nil
	}
}

// enterRoot makes trees[0] the root of this mount namespace, the others
// mounts in it, and leaves everything else behind.
func enterRoot(targets []string, trees []int) error {
	if len(targets) != len(trees) || len(trees) == 0 {
		return errors.New("a root needs a tree for each target")
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	// Any directory serves to attach the new root until it becomes the root.
	const at = "/proc"
	move := func(tree int, target string) error {
		if err := unix.MoveMount(tree, "", unix.AT_FDCWD, target, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
			return fmt.Errorf("mount %s: %w", target, err)
		}
		return nil
	}
	if err := move(trees[0], at); err != nil {
		return err
	}
	// The driver keeps writing to the root's file system through the mount
	// that it holds; what sandboxes see is a second one, read-only.
	top, err := unix.OpenTree(unix.AT_FDCWD, at, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err != nil {
		return fmt.Errorf("clone the root: %w", err)
	}
	if err := setAttr(top, unix.MOUNT_ATTR_RDONLY|unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NODEV); err != nil {
		return fmt.Errorf("make the root read-only: %w", err)
	}
	if err := move(top, at); err != nil {
		return err
	}
	unix.Close(top)
	if err := os.Chdir(at); err != nil {
		return err
	}
	for i, target := range targets[1:] {
		if err := move(trees[i+1], filepath.Join(".", target)); err != nil {
			return err
		}
	}
	if err := unix.PivotRoot(".", "."); err != nil {
		return fmt.Errorf("pivot_root: %w", err)
	}
	if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
		return fmt.Errorf("leave the host's root: %w", err)
	}
	for _, fd := range trees {
		unix.Close(fd)
	}
	return os.Chdir("/")
}

// setAttr sets mount attributes on a detached tree, all its mounts included.
func setAttr(tree int, attr uint64) error {
	return unix.MountSetattr(tree, "", unix.AT_EMPTY_PATH|unix.AT_RECURSIVE, &unix.MountAttr{Attr_set: attr})
}

// zygote is the driver's end.
type zygote struct {
	cmd  *exec.Cmd
	sock int
	mu   sync.Mutex // one request at a time
}

var errZygoteGone = errors.New("the helper process ended")

func startZygote() (*zygote, error) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("socketpair: %w", err)
	}
	theirs := os.NewFile(uintptr(pair[1]), "zygote")
	defer theirs.Close()
	cmd := &exec.Cmd{
		Path:       "/proc/self/exe",
		Args:       []string{zygoteName},
		Env:        []string{"GOMAXPROCS=1"},
		Dir:        "/",
		ExtraFiles: []*os.File{theirs},
		SysProcAttr: &syscall.SysProcAttr{
			Cloneflags: unix.CLONE_NEWNS,
			Setsid:     true,
		},
	}
	if err := cmd.Start(); err != nil {
		unix.Close(pair[0])
		return nil, fmt.Errorf("start the helper process: %w", err)
	}
	return &zygote{cmd: cmd, sock: pair[0]}, nil
}

// request sends a message and reads the answer.
func (z *zygote) request(msg []byte, fds []int) (n int, got []int, err error) {
	z.mu.Lock()
	defer z.mu.Unlock()
	if err := unix.Sendmsg(z.sock, msg, unix.UnixRights(fds...), nil, unix.MSG_NOSIGNAL); err != nil {
		return 0, nil, fmt.Errorf("%w: %w", errZygoteGone, err)
	}
	buf := make([]byte, 4096)
	reply, got, err := receive(z.sock, buf)
	if err != nil {
		return 0, nil, fmt.Errorf("%w: %w", errZygoteGone, err)
	}
	if len(reply) == 0 {
		return 0, nil, errZygoteGone
	}
	number, text, _ := strings.Cut(string(reply), " ")
	fmt.Sscan(number, &n)
	if text != "" {
		for _, fd := range got {
			unix.Close(fd)
		}
		return 0, nil, errors.New(text)
	}
	return n, got, nil
}

// fork makes a process 1 that listens on socket, for kind 'F'. For 'U' it is in
// a new user namespace and in the zygote's namespaces otherwise.
func (z *zygote) fork(kind byte, socket, cgroup int) (pid, pidfd int, err error) {
	fds := []int{socket}
	if cgroup >= 0 {
		fds = append(fds, cgroup)
	}
	pid, got, err := z.request([]byte{kind}, fds)
	if err != nil {
		return 0, -1, fmt.Errorf("clone: %w", err)
	}
	if len(got) != 1 {
		return 0, -1, errors.New("clone: no pidfd")
	}
	return pid, got[0], nil
}

// reap lets the zygote collect children that ended.
func (z *zygote) reap() {
	z.mu.Lock()
	defer z.mu.Unlock()
	unix.Sendmsg(z.sock, []byte{'W'}, nil, nil, unix.MSG_NOSIGNAL)
}

// close lets the zygote end. That somebody else ended it is no error.
func (z *zygote) close() {
	z.mu.Lock()
	unix.Close(z.sock)
	z.sock = -1
	z.mu.Unlock()
	z.cmd.Wait()
}

// thawAll thaws the cgroups below a directory, in the way of both versions.
func thawAll(dir int) {
	f := os.NewFile(uintptr(dir), "freezer")
	names, _ := f.Readdirnames(-1)
	for _, name := range names {
		for file, text := range map[string]string{"freezer.state": "THAWED", "cgroup.freeze": "0"} {
			fd, err := unix.Openat(dir, name+"/"+file, unix.O_WRONLY|unix.O_CLOEXEC, 0)
			if err == nil {
				unix.Write(fd, []byte(text))
				unix.Close(fd)
			}
		}
	}
}

// netConn wraps our end of a process 1's socket for the runtime's poller.
func netConn(fd int) (*net.UnixConn, error) {
	f := os.NewFile(uintptr(fd), "init")
	defer f.Close()
	c, err := net.FileConn(f)
	if err != nil {
		return nil, err
	}
	return c.(*net.UnixConn), nil
}
