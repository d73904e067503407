package lambda

import (
	"archive/zip"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"path"
	"strings"
	"time"
)

// errBadArchive is data that cannot be unpacked, or must not be. Callers of the API see one text for all of
// it, as on AWS; the wrapped detail is for tests and logs.
var errBadArchive = errors.New("bad archive")

// errEmptyArchive is an archive without any file, errArchiveTooBig one that unpacks to more bytes than allowed.
var (
	errEmptyArchive  = errors.New("empty archive")
	errArchiveTooBig = errors.New("archive too big")
)

func badArchive(format string, args ...any) error {
	return fmt.Errorf("%w: %s", errBadArchive, fmt.Sprintf(format, args...))
}

const (
	maxEntryName  = 1024 // bytes of an entry's path; with the directory before it this stays below Linux's 4096
	maxComponent  = 255  // bytes of one file name, Linux's own limit
	maxLinkTarget = 1024 // bytes
	maxLinkHops   = 40   // links followed in one path, Linux's own limit
)

// entryKind is what an archive's entry becomes on disk.
type entryKind uint8

const (
	directory entryKind = iota
	regular
	symlink
)

// entry is one file, link or directory to make. Directories that an archive only implies have no file.
type entry struct {
	path   string // clean, relative, with slashes
	kind   entryKind
	file   *zip.File
	target string // of a symlink
}

// archive is a deployment package whose directory has been checked: every path is inside, unique and makeable, every link ends
// inside, and the declared sizes are within the limit. Contents are checked while they are unpacked.
type archive struct {
	entries []entry // parents before children
	limit   int64   // bytes unpacked
}

// readArchive checks data's directory. limit bounds the unpacked bytes and entries the files and directories made.
//
// Refused are absolute paths and paths with "..", duplicates, files that are another entry's directory, devices
// and other special files, encryption, compression other than deflate, and links that lead outside, whether directly or
// through other links. "./a" and "a//b" are read as unzip does.
func readArchive(data []byte, limit int64, entries int) (*archive, error) {
	zr, err := zip.NewReader(bytes.NewReader(data), int64(len(data)))
	if err != nil {
		return nil, badArchive("%v", err)
	}
	if len(zr.File) > entries {
		return nil, badArchive("%d entries", len(zr.File))
	}
	a := &archive{limit: limit}
	seen := make(map[string]entryKind, len(zr.File))
	var size uint64
	files := 0
	for _, f := range zr.File {
		e, err := readEntry(f)
		if err != nil {
			return nil, err
		}
		if size += f.UncompressedSize64; f.UncompressedSize64 > math.MaxInt64 || size > uint64(limit) {
			return nil, errArchiveTooBig
		}
		if e.path == "." {
			continue // "./" itself
		}
		if err := a.addParents(seen, e.path); err != nil {
			return nil, err
		}
		switch kind, dup := seen[e.path]; {
		case !dup:
			seen[e.path] = e.kind
			a.entries = append(a.entries, e)
		case kind != directory || e.kind != directory:
			return nil, badArchive("duplicate %q", e.path)
		}
		if e.kind != directory {
			files++
		}
		if len(a.entries) > entries {
			return nil, badArchive("more than %d files and directories", entries)
		}
	}
	if files == 0 {
		return nil, errEmptyArchive
	}
	return a, a.checkLinks()
}

// unzippedSize is the bytes that an archive unpacks to, which are held to what its directory says; 0 if it has none.
func unzippedSize(data []byte) (size int64) {
	zr, err := zip.NewReader(bytes.NewReader(data), int64(len(data)))
	if err != nil {
		return 0
	}
	for _, f := range zr.File {
		size += int64(f.UncompressedSize64)
	}
	return size
}

// addParents adds the directories that lead to p.
func (a *archive) addParents(seen map[string]entryKind, p string) error {
	for i := 0; i < len(p); i++ {
		if p[i] != '/' {
			continue
		}
		dir := p[:i]
		kind, ok := seen[dir]
		if ok && kind != directory {
			return badArchive("%q is under a file", p)
		}
		if !ok {
			seen[dir] = directory
			a.entries = append(a.entries, entry{path: dir, kind: directory})
		}
	}
	return nil
}

func readEntry(f *zip.File) (entry, error) {
	e := entry{file: f}
	const encrypted, strongly, masked = 1 << 0, 1 << 6, 1 << 13
	if f.Flags&(encrypted|strongly|masked) != 0 {
		return e, badArchive("%q is encrypted", f.Name)
	}
	if f.Method != zip.Store && f.Method != zip.Deflate {
		return e, badArchive("%q has compression method %d", f.Name, f.Method)
	}
	var err error
	if e.path, err = entryPath(f.Name); err != nil {
		return e, err
	}
	switch mode := f.Mode(); {
	case mode.IsDir():
		e.kind = directory
	case strings.HasSuffix(f.Name, "/"):
		return e, badArchive("%q is a file with a directory's name", f.Name)
	case e.path == ".":
		return e, badArchive("%q names the directory itself", f.Name)
	case mode.IsRegular():
		e.kind = regular
	case mode&fs.ModeType == fs.ModeSymlink:
		e.kind = symlink
		e.target, err = readLink(f)
	default:
		return e, badArchive("%q is a special file", f.Name)
	}
	return e, err
}

