//go:build linux

package linux

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// This file is process 1 of every sandbox. It is a fork of the zygote that
// never executes a program, so that it costs some pages of memory and a few
// hundred microseconds, not a Go runtime. After the fork only this thread
// exists, so the Go runtime must not be entered: no allocation, no growing
// stack, no panic, no lock. All functions here are nosplit (the linker proves
// that they fit into the stack they find), keep pointers as integers (no write
// barriers) and use preallocated memory.
//
// To stay that small it has no knowledge of its own: it interprets lists of
// system calls that the driver sends over a socket. See program.go for what
// they do and for the format:
//
//	word 0      kind
//	word 1      number of operations
//	word 2      number of relocations
//	word 3      unused
//	operations  8 words each: number, 6 arguments, flags
//	relocations 1 word each
//	data
//
// A relocation names a word of the message by its offset in bytes. The word
// holds an offset into the message and becomes an address; or, with relocFD
// set, it holds the index of a file descriptor that came with the message and
// becomes its number. Flags: bit 0 ignores an error; the upper 32 bits, if not
// zero, are the offset of the word that receives the result.

const (
	initSocket = 3 // process 1 finds its socket here

	maxMessage = 192 << 10
	maxFDs     = 64

	opWords    = 8
	headWords  = 4
	relocFD    = 1 << 63
	ignoreErr  = 1
	storeShift = 32
)

// Kinds of messages to process 1.
const (
	kindRun   = iota + 1 // run the operations in process 1, which ends itself if one fails
	kindSpawn            // fork, run the operations in the child, which end in execve
	kindKill             // kill all others and reap them
)

// Kinds of messages from process 1, each 4 words.
const (
	kindReply = iota + 101 // kind, child's number, index of the failed operation or -1, errno
	kindHello              // kind: from a child before it executes; the credentials name it
	kindExit               // kind, child's number, wait status
)

var (
	rawMessage [maxMessage / 8]uint64
	rawControl [(16 + 4*maxFDs + 32) / 8]uint64
	rawIovec   [2]uint64
	rawMsghdr  [7]uint64
	rawFDs     [maxFDs]uint64
	rawReply   [4]uint64
	rawPoll    [2]uint64 // two struct pollfd
	rawSignals [1]uint64
	rawStatus  [1]uint64
	rawDrop    [16]uint64
	rawClone   [11]uint64
	rawFailed  [2]uint64 // the operation of a child that failed, and its errno
)

//go:nosplit
//go:norace
//go:nocheckptr
func addr(p *uint64) uint64 { return uint64(uintptr(unsafe.Pointer(p))) }

//go:nosplit
//go:norace
//go:nocheckptr
func raw(nr, a, b, c, d, e, f uint64) (uint64, uint64) {
	r, _, errno := syscall.RawSyscall6(uintptr(nr), uintptr(a), uintptr(b), uintptr(c), uintptr(d), uintptr(e), uintptr(f))
	return uint64(r), uint64(errno)
}

// forkInit forks process 1 of a sandbox, with the given namespace flags, into
// the cgroup if that is not negative. It returns its number here and its
// pidfd.
//
//go:nosplit
//go:norace
//go:nocheckptr
func forkInit(flags uint64, socket, cgroup int, pidfd *uint64) (pid uint64, errno uint64) {
	// Blocked signals also keep the runtime from preempting the child.
	all := ^uint64(0)
	var old uint64
	raw(unix.SYS_RT_SIGPROCMASK, unix.SIG_SETMASK, addr(&all), addr(&old), 8, 0, 0)
	rawClone[0] = flags | unix.CLONE_PIDFD
	rawClone[1] = addr(pidfd)
	rawClone[4] = uint64(unix.SIGCHLD)
	if cgroup >= 0 {
		rawClone[0] |= unix.CLONE_INTO_CGROUP
		rawClone[10] = uint64(cgroup)
	}
	pid, errno = raw(unix.SYS_CLONE3, addr(&rawClone[0]), 88, 0, 0, 0, 0)
	if pid == 0 && errno == 0 {
		serveInit(uint64(socket))
	}
	raw(unix.SYS_RT_SIGPROCMASK, unix.SIG_SETMASK, addr(&old), 0, 8, 0, 0)
	return pid, errno
}

