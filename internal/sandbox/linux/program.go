//go:build linux

package linux

import (
	"encoding/binary"
	"fmt"

	"golang.org/x/sys/unix"
)

// program is a list of system calls for process 1 of a sandbox. It is built
// here and interpreted in init.go.
type program struct {
	kind   uint64
	ops    [][opWords]uint64
	names  []string // of each operation, for errors
	relocs []reloc
	data   []byte // addressed by offset until encode knows where it lies
	fds    []int
}

// reloc marks a word to be turned into an address or a file descriptor.
type reloc struct {
	op, word int // the word of an operation, or
	data     int // with op < 0, a word of the data
	fd       bool
}

// arg is an argument of a system call.
type arg struct {
	value uint64
	kind  byte // 0 a number, 'd' an offset into data, 'f' an index into fds
}

func num[T ~int | ~int32 | ~int64 | ~uint | ~uint32 | ~uint64 | ~uintptr](n T) arg {
	return arg{value: uint64(n)}
}

// str puts a C string into the data.
func (p *program) str(s string) arg {
	at := len(p.data)
	p.data = append(append(p.data, s...), 0)
	return arg{uint64(at), 'd'}
}

// words puts words into the data, aligned.
func (p *program) words(ws ...uint64) arg {
	p.align()
	at := len(p.data)
	for _, w := range ws {
		p.data = binary.NativeEndian.AppendUint64(p.data, w)
	}
	return arg{uint64(at), 'd'}
}

// bytes puts bytes into the data, aligned.
func (p *program) bytes(b []byte) arg {
	p.align()
	at := len(p.data)
	p.data = append(p.data, b...)
	return arg{uint64(at), 'd'}
}

// pointers puts an array of addresses into the data, with a null at the end.
func (p *program) pointers(to []arg) arg {
	ws := make([]uint64, len(to)+1)
	for i, a := range to {
		ws[i] = a.value
	}
	array := p.words(ws...)
	for i := range to {
		p.relocs = append(p.relocs, reloc{op: -1, data: int(array.value) + 8*i})
	}
	return array
}

func (p *program) align() {
	for len(p.data)%8 != 0 {
		p.data = append(p.data, 0)
	}
}

// fd adds a file descriptor to pass.
func (p *program) fd(fd int) arg {
	p.fds = append(p.fds, fd)
	return arg{uint64(len(p.fds) - 1), 'f'}
}

// call adds a system call. The name appears in the error if it fails.
func (p *program) call(name string, nr uintptr, args ...arg) {
	var op [opWords]uint64
	op[0] = uint64(nr)
	for i, a := range args {
		op[1+i] = a.value
		if a.kind != 0 {
			p.relocs = append(p.relocs, reloc{op: len(p.ops), word: 1 + i, fd: a.kind == 'f'})
		}
	}
	p.ops = append(p.ops, op)
	p.names = append(p.names, name)
}

// try adds a system call whose failure does not matter.
func (p *program) try(nr uintptr, args ...arg) {
	p.call("", nr, args...)
	p.ops[len(p.ops)-1][7] |= ignoreErr
}

// encode gives the message of the program.
func (p *program) encode() ([]byte, error) {
	head := 8 * (headWords + opWords*len(p.ops) + len(p.relocs))
	size := head + len(p.data)
	if size > maxMessage {
		return nil, fmt.Errorf("arguments and environment too long: %w", unix.E2BIG)
	}
	if len(p.fds) > maxFDs {
		return nil, fmt.Errorf("%d file descriptors at once: %w", len(p.fds), unix.EMFILE)
	}
	b := make([]byte, 0, size)
	put := func(w uint64) { b = binary.NativeEndian.AppendUint64(b, w) }
	put(p.kind)
	put(uint64(len(p.ops)))
	put(uint64(len(p.relocs)))
	put(0)
	for _, op := range p.ops {
		for _, w := range op {
			put(w)
		}
	}
	add := func(at int) { // turns an offset into data into one into the message
		w := b[at : at+8]
		binary.NativeEndian.PutUint64(w, binary.NativeEndian.Uint64(w)+uint64(head))
	}
	for _, r := range p.relocs {
		at := head + r.data
		if r.op >= 0 {
			at = 8 * (headWords + opWords*r.op + r.word)
		}
		w := uint64(at)
		if r.fd {
			w |= relocFD
		} else if r.op >= 0 {
			add(at)
		}
		put(w)
	}
	b = append(b, p.data...)
	for _, r := range p.relocs {
		if r.op < 0 {
			add(head + r.data)
		}
	}
	return b, nil
}

// Operations that several programs share.

func (p *program) prctl(name string, option int, args ...uint64) {
	a := []arg{num(option)}
	for _, v := range args {
		a = append(a, num(v))
	}
	p.call(name, unix.SYS_PRCTL, a...)
}

// attach mounts a detached tree at a path.
func (p *program) attach(tree int, target string) {
	p.call("mount "+target, unix.SYS_MOVE_MOUNT, p.fd(tree), p.str(""), num(unix.AT_FDCWD), p.str(target), num(unix.MOVE_MOUNT_F_EMPTY_PATH))
}
