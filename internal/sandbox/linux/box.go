//go:build linux

package linux

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/mayflyhq/mayfly/internal/sandbox"
)

// box is a sandbox as it is prepared: namespaces, cgroup, network, and a
// process 1 that waits, with nothing in it that is anybody's.
type box struct {
	d         *Driver
	group     cgroup
	ns        *namespace
	users     *users
	pid       int
	pidfd     int
	conn      *net.UnixConn
	listeners map[string]net.Listener // opened ahead

	dead chan struct{} // closed when process 1 is gone

	mu       sync.Mutex
	requests []*request // sent and not yet answered, which happens in order
	failed   error      // why process 1 ended itself
	procs    map[uint64]*proc
}

// request is a program that process 1 was sent.
type request struct {
	names []string // of its operations
	proc  *proc    // which it starts
	reply chan reply
}

// reply is process 1's answer.
type reply struct {
	child  uint64
	failed uint64
	errno  syscall.Errno
}

// build makes a box.
func (d *Driver) build(ctx context.Context, egress bool) (_ *box, err error) {
	d.mu.Lock()
	d.count++
	name := strconv.Itoa(d.count)
	b := &box{
		d:         d,
		pidfd:     -1,
		dead:      make(chan struct{}),
		procs:     map[uint64]*proc{},
		listeners: map[string]net.Listener{},
	}
	d.mu.Unlock()
	defer func() {
		if err != nil {
			b.destroy()
		}
	}()
	if b.group, err = d.groups.create(name); err != nil {
		return nil, err
	}
	if b.ns, err = d.net.get(egress); err != nil {
		return nil, err
	}
	if b.users, err = d.takeUsers(); err != nil {
		return nil, err
	}
	tasks, err := b.group.tasks()
	if err != nil {
		return nil, err
	}
	defer func() {
		for _, f := range tasks {
			f.Close()
		}
	}()
	theirs, err := b.connect()
	if err != nil {
		return nil, err
	}
	// What it has to do first waits for it already.
	prepared, err := b.send(prepareProgram(b.ns.fd, tasks), nil)
	if err == nil {
		b.pid, b.pidfd, err = d.fork('F', theirs, b.group.fd())
	}
	unix.Close(theirs)
	if err != nil {
		return nil, err
	}
	if len(d.cfg.Listen) > 0 {
		ls, err := b.ns.listen(d.cfg.Listen)
		if err != nil {
			return nil, err
		}
		for i, l := range ls {
			b.listeners[d.cfg.Listen[i]] = l
		}
	}
	if _, err := b.await(prepared); err != nil {
		return nil, err
	}
	return b, ctx.Err()
}

// connect makes the socket to process 1 and returns its end.
func (b *box) connect() (theirs int, err error) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("socketpair: %w", err)
	}
	// There must be room for several messages; and the credentials of a
	// message name its sender by our number for it.
	unix.SetsockoptInt(pair[0], unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, 4*maxMessage)
	unix.SetsockoptInt(pair[0], unix.SOL_SOCKET, unix.SO_PASSCRED, 1)
	if b.conn, err = netConn(pair[0]); err != nil {
		unix.Close(pair[1])
		return -1, err
	}
	go b.listen()
	return pair[1], nil
}

// listen reads what process 1 says until it is gone.
func (b *box) listen() {
	defer close(b.dead)
	var buf [32]byte
	oob := make([]byte, unix.CmsgSpace(unix.SizeofUcred))
	hello := 0
	for {
		n, oobn, _, _, err := b.conn.ReadMsgUnix(buf[:], oob)
		if err != nil || n < len(buf) {
			break
		}
		word := func(i int) uint64 { return binary.NativeEndian.Uint64(buf[8*i:]) }
		switch word(0) {
		case kindHello:
			hello = senderOf(oob[:oobn])
		case kindReply:
			r := reply{child: word(1), failed: word(2), errno: syscall.Errno(word(3))}
			b.mu.Lock()
			if len(b.requests) == 0 {
				b.mu.Unlock()
				continue // it was not asked
			}
			req := b.requests[0]
			b.requests = b.requests[1:]
			if req.proc != nil && r.errno == 0 {
				req.proc.began(hello)
				b.procs[r.child] = req.proc
			}
			if req.proc == nil && r.errno != 0 && b.failed == nil {
				b.failed = r.err(req)
			}
			b.mu.Unlock()
			req.reply <- r
		case kindExit:
			b.mu.Lock()
			p := b.procs[word(1)]
			delete(b.procs, word(1))
			b.mu.Unlock()
			if p != nil {
				p.finish(syscall.WaitStatus(word(2)))
			}
		}
	}
	b.mu.Lock()
	left := b.procs
	b.procs = nil
	b.mu.Unlock()
	for _, p := range left {
		p.finish(syscall.WaitStatus(syscall.SIGKILL))
	}
}

// senderOf finds the sender's number in a message's credentials.
func senderOf(oob []byte) int {
	msgs, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return 0
	}
	for i := range msgs {
		if cred, err := unix.ParseUnixCredentials(&msgs[i]); err == nil {
			return int(cred.Pid)
		}
	}
	return 0
}