// entryPath returns the clean relative path of an entry's name, "." for the directory itself.
func entryPath(name string) (string, error) {
	switch {
	case name == "" || strings.IndexByte(name, 0) >= 0:
		return "", badArchive("name %q", name)
	case name[0] == '/':
		return "", badArchive("absolute name %q", name)
	case len(name) > maxEntryName:
		return "", badArchive("name of %d bytes", len(name))
	}
	for part := range strings.SplitSeq(name, "/") {
		if part == ".." {
			return "", badArchive("name %q leads outside", name)
		}
		if len(part) > maxComponent {
			return "", badArchive("file name of %d bytes", len(part))
		}
	}
	return path.Clean(name), nil
}

func readLink(f *zip.File) (string, error) {
	r, err := f.Open()
	if err != nil {
		return "", badArchive("%v", err)
	}
	defer r.Close()
	b, err := io.ReadAll(io.LimitReader(r, maxLinkTarget+1))
	switch {
	case err != nil:
		return "", badArchive("link %q: %v", f.Name, err)
	case len(b) == 0 || len(b) > maxLinkTarget || bytes.IndexByte(b, 0) >= 0:
		return "", badArchive("link %q has a target of %d bytes", f.Name, len(b))
	case b[0] == '/':
		return "", badArchive("link %q leads to %q", f.Name, b)
	}
	return string(b), nil
}

// checkLinks follows every link as the kernel would and refuses those that leave the directory on the way.
func (a *archive) checkLinks() error {
	links := map[string]string{}
	for _, e := range a.entries {
		if e.kind == symlink {
			links[e.path] = e.target
		}
	}
	for from := range links {
		if err := follow(links, from); err != nil {
			return err
		}
	}
	return nil
}

func follow(links map[string]string, from string) error {
	at := "" // where we are, a clean path without links; "" is the directory itself
	rest := from
	for hops := 0; rest != ""; {
		var part string
		part, rest, _ = strings.Cut(rest, "/")
		switch part {
		case "", ".":
			continue
		case "..":
			if at == "" {
				return badArchive("link %q leads outside", from)
			}
			at = strings.TrimPrefix(path.Dir("/"+at), "/")
			continue
		}
		next := path.Join(at, part)
		target, link := links[next]
		if !link {
			at = next
			continue
		}
		if hops++; hops > maxLinkHops {
			return badArchive("link %q never ends", from)
		}
		rest = target + "/" + rest
		if len(rest) > 4*maxLinkTarget {
			return badArchive("link %q is too long", from)
		}
	}
	return nil
}

// unpack makes the archive's files in dir, an empty directory, and returns their bytes. Files become readable by all and writable by none, and
// executable by all if they were by anyone; times are kept, because Python compares them with those in its caches. Nothing
// is ever written through a link. On failure the caller removes dir.
func (a *archive) unpack(dir string) (int64, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return 0, err
	}
	defer root.Close()
	var size int64
	buf := make([]byte, 64<<10)
	for _, e := range a.entries {
		switch e.kind {
		case directory:
			err = root.Mkdir(e.path, 0o755)
		case symlink:
			err = root.Symlink(e.target, e.path)
			size += int64(len(e.target))
		case regular:
			var n int64
			n, err = writeFile(root, e, a.limit-size, buf)
			size += n
		}
		if err != nil {
			return size, err
		}
	}
	// Children first, so that a directory is still writable while its children change.
	for i := len(a.entries) - 1; i >= 0; i-- {
		if e := a.entries[i]; e.kind == directory {
			if err := root.Chmod(e.path, 0o555); err != nil {
				return size, err
			}
		}
	}
	return size, os.Chmod(dir, 0o555)
}

// writeFile unpacks one file of at most limit bytes. zip verifies the declared size and checksum.
func writeFile(root *os.Root, e entry, limit int64, buf []byte) (n int64, err error) {
	r, err := e.file.Open()
	if err != nil {
		return 0, badArchive("%v", err)
	}
	defer r.Close()
	f, err := root.OpenFile(e.path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return 0, badArchive("duplicate %q", e.path) // names that differ only by case, where the file system folds it
	}
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	n, err = copyBounded(f, r, limit, buf)
	if err != nil {
		return n, err
	}
	perm := fs.FileMode(0o444)
	if e.file.Mode()&0o111 != 0 {
		perm = 0o555
	}
	if err := f.Chmod(perm); err != nil {
		return n, err
	}
	if t := e.file.Modified; !t.IsZero() && t.Year() > 1970 {
		return n, root.Chtimes(e.path, time.Time{}, t)
	}
	return n, nil
}

// copyBounded copies r to w. Errors of r are the archive's fault, errors of w the machine's.
func copyBounded(w io.Writer, r io.Reader, limit int64, buf []byte) (int64, error) {
	var n int64
	for {
		m, err := r.Read(buf)
		if n += int64(m); n > limit {
			return n, errArchiveTooBig
		}
		if m > 0 {
			if _, err := w.Write(buf[:m]); err != nil {
				return n, err
			}
		}
		if err == io.EOF {
			return n, nil
		}
		if err != nil {
			return n, badArchive("%v", err)
		}
	}
}

// removeTree removes a tree that unpack made, whose directories nobody may write to.
func removeTree(dir string) error {
	if os.Geteuid() != 0 {
		err := os.Chmod(dir, 0o755)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		root, err := os.OpenRoot(dir)
		if err != nil {
			return err
		}
		err = fs.WalkDir(root.FS(), ".", func(p string, d fs.DirEntry, err error) error {
			if err == nil && d.IsDir() {
				return root.Chmod(p, 0o755)
			}
			return err
		})
		root.Close()
		if err != nil {
			return err
		}
	}
	return os.RemoveAll(dir)
}