// serveInit is the life of process 1. It does not return.
//
//go:nosplit
//go:norace
//go:nocheckptr
func serveInit(socket uint64) {
	raw(unix.SYS_DUP3, socket, initSocket, unix.O_CLOEXEC, 0, 0, 0)
	raw(unix.SYS_CLOSE_RANGE, initSocket+1, 1<<31-1, 0, 0, 0, 0)
	raw(unix.SYS_PRCTL, unix.PR_SET_PDEATHSIG, uint64(unix.SIGKILL), 0, 0, 0, 0)
	raw(unix.SYS_SETSID, 0, 0, 0, 0, 0, 0)
	rawSignals[0] = 1 << (uint64(unix.SIGCHLD) - 1)
	const minusOne = ^uint64(0)
	signals, errno := raw(unix.SYS_SIGNALFD4, minusOne, addr(&rawSignals[0]), 8, unix.O_CLOEXEC, 0, 0)
	if errno != 0 {
		exitInit()
	}
	for {
		rawPoll[0] = initSocket | unix.POLLIN<<32
		rawPoll[1] = signals | unix.POLLIN<<32
		if _, errno := raw(unix.SYS_PPOLL, addr(&rawPoll[0]), 2, 0, 0, 8, 0); errno != 0 {
			continue
		}
		if rawPoll[1]>>48 != 0 {
			raw(unix.SYS_READ, signals, addr(&rawDrop[0]), 128, 0, 0, 0)
			reapInit(unix.WNOHANG)
		}
		if rawPoll[0]>>48 != 0 {
			requestInit()
		}
	}
}

//go:nosplit
//go:norace
//go:nocheckptr
func exitInit() {
	for {
		raw(unix.SYS_EXIT_GROUP, 0, 0, 0, 0, 0, 0)
	}
}

// reapInit collects children that ended and tells of each; without WNOHANG
// until there is none.
//
//go:nosplit
//go:norace
//go:nocheckptr
func reapInit(options uint64) {
	for {
		pid, errno := raw(unix.SYS_WAIT4, ^uint64(0), addr(&rawStatus[0]), options|unix.WALL, 0, 0, 0)
		if errno == uint64(unix.EINTR) {
			continue
		}
		if errno != 0 || pid == 0 {
			return
		}
		sendInit(kindExit, pid, rawStatus[0]&0xffffffff, 0)
	}
}

//go:nosplit
//go:norace
//go:nocheckptr
func sendInit(kind, a, b, c uint64) {
	rawReply[0], rawReply[1], rawReply[2], rawReply[3] = kind, a, b, c
	_, errno := raw(unix.SYS_SENDTO, initSocket, addr(&rawReply[0]), 32, unix.MSG_NOSIGNAL, 0, 0)
	if errno != 0 && errno != uint64(unix.EINTR) {
		exitInit() // nobody is there any more
	}
}