// send gives process 1 a program to do after those before. starting is the
// process that the program starts, if it does.
func (b *box) send(p *program, starting *proc) (*request, error) {
	msg, err := p.encode()
	if err != nil {
		return nil, err
	}
	var oob []byte
	if len(p.fds) > 0 {
		oob = unix.UnixRights(p.fds...)
	}
	r := &request{names: p.names, proc: starting, reply: make(chan reply, 1)}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.procs == nil {
		return nil, b.why()
	}
	// Under the lock, so that the order is the same; the socket has room.
	if _, _, err := b.conn.WriteMsgUnix(msg, oob, nil); err != nil {
		return nil, b.why()
	}
	b.requests = append(b.requests, r)
	return r, nil
}

// why says why process 1 is gone.
func (b *box) why() error {
	if b.failed != nil {
		return b.failed
	}
	return errDied
}

// await waits for the answer.
func (b *box) await(r *request) (reply, error) {
	var got reply
	select {
	case got = <-r.reply:
	case <-b.dead:
		select {
		case got = <-r.reply: // just before
		default:
			b.mu.Lock()
			defer b.mu.Unlock()
			return reply{}, b.why()
		}
	}
	return got, got.err(r)
}

// ask sends a program and waits.
func (b *box) ask(p *program, starting *proc) (reply, error) {
	r, err := b.send(p, starting)
	if err != nil {
		return reply{}, err
	}
	return b.await(r)
}

func (r reply) err(req *request) error {
	if r.errno == 0 {
		return nil
	}
	name := "fork"
	if r.failed < uint64(len(req.names)) {
		name = req.names[r.failed]
	}
	return &opError{name, r.errno}
}

// errDied is returned when process 1 is gone, which nothing inside can bring
// about.
var errDied = fmt.Errorf("its first process was killed: %w", sandbox.ErrClosed)

// opError is a failed operation of process 1.
type opError struct {
	op    string
	errno syscall.Errno
}

func (e *opError) Error() string { return e.op + ": " + e.errno.Error() }
func (e *opError) Unwrap() error { return e.errno }

// gone reports whether process 1 ended.
func (b *box) gone() bool {
	select {
	case <-b.dead:
		return true
	default:
		return false
	}
}

// signal kills process 1; kill waits for it.
func (b *box) signal() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.pidfd >= 0 {
		unix.PidfdSendSignal(b.pidfd, unix.SIGKILL, nil, 0)
	}
}

// kill ends process 1 and with it, by the kernel's hand, everything in its pid
// namespace, and waits until it is gone.
func (b *box) kill() {
	b.signal()
	if fd := b.pidfd; fd >= 0 {
		b.group.freeze(false) // in version 1 frozen processes do not die
		for {
			_, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, -1)
			if err != unix.EINTR {
				break
			}
		}
		b.mu.Lock()
		b.pidfd = -1
		b.mu.Unlock()
		unix.Close(fd)
	}
	if b.conn != nil {
		<-b.dead
		b.conn.Close()
	}
}

// destroy kills the box and gives back, in the background, what it was made
// of.
func (b *box) destroy() {
	b.kill()
	for _, l := range b.listeners {
		l.Close()
	}
	d := b.d
	d.work.Go(func() {
		d.helper().reap()
		if b.group != nil {
			if err := b.group.remove(); err != nil {
				d.log.Warn("remove a sandbox's cgroup", "err", err)
			}
		}
		if b.ns != nil {
			d.net.put(b.ns)
		}
		if b.users != nil {
			d.mu.Lock()
			d.users = append(d.users, b.users)
			d.mu.Unlock()
		}
	})
}

// users is a user namespace: one sandbox at a time uses it.
type users struct{ fd int }

// takeUsers gives a user namespace that nobody is in. It has two users: the
// root of process 1 and the one that functions run as.
func (d *Driver) takeUsers() (*users, error) {
	d.mu.Lock()
	if n := len(d.users); n > 0 {
		u := d.users[n-1]
		d.users = d.users[:n-1]
		d.mu.Unlock()
		return u, nil
	}
	if d.usersN == uidsPerSlot/2 {
		d.mu.Unlock()
		return nil, errors.New("all users for sandboxes are in use")
	}
	base := firstUID + d.slot*uidsPerSlot + 2*d.usersN
	d.usersN++
	d.mu.Unlock()

	// Only a process can make one, and only from outside can it be given
	// users of the host. The process ends when its socket is closed.
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("socketpair: %w", err)
	}
	defer unix.Close(pair[0])
	pid, pidfd, err := d.fork('U', pair[1], -1)
	unix.Close(pair[1])
	if err != nil {
		return nil, fmt.Errorf("user namespace: %w", err)
	}
	defer unix.Close(pidfd)
	for file, id := range map[string]int{"uid_map": userID, "gid_map": groupID} {
		text := fmt.Sprintf("0 %d 1\n%d %d 1\n", base, id, base+1)
		if err := os.WriteFile(fmt.Sprintf("/proc/%d/%s", pid, file), []byte(text), 0); err != nil {
			return nil, fmt.Errorf("user namespace: %w", err)
		}
	}
	fd, err := unix.Open(fmt.Sprintf("/proc/%d/ns/user", pid), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("user namespace: %w", err)
	}
	return &users{fd}, nil
}
