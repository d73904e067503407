//go:build linux

package linux

import (
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/mayflyhq/mayfly/internal/sandbox"
)

// A tree is a detached mount: a file descriptor that no path leads to. Trees
// are made here, in the host's view of the files, and attached by process 1 of
// a sandbox in its own. What is never attached, or whose sandbox ended,
// vanishes with the descriptor; no mount is ever visible on the host.

const readOnly = unix.MOUNT_ATTR_RDONLY | unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV

// newFS makes a file system of the given type with options: "key" or
// "key=value".
func newFS(fstype string, attr int, options ...string) (tree int, err error) {
	fs, err := unix.Fsopen(fstype, unix.FSOPEN_CLOEXEC)
	if err != nil {
		return -1, fmt.Errorf("fsopen %s: %w", fstype, err)
	}
	defer unix.Close(fs)
	for _, o := range options {
		if key, value, ok := strings.Cut(o, "="); ok {
			err = unix.FsconfigSetString(fs, key, value)
		} else {
			err = unix.FsconfigSetFlag(fs, key)
		}
		if err != nil {
			return -1, fmt.Errorf("%s option %s: %w", fstype, o, err)
		}
	}
	if err := unix.FsconfigCreate(fs); err != nil {
		return -1, fmt.Errorf("create %s: %w", fstype, err)
	}
	tree, err = unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, attr)
	if err != nil {
		return -1, fmt.Errorf("fsmount %s: %w", fstype, err)
	}
	return tree, nil
}

// bindTree makes a tree of a host path, with the attributes.
func bindTree(path string, attr uint64) (int, error) {
	tree, err := unix.OpenTree(unix.AT_FDCWD, path, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_RECURSIVE)
	if err != nil {
		return -1, &os.PathError{Op: "open_tree", Path: path, Err: err}
	}
	if err := setAttr(tree, attr); err != nil {
		unix.Close(tree)
		return -1, &os.PathError{Op: "mount_setattr", Path: path, Err: err}
	}
	return tree, nil
}

// overlayTree merges directories, the later hiding the earlier.
func overlayTree(sources []string) (int, error) {
	// Named through descriptors, since an option is at most 255 bytes and
	// gives colons and commas a meaning.
	var lower strings.Builder
	for i := len(sources) - 1; i >= 0; i-- {
		fd, err := unix.Open(sources[i]+"/.", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			return -1, &os.PathError{Op: "open", Path: sources[i], Err: err}
		}
		defer unix.Close(fd)
		if lower.Len() > 0 {
			lower.WriteByte(':')
		}
		lower.WriteString("/proc/self/fd/" + strconv.Itoa(fd))
	}
	return newFS("overlay", readOnly, "lowerdir="+lower.String())
}

// layer is a target with the sources that make it.
type layer struct {
	target  string
	sources []string
}

// layers groups mounts by target, in the order of first mention.
func layers(mounts []sandbox.Mount) []layer {
	var ls []layer
next:
	for _, m := range mounts {
		for i := range ls {
			if ls[i].target == m.Target {
				ls[i].sources = append(ls[i].sources, m.Source)
				continue next
			}
		}
		ls = append(ls, layer{m.Target, []string{m.Source}})
	}
	return ls
}

func (l layer) tree() (int, error) {
	if len(l.sources) > 1 {
		return overlayTree(l.sources)
	}
	return bindTree(l.sources[0], readOnly)
}
