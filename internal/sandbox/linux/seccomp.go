//go:build linux

package linux

import (
	"encoding/binary"

	"golang.org/x/sys/unix"
)

// The system call filter. Everything that a program may need is allowed, and
// what is left over of the kernel's surface is closed: what makes or joins
// namespaces, mounts, traces, loads code into the kernel, or has been the
// source of most escapes. Capabilities would refuse most of it as well; the
// filter also keeps the code behind it from being reached.

// denied fail with EPERM.
var denied = append([]uint32{
	unix.SYS_MOUNT, unix.SYS_UMOUNT2, unix.SYS_PIVOT_ROOT, unix.SYS_CHROOT,
	unix.SYS_FSOPEN, unix.SYS_FSCONFIG, unix.SYS_FSMOUNT, unix.SYS_FSPICK, unix.SYS_MOVE_MOUNT,
	unix.SYS_OPEN_TREE, unix.SYS_MOUNT_SETATTR, unix.SYS_SETNS,
	unix.SYS_PTRACE, unix.SYS_PROCESS_VM_READV, unix.SYS_PROCESS_VM_WRITEV, unix.SYS_PROCESS_MADVISE,
	unix.SYS_KCMP, unix.SYS_PIDFD_GETFD,
	unix.SYS_KEYCTL, unix.SYS_ADD_KEY, unix.SYS_REQUEST_KEY,
	unix.SYS_BPF, unix.SYS_PERF_EVENT_OPEN, unix.SYS_USERFAULTFD, unix.SYS_FANOTIFY_INIT,
	unix.SYS_NAME_TO_HANDLE_AT, unix.SYS_OPEN_BY_HANDLE_AT, unix.SYS_LOOKUP_DCOOKIE,
	unix.SYS_INIT_MODULE, unix.SYS_FINIT_MODULE, unix.SYS_DELETE_MODULE,
	unix.SYS_KEXEC_LOAD, unix.SYS_REBOOT, unix.SYS_SWAPON, unix.SYS_SWAPOFF,
	unix.SYS_ACCT, unix.SYS_QUOTACTL, unix.SYS_QUOTACTL_FD, unix.SYS_SYSLOG, unix.SYS_VHANGUP,
	unix.SYS_NFSSERVCTL, unix.SYS_SETTIMEOFDAY, unix.SYS_CLOCK_SETTIME, unix.SYS_CLOCK_ADJTIME, unix.SYS_ADJTIMEX,
	unix.SYS_SETHOSTNAME, unix.SYS_SETDOMAINNAME,
	unix.SYS_MBIND, unix.SYS_MIGRATE_PAGES, unix.SYS_MOVE_PAGES, unix.SYS_SET_MEMPOLICY,
	unix.SYS_KEXEC_FILE_LOAD,
}, deniedHere...)

// absent fail with ENOSYS, upon which programs fall back to older calls:
// clone3, whose flags a filter cannot read, and io_uring, whose operations it
// cannot see.
var absent = []uint32{
	unix.SYS_CLONE3, unix.SYS_IO_URING_SETUP, unix.SYS_IO_URING_ENTER, unix.SYS_IO_URING_REGISTER,
	unix.SYS_STATMOUNT, unix.SYS_LISTMOUNT,
}

// newest is the last system call that has been looked at; later ones are
// absent.
const newest = 466

const newNamespaces = unix.CLONE_NEWNS | unix.CLONE_NEWCGROUP | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC |
	unix.CLONE_NEWUSER | unix.CLONE_NEWPID | unix.CLONE_NEWNET | unix.CLONE_NEWTIME

// Offsets in struct seccomp_data, little-endian.
const (
	atNumber = 0
	atArch   = 4
	atArg0   = 16
	atArg1   = 24
	atArg2   = 32
)

const (
	retAllow = 0x7fff0000
	retErrno = 0x00050000
	retKill  = 0x80000000
)

// filter assembles a classic BPF program. Jumps only skip a return, so no
// offset ever grows.
type filter struct{ code []byte }

func (f *filter) put(code uint16, jt, jf uint8, k uint32) {
	f.code = binary.LittleEndian.AppendUint16(f.code, code)
	f.code = append(f.code, jt, jf)
	f.code = binary.LittleEndian.AppendUint32(f.code, k)
}

func (f *filter) load(at uint32)  { f.put(unix.BPF_LD|unix.BPF_W|unix.BPF_ABS, 0, 0, at) }
func (f *filter) ret(what uint32) { f.put(unix.BPF_RET|unix.BPF_K, 0, 0, what) }

// onEqual runs the next n instructions only if the loaded word is k; the others skip them.
func (f *filter) onEqual(k uint32, n uint8)   { f.put(unix.BPF_JMP|unix.BPF_JEQ|unix.BPF_K, 0, n, k) }
func (f *filter) onGreater(k uint32, n uint8) { f.put(unix.BPF_JMP|unix.BPF_JGT|unix.BPF_K, 0, n, k) }
func (f *filter) onBits(k uint32, n uint8)    { f.put(unix.BPF_JMP|unix.BPF_JSET|unix.BPF_K, 0, n, k) }

// errno is what a system call that is refused returns.
func errno(e unix.Errno) uint32 { return retErrno | uint32(e) }

// newFilter gives the program as an array of struct sock_filter.
func newFilter() []byte {
	f := &filter{}
	f.load(atArch)
	f.put(unix.BPF_JMP|unix.BPF_JEQ|unix.BPF_K, 1, 0, auditArch)
	f.ret(retKill) // 32-bit calls on a 64-bit kernel
	f.load(atNumber)
	f.onGreater(newest, 1)
	f.ret(errno(unix.ENOSYS)) // x32 calls have bit 30 set, so they end here too
	for _, nr := range absent {
		f.onEqual(nr, 1)
		f.ret(errno(unix.ENOSYS))
	}
	for _, nr := range denied {
		f.onEqual(nr, 1)
		f.ret(errno(unix.EPERM))
	}
	for _, nr := range []uint32{unix.SYS_CLONE, unix.SYS_UNSHARE} {
		f.onEqual(nr, 4)
		f.load(atArg0)
		f.onBits(newNamespaces, 1)
		f.ret(errno(unix.EPERM))
		f.ret(retAllow)
	}
	// Families with little use and many bugs are not offered; of netlink,
	// only what getifaddrs asks.
	f.onEqual(unix.SYS_SOCKET, 12)
	f.load(atArg0)
	for _, family := range []uint32{unix.AF_UNIX, unix.AF_INET, unix.AF_INET6} {
		f.onEqual(family, 1)
		f.ret(retAllow)
	}
	f.onEqual(unix.AF_NETLINK, 3)
	f.load(atArg2)
	f.onEqual(unix.NETLINK_ROUTE, 1)
	f.ret(retAllow)
	f.ret(errno(unix.EAFNOSUPPORT))
	f.onEqual(unix.SYS_IOCTL, 6)
	f.load(atArg1)
	for _, request := range []uint32{unix.TIOCSTI, unix.TIOCLINUX} {
		f.onEqual(request, 1)
		f.ret(errno(unix.EPERM))
	}
	f.ret(retAllow)
	// Other personalities change how memory is laid out and protected.
	f.onEqual(unix.SYS_PERSONALITY, 6)
	f.load(atArg0)
	for _, persona := range []uint32{0, 0xffffffff} {
		f.onEqual(persona, 1)
		f.ret(retAllow)
	}
	f.ret(errno(unix.EPERM))
	f.ret(retAllow)
	return f.code
}
