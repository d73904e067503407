//go:build linux

package linux

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A sandbox's /tmp is a file system of its own of exactly the wanted size, on
// disk: ext4 in a file without a name, through a loop device. A tmpfs would be
// simpler, but its pages are charged to the cgroup of whoever writes them, so
// a function that fills the /tmp it paid for would be killed for memory; and
// ten gigabytes of it would sit in the machine's memory. What of a disk file
// is cached is given back under pressure.
//
// Nothing is left if Mayfly is killed: the file has no name, and the loop
// device clears itself when the last mount goes.

//
// Most functions leave /tmp as they found it. Then the file system is used
// again for another sandbox, since to make and to remove one takes the kernel
// some milliseconds each.

// tmpFS is a file system for /tmp.
type tmpFS struct {
	tree   int // a mount of it that is never attached
	size   int64
	device string // empty if it is in memory

	usedBlocks, freeFiles uint64 // of the empty file system
}

// newTmp makes a /tmp on disk, or in memory if disk is false.
func newTmp(dir string, size int64, disk bool) (*tmpFS, error) {
	if !disk {
		tree, err := newFS("tmpfs", unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NODEV, "mode=1777", fmt.Sprintf("size=%d", size))
		if err != nil {
			return nil, fmt.Errorf("/tmp: %w", err)
		}
		return &tmpFS{tree: tree, size: size}, nil
	}
	f, err := nameless(dir)
	if err != nil {
		return nil, fmt.Errorf("/tmp: %w", err)
	}
	defer f.Close()
	if err := formatExt4(f, size); err != nil {
		return nil, fmt.Errorf("/tmp: format: %w", err)
	}
	loop, path, err := attachLoop(f)
	if err != nil {
		return nil, fmt.Errorf("/tmp: %w", err)
	}
	defer loop.Close()
	t := &tmpFS{size: size, device: path}
	if t.tree, err = t.mount(); err != nil {
		return nil, fmt.Errorf("/tmp: %w", err)
	}
	t.usedBlocks, t.freeFiles = t.stat()
	return t, nil
}

// mount makes a tree of it. The kernel mounts a file system once and then
// gives the same one again, whose cost is small.
func (t *tmpFS) mount() (int, error) {
	if t.device == "" {
		return unix.FcntlInt(uintptr(t.tree), unix.F_DUPFD_CLOEXEC, 0)
	}
	return newFS("ext4", unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NODEV|unix.MOUNT_ATTR_NOATIME,
		"source="+t.device, "discard", "nobarrier", "errors=continue")
}

func (t *tmpFS) stat() (usedBlocks, freeFiles uint64) {
	var st unix.Statfs_t
	if unix.Fstatfs(t.tree, &st) != nil {
		return 0, 0
	}
	return st.Blocks - st.Bfree, st.Ffree
}

// pristine reports whether nothing is in it and nothing grew.
func (t *tmpFS) pristine() bool {
	blocks, files := t.stat()
	return t.device != "" && blocks == t.usedBlocks && files == t.freeFiles
}

// nameless makes a file that no directory knows.
func nameless(dir string) (*os.File, error) {
	fd, err := unix.Open(dir, unix.O_TMPFILE|unix.O_RDWR|unix.O_CLOEXEC|unix.O_EXCL, 0o600)
	if err == nil {
		return os.NewFile(uintptr(fd), filepath.Join(dir, "tmp")), nil
	}
	f, err := os.CreateTemp(dir, "tmp-*")
	if err != nil {
		return nil, err
	}
	if err := os.Remove(f.Name()); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// attachLoop finds a free loop device and attaches the file. The device clears
// itself when nothing uses it any more.
func attachLoop(f *os.File) (*os.File, string, error) {
	control, err := os.OpenFile("/dev/loop-control", os.O_RDWR, 0)
	if err != nil {
		return nil, "", err
	}
	defer control.Close()
	for range 64 {
		n, _, errno := unix.Syscall(unix.SYS_IOCTL, control.Fd(), unix.LOOP_CTL_GET_FREE, 0)
		if errno != 0 {
			return nil, "", fmt.Errorf("free loop device: %w", errno)
		}
		path := fmt.Sprintf("/dev/loop%d", n)
		loop, err := os.OpenFile(path, os.O_RDWR, 0)
		if err != nil {
			return nil, "", err
		}
		config := unix.LoopConfig{Fd: uint32(f.Fd()), Size: 4096}
		// Without direct I/O every page would be cached twice.
		config.Info.Flags = unix.LO_FLAGS_AUTOCLEAR | unix.LO_FLAGS_DIRECT_IO
		err = unix.IoctlLoopConfigure(int(loop.Fd()), &config)
		if errors.Is(err, unix.EINVAL) {
			config.Info.Flags = unix.LO_FLAGS_AUTOCLEAR
			err = unix.IoctlLoopConfigure(int(loop.Fd()), &config)
		}
		if err == nil {
			return loop, path, nil
		}
		loop.Close()
		if !errors.Is(err, unix.EBUSY) { // somebody else took it first
			return nil, "", fmt.Errorf("%s: %w", path, err)
		}
	}
	return nil, "", errors.New("no free loop device")
}

// used is what the files in it occupy.
func (t *tmpFS) used() int64 {
	blocks, _ := t.stat()
	return int64(blocks-t.usedBlocks) * 4096
}

// close lets go of it. What was written to disk and not yet there is thrown
// away first, since nobody will read it.
func (t *tmpFS) close() {
	if t.device != "" {
		// EXT4_IOC_SHUTDOWN with EXT4_GOING_FLAGS_NOLOGFLUSH.
		const shutdown, noLogFlush = 0x8004587d, 2
		if fd, err := unix.Openat(t.tree, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0); err == nil {
			flags := uint32(noLogFlush)
			unix.Syscall(unix.SYS_IOCTL, uintptr(fd), shutdown, uintptr(unsafe.Pointer(&flags)))
			unix.Close(fd)
		}
	}
	unix.Close(t.tree)
}
