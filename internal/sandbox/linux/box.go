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
	uid       int // index of its users
	pid       int
	pidfd     int
	conn      *net.UnixConn
	listeners map[string]net.Listener // opened ahead

	request sync.Mutex // one conversation with process 1 at a time
	replies chan reply
	dead    chan struct{} // closed when process 1 is gone

	mu      sync.Mutex
	waiting *proc // about to be started
	procs   map[uint64]*proc
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
		replies:   make(chan reply, 1),
		dead:      make(chan struct{}),
		procs:     map[uint64]*proc{},
		listeners: map[string]net.Listener{},
	}
	if n := len(d.uids); n > 0 {
		b.uid, d.uids = d.uids[n-1], d.uids[:n-1]
	} else if d.uidsUp < uidsPerSlot/2 {
		b.uid = d.uidsUp
		d.uidsUp++
	} else {
		d.mu.Unlock()
		return nil, errors.New("all users for sandboxes are in use")
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
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("socketpair: %w", err)
	}
	// A message is at most maxMessage; and the credentials of a message name
	// its sender by our number for it.
	unix.SetsockoptInt(pair[0], unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, 2*maxMessage)
	unix.SetsockoptInt(pair[0], unix.SOL_SOCKET, unix.SO_PASSCRED, 1)
	b.pid, b.pidfd, err = d.zygote.fork(pair[1], b.group.fd())
	unix.Close(pair[1])
	if err != nil {
		unix.Close(pair[0])
		close(b.dead)
		return nil, err
	}
	if b.conn, err = netConn(pair[0]); err != nil {
		close(b.dead)
		return nil, err
	}
	go b.listen()

	// To put a process into a cgroup of version 1 takes the kernel up to ten
	// milliseconds if it was not done for a while; the mounts are made
	// meanwhile.
	joined := make(chan error, 1)
	go func() {
		if b.group.fd() >= 0 {
			joined <- nil
			return
		}
		joined <- b.group.add(b.pid)
	}()
	err = b.run(prepareProgram(b.ns.fd))
	if len(d.cfg.Listen) > 0 && err == nil {
		var ls []net.Listener
		if ls, err = b.ns.listen(d.cfg.Listen); err == nil {
			for i, l := range ls {
				b.listeners[d.cfg.Listen[i]] = l
			}
		}
	}
	if joinErr := <-joined; err == nil {
		err = joinErr
	}
	if err != nil {
		return nil, err
	}
	return b, ctx.Err()
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
			if p := b.waiting; p != nil {
				b.waiting = nil
				if r.errno == 0 && r.child != 0 {
					p.began(hello)
					b.procs[r.child] = p
				}
			}
			b.mu.Unlock()
			b.replies <- r
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
	b.procs, b.waiting = nil, nil
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

// run lets process 1 do a program.
func (b *box) run(p *program) error {
	_, err := b.ask(p, nil)
	return err
}

// ask sends a program and waits for the answer.
func (b *box) ask(p *program, starting *proc) (reply, error) {
	msg, err := p.encode()
	if err != nil {
		return reply{}, err
	}
	b.request.Lock()
	defer b.request.Unlock()
	if starting != nil {
		b.mu.Lock()
		if b.procs == nil {
			b.mu.Unlock()
			return reply{}, errDied
		}
		b.waiting = starting
		b.mu.Unlock()
	}
	var oob []byte
	if len(p.fds) > 0 {
		oob = unix.UnixRights(p.fds...)
	}
	if _, _, err := b.conn.WriteMsgUnix(msg, oob, nil); err != nil {
		return reply{}, errDied
	}
	select {
	case r := <-b.replies:
		if r.errno != 0 {
			name := "operation"
			if r.failed < uint64(len(p.names)) {
				name = p.names[r.failed]
			}
			return r, &opError{name, r.errno}
		}
		return r, nil
	case <-b.dead:
		return reply{}, errDied
	}
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
		if d.zygote != nil {
			d.zygote.reap()
		}
		if b.group != nil {
			if err := b.group.remove(); err != nil {
				d.log.Warn("remove a sandbox's cgroup", "err", err)
			}
		}
		if b.ns != nil {
			d.net.put(b.ns)
		}
		d.mu.Lock()
		d.uids = append(d.uids, b.uid)
		d.mu.Unlock()
	})
}

// mapUsers gives the box's user namespace its two users.
func (b *box) mapUsers() error {
	base := firstUID + b.d.slot*uidsPerSlot + 2*b.uid
	for file, id := range map[string]int{"uid_map": userID, "gid_map": groupID} {
		text := fmt.Sprintf("0 %d 1\n%d %d 1\n", base, id, base+1)
		if err := os.WriteFile(fmt.Sprintf("/proc/%d/%s", b.pid, file), []byte(text), 0); err != nil {
			return err
		}
	}
	return nil
}