// requestInit receives a message and does it.
//
//go:nosplit
//go:norace
//go:nocheckptr
func requestInit() {
	rawIovec[0], rawIovec[1] = addr(&rawMessage[0]), maxMessage
	rawMsghdr[0], rawMsghdr[1] = 0, 0
	rawMsghdr[2], rawMsghdr[3] = addr(&rawIovec[0]), 1
	rawMsghdr[4], rawMsghdr[5] = addr(&rawControl[0]), uint64(unsafe.Sizeof(rawControl))
	rawMsghdr[6] = 0
	n, errno := raw(unix.SYS_RECVMSG, initSocket, addr(&rawMsghdr[0]), unix.MSG_CMSG_CLOEXEC, 0, 0, 0)
	if errno == uint64(unix.EINTR) || errno == uint64(unix.EAGAIN) {
		return
	}
	if errno != 0 || n < headWords*8 {
		exitInit()
	}
	// One control message: word 0 its length, word 1 level and type, then the
	// descriptors, two in a word.
	fds := uint64(0)
	if rawMsghdr[5] >= 16 && rawControl[1]>>32 == unix.SCM_RIGHTS {
		fds = (rawControl[0] - 16) / 4
		for i := uint64(0); i < fds && i < maxFDs; i++ {
			rawFDs[i] = rawControl[2+i/2] >> (32 * (i % 2)) & 0xffffffff
		}
	}
	relocateInit(n, fds)

	failed, child := ^uint64(0), uint64(0)
	errno = 0
	switch rawMessage[0] {
	case kindRun:
		failed, errno = runInit()
	case kindSpawn:
		rawFailed[0], rawFailed[1] = ^uint64(0), 0
		child, errno = spawnInit()
		if errno != 0 {
			failed, child = 0, 0
		} else if rawFailed[1] != 0 {
			failed, errno = rawFailed[0], rawFailed[1]
			raw(unix.SYS_WAIT4, child, addr(&rawStatus[0]), unix.WALL, 0, 0, 0)
			child = 0
		}
	case kindKill:
		raw(unix.SYS_KILL, ^uint64(0), uint64(unix.SIGKILL), 0, 0, 0, 0)
		reapInit(0)
	}
	for i := uint64(0); i < fds && i < maxFDs; i++ {
		raw(unix.SYS_CLOSE, rawFDs[i], 0, 0, 0, 0, 0)
	}
	sendInit(kindReply, child, failed, errno)
	if rawMessage[0] == kindRun && errno != 0 {
		exitInit() // what follows must not run in half a sandbox
	}
}

// spawnInit starts a child that runs the operations of the message and reports
// in rawFailed what failed before its execve. Until that it shares all memory
// with process 1, which waits: no page table has to be copied. It shares the
// stack too, so that it must not leave this frame, and process 1 does nothing
// in it.
//
//go:nosplit
//go:noinline
//go:norace
//go:nocheckptr
func spawnInit() (child, errno uint64) {
	rawClone[0] = unix.CLONE_VM | unix.CLONE_VFORK | unix.CLONE_CLEAR_SIGHAND
	rawClone[1] = 0
	rawClone[4] = uint64(unix.SIGCHLD)
	rawClone[10] = 0
	r := rawVfork(unix.SYS_CLONE3, addr(&rawClone[0]), 88)
	if r == 0 {
		rawFailed[0], rawFailed[1] = runInit()
		for {
			raw(unix.SYS_EXIT_GROUP, 127, 0, 0, 0, 0, 0)
		}
	}
	if r > ^uint64(4095) {
		return 0, -r
	}
	return r, 0
}

// rawVfork is a system call that returns twice.
func rawVfork(nr, a, b uint64) (r uint64)

//go:nosplit
//go:norace
//go:nocheckptr
func relocateInit(n, fds uint64) {
	base := addr(&rawMessage[0])
	first := headWords + rawMessage[1]*opWords
	for i := first; i < first+rawMessage[2] && i*8 < n; i++ {
		at := rawMessage[i]
		w := (at &^ relocFD) / 8
		if w*8 >= n {
			exitInit()
		}
		if at&relocFD == 0 {
			rawMessage[w] += base
		} else if rawMessage[w] < fds {
			rawMessage[w] = rawFDs[rawMessage[w]]
		} else {
			rawMessage[w] = ^uint64(0)
		}
	}
}

// runInit runs the operations of the message; it returns the index of the one
// that failed, and its errno.
//
//go:nosplit
//go:norace
//go:nocheckptr
func runInit() (failed, errno uint64) {
	for i := uint64(0); i < rawMessage[1]; i++ {
		op := headWords + i*opWords
		if op+opWords > uint64(len(rawMessage)) {
			exitInit()
		}
		r, errno := raw(rawMessage[op], rawMessage[op+1], rawMessage[op+2], rawMessage[op+3],
			rawMessage[op+4], rawMessage[op+5], rawMessage[op+6])
		if errno != 0 && rawMessage[op+7]&ignoreErr == 0 {
			return i, errno
		}
		if at := rawMessage[op+7] >> storeShift; at != 0 {
			rawMessage[at/8] = r
		}
	}
	return ^uint64(0), 0
}
