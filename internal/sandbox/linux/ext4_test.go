//go:build linux

package linux

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// TestFormatExt4 makes file systems of many sizes, mounts and fills them.
func TestFormatExt4(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root to mount")
	}
	for _, size := range []int64{1 << 20, 100 << 20, 124 << 20, 126 << 20, 128 << 20, 250 << 20, 512 << 20, 1<<30 + 4096, 10240 << 20} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			dir := t.TempDir()
			image := filepath.Join(dir, "image")
			f, err := os.Create(image)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			if err := formatExt4(f, size); err != nil {
				t.Fatal(err)
			}
			if fsck, err := exec.LookPath("e2fsck"); err == nil {
				if out, err := exec.Command(fsck, "-fn", image).CombinedOutput(); err != nil {
					t.Errorf("e2fsck: %v\n%s", err, out)
				}
			}
			tmp, err := newTmp(dir, size, true)
			if err != nil {
				t.Skipf("no file systems on loop devices here: %v", err)
			}
			defer tmp.close()
			var st unix.Statfs_t
			if err := unix.Fstatfs(tmp.tree, &st); err != nil {
				t.Fatal(err)
			}
			if free := int64(st.Bavail) * st.Bsize; free < size || free > size+size/40+16<<20 {
				t.Errorf("%d bytes are free of %d", free, size)
			}
			if !tmp.pristine() || tmp.used() != 0 {
				t.Error("it is not empty")
			}
			root := fmt.Sprintf("/proc/self/fd/%d", tmp.tree)
			if st, err := os.Stat(root + "/."); err != nil || st.Mode() != os.ModeDir|os.ModeSticky|0o777 {
				t.Errorf("root %v, %v", st.Mode(), err)
			}
			for i := range 100 {
				if err := os.WriteFile(fmt.Sprintf("%s/%d", root, i), make([]byte, 3000), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			if tmp.pristine() || tmp.used() == 0 {
				t.Error("it counts as empty")
			}
		})
	}
}

// TestTmpAgain sees that a /tmp that was used is not given to another sandbox.
func TestTmpAgain(t *testing.T) {
	d := &Driver{slow: make(chan struct{}, 1)}
	tmp, err := newTmp(t.TempDir(), 8<<20, true)
	if err != nil {
		t.Skipf("no file systems on loop devices here: %v", err)
	}
	d.putTmp(tmp)
	if got := d.takeTmp(8 << 20); got != tmp {
		t.Error("an untouched /tmp is not used again")
	}
	if d.takeTmp(8<<20) != nil {
		t.Error("it is given twice")
	}
	if err := os.WriteFile(fmt.Sprintf("/proc/self/fd/%d/file", tmp.tree), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	d.putTmp(tmp)
	if d.takeTmp(8<<20) != nil {
		t.Error("a /tmp with an empty file in it is used again")
	}
}
