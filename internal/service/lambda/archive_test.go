package lambda

import (
	"archive/zip"
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// file is one entry of a test archive.
type file struct {
	name  string
	body  string
	mode  fs.FileMode // 0 leaves the entry without a Unix mode
	time  time.Time
	flags uint16
	// size, if not 0, is declared in place of the body's, and the body is stored.
	size   uint64
	method uint16
}

func makeZip(t testing.TB, files ...file) []byte {
	t.Helper()
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	for _, f := range files {
		h := &zip.FileHeader{Name: f.name, Method: zip.Deflate, Modified: f.time}
		if f.mode != 0 {
			h.SetMode(f.mode)
		}
		if f.size != 0 || f.flags != 0 || f.method != 0 {
			h.Method = f.method
			h.Flags = f.flags
			h.CRC32 = crc32.ChecksumIEEE([]byte(f.body))
			h.CompressedSize64 = uint64(len(f.body))
			h.UncompressedSize64 = max(f.size, uint64(len(f.body)))
			out, err := w.CreateRaw(h)
			if err != nil {
				t.Fatal(err)
			}
			out.Write([]byte(f.body))
			continue
		}
		out, err := w.CreateHeader(h)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := out.Write([]byte(f.body)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

const link = fs.ModeSymlink | 0o777

// unpackTest unpacks data under a directory of its own and returns the bytes unpacked.
func unpackTest(t testing.TB, data []byte, limit int64) (dir string, size int64, err error) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "code")
	a, err := readArchive(data, limit, 1000)
	if err != nil {
		return dir, 0, err
	}
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := removeTree(dir); err != nil {
			t.Error(err)
		}
	})
	size, err = a.unpack(dir)
	return dir, size, err
}

func TestUnpack(t *testing.T) {
	stamp := time.Date(2024, 5, 6, 7, 8, 10, 0, time.UTC)
	data := makeZip(t,
		file{name: "./"},
		file{name: "bootstrap", body: "#!/bin/sh\n", mode: 0o744, time: stamp},
		file{name: "private.py", body: "x = 1\n", mode: 0o600, time: stamp},
		file{name: "nomode", body: "dos"},
		file{name: "./a//b/c.txt", body: strings.Repeat("c", 1000), mode: 0o644},
		file{name: "lib/", mode: fs.ModeDir | 0o700},
		file{name: "lib/", mode: fs.ModeDir | 0o700},
		file{name: "lib/libx.so.1", body: "so", mode: 0o755},
		file{name: "lib/libx.so", body: "libx.so.1", mode: link},
		file{name: "lib/up", body: "../a/b", mode: link},
		file{name: "lib/through", body: "up/../../bootstrap", mode: link},
		file{name: "dangling", body: "nowhere/at/all", mode: link},
		file{name: "empty", mode: 0o644},
	)
	dir, size, err := unpackTest(t, data, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	if want := int64(10 + 6 + 3 + 1000 + 2 + 9 + 6 + 18 + 14); size != want {
		t.Errorf("unpacked %d bytes, want %d", size, want)
	}
	for name, want := range map[string]fs.FileMode{
		".": fs.ModeDir | 0o555, "lib": fs.ModeDir | 0o555, "a": fs.ModeDir | 0o555, "a/b": fs.ModeDir | 0o555,
		"bootstrap": 0o555, "private.py": 0o444, "nomode": 0o444, "a/b/c.txt": 0o444, "lib/libx.so.1": 0o555,
	} {
		fi, err := os.Lstat(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if fi.Mode() != want {
			t.Errorf("%s has mode %v, want %v", name, fi.Mode(), want)
		}
	}
	for name, want := range map[string]string{
		"lib/libx.so": "libx.so.1", "lib/up": "../a/b", "lib/through": "up/../../bootstrap", "dangling": "nowhere/at/all",
	} {
		if got, err := os.Readlink(filepath.Join(dir, name)); err != nil || got != want {
			t.Errorf("%s leads to %q (%v), want %q", name, got, err, want)
		}
	}
	fi, err := os.Stat(filepath.Join(dir, "private.py"))
	if err != nil || !fi.ModTime().Equal(stamp) {
		t.Errorf("private.py is of %v (%v), want %v", fi.ModTime(), err, stamp)
	}
	if b, err := os.ReadFile(filepath.Join(dir, "lib/through")); err != nil || string(b) != "#!/bin/sh\n" {
		t.Errorf("lib/through reads %q, %v", b, err)
	}
}

func TestUnpackRefuses(t *testing.T) {
	long := strings.Repeat("n", 256)
	good := makeZip(t, file{name: "f", body: strings.Repeat("x", 100)})
	corrupt := bytes.Clone(good)
	corrupt[40] ^= 0xff
	hello := makeZip(t, file{name: "f", body: "hello", method: zip.Store, flags: 1 << 5})
	wrongSum := bytes.Replace(hello, []byte("hello"), []byte("HELLO"), 1)
	for name, c := range map[string]struct {
		data []byte
		want error
	}{
		"nothing":              {nil, errBadArchive},
		"no zip":               {[]byte("this is not a zip file"), errBadArchive},
		"half a zip":           {good[:len(good)/2], errBadArchive},
		"corrupt data":         {corrupt, errBadArchive},
		"wrong checksum":       {wrongSum, errBadArchive},
		"no entries":           {makeZip(t), errEmptyArchive},
		"only directories":     {makeZip(t, file{name: "a/"}, file{name: "a/b/"}), errEmptyArchive},
		"absolute":             {makeZip(t, file{name: "/etc/passwd", body: "x"}), errBadArchive},
		"above":                {makeZip(t, file{name: "../x", body: "x"}), errBadArchive},
		"above and back":       {makeZip(t, file{name: "a/../../code/x", body: "x"}), errBadArchive},
		"inside by dots":       {makeZip(t, file{name: "a/../x", body: "x"}), errBadArchive},
		"the directory itself": {makeZip(t, file{name: ".", body: "x", mode: 0o644}), errBadArchive},
		"no name":              {makeZip(t, file{name: "", body: "x"}), errBadArchive},
		"zero byte":            {makeZip(t, file{name: "a\x00b", body: "x"}), errBadArchive},
		"long file name":       {makeZip(t, file{name: long, body: "x"}), errBadArchive},
		"long path":            {makeZip(t, file{name: strings.Repeat("abcdefg/", 200) + "x", body: "x"}), errBadArchive},
		"duplicate":            {makeZip(t, file{name: "a", body: "1"}, file{name: "a", body: "2"}), errBadArchive},
		"duplicate by dots":    {makeZip(t, file{name: "a", body: "1"}, file{name: "./a", body: "2"}), errBadArchive},
		"file under file":      {makeZip(t, file{name: "a", body: "1"}, file{name: "a/b", body: "2"}), errBadArchive},
		"file over directory":  {makeZip(t, file{name: "a/b", body: "1"}, file{name: "a", body: "2"}), errBadArchive},
		"file under link":      {makeZip(t, file{name: "d/f", body: "1"}, file{name: "a", body: "d", mode: link}, file{name: "a/b", body: "2"}), errBadArchive},
		"link above":           {makeZip(t, file{name: "l", body: "../../etc", mode: link}), errBadArchive},
		"link absolute":        {makeZip(t, file{name: "l", body: "/etc/passwd", mode: link}), errBadArchive},
		"link to nothing":      {makeZip(t, file{name: "l", body: "", mode: link}), errBadArchive},
		"link with zero":       {makeZip(t, file{name: "l", body: "a\x00b", mode: link}), errBadArchive},
		"link too long":        {makeZip(t, file{name: "l", body: strings.Repeat("a/", 600), mode: link}), errBadArchive},
		"link to itself":       {makeZip(t, file{name: "l", body: "l", mode: link}), errBadArchive},
		"links in a circle":    {makeZip(t, file{name: "a", body: "b", mode: link}, file{name: "b", body: "a", mode: link}), errBadArchive},
		// Each link looks harmless by itself: d/e/s is the directory itself, and d/e/t leads above that.
		"link through link": {makeZip(t, file{name: "d/e/s", body: "../..", mode: link}, file{name: "d/e/t", body: "s/../x", mode: link}), errBadArchive},
		"device":            {makeZip(t, file{name: "dev", mode: fs.ModeDevice | 0o666}), errBadArchive},
		"pipe":              {makeZip(t, file{name: "pipe", mode: fs.ModeNamedPipe | 0o666}), errBadArchive},
		"socket":            {makeZip(t, file{name: "sock", mode: fs.ModeSocket | 0o666}), errBadArchive},
		"encrypted":         {makeZip(t, file{name: "f", body: "x", flags: 1, method: zip.Store}), errBadArchive},
		"strange method":    {makeZip(t, file{name: "f", body: "x", method: 12}), errBadArchive},
		"declares less":     {makeZip(t, file{name: "f", body: deflated(t, 5000), size: 10, method: zip.Deflate}), errBadArchive},
		"declares more":     {makeZip(t, file{name: "f", body: "x", size: 100, method: zip.Store}), errBadArchive},
		"too big":           {makeZip(t, file{name: "f", body: strings.Repeat("x", 60_000)}, file{name: "g", body: strings.Repeat("x", 60_000)}), errArchiveTooBig},
		"declares too much": {makeZip(t, file{name: "f", body: "x", size: 1 << 62, method: zip.Store}), errArchiveTooBig},
		"overflowing sizes": {makeZip(t, file{name: "f", body: "x", size: 1<<64 - 1, method: zip.Store}, file{name: "g", body: "x", size: 1<<64 - 1, method: zip.Store}), errArchiveTooBig},
	} {
		t.Run(name, func(t *testing.T) {
			dir, _, err := unpackTest(t, c.data, 100_000)
			if !errors.Is(err, c.want) {
				t.Fatalf("err = %v, want %v", err, c.want)
			}
			if ds, err := os.ReadDir(filepath.Dir(dir)); err != nil || len(ds) > 1 || len(ds) == 1 && ds[0].Name() != "code" {
				t.Errorf("left outside: %v, %v", ds, err)
			}
		})
	}
}

// deflated is n bytes as a deflate stream, cut from an archive.
func deflated(t testing.TB, n int) string {
	b := makeZip(t, file{name: "f", body: strings.Repeat("x", n)})
	zr, err := zip.NewReader(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	at, err := zr.File[0].DataOffset()
	if err != nil {
		t.Fatal(err)
	}
	return string(b[at : at+int64(zr.File[0].CompressedSize64)])
}

func TestUnpackEntryLimit(t *testing.T) {
	var many []file
	for i := range 600 {
		many = append(many, file{name: strings.Repeat("d/", i%7) + string(rune('a'+i%26)) + strings.Repeat("x", i/26), body: "x"})
	}
	if _, err := readArchive(makeZip(t, many...), 1<<20, 500); !errors.Is(err, errBadArchive) {
		t.Errorf("600 files of 500: %v", err)
	}
	// Directories that are only implied count too.
	deep := makeZip(t, file{name: strings.Repeat("d/", 400) + "f", body: "x"}, file{name: strings.Repeat("e/", 400) + "f", body: "x"})
	if _, err := readArchive(deep, 1<<20, 500); !errors.Is(err, errBadArchive) {
		t.Errorf("802 entries of 500: %v", err)
	}
}

// TestUnpackZip64 reads an archive whose sizes are in the zip64 extra field.
func TestUnpackZip64(t *testing.T) {
	var b bytes.Buffer
	le := binary.LittleEndian
	body := "zip64 body"
	extra := le.AppendUint16(nil, 1)
	extra = le.AppendUint16(extra, 16)
	extra = le.AppendUint64(extra, uint64(len(body)))
	extra = le.AppendUint64(extra, uint64(len(body)))
	head := func(sig uint32, central bool) {
		b.Write(le.AppendUint32(nil, sig))
		if central {
			b.Write(le.AppendUint16(nil, 3<<8|45))
		}
		for _, v := range []uint16{45, 0, zip.Store, 0, 0x5821} {
			b.Write(le.AppendUint16(nil, v))
		}
		b.Write(le.AppendUint32(nil, crc32.ChecksumIEEE([]byte(body))))
		b.Write(le.AppendUint32(nil, 1<<32-1))
		b.Write(le.AppendUint32(nil, 1<<32-1))
		b.Write(le.AppendUint16(nil, 1))
		b.Write(le.AppendUint16(nil, uint16(len(extra))))
		if central {
			b.Write(make([]byte, 6))
			b.Write(le.AppendUint32(nil, 0o100644<<16))
			b.Write(le.AppendUint32(nil, 0))
		}
		b.WriteByte('f')
		b.Write(extra)
	}
	head(0x04034b50, false)
	b.WriteString(body)
	start := b.Len()
	head(0x02014b50, true)
	size := b.Len() - start
	b.Write(le.AppendUint32(nil, 0x06054b50))
	b.Write(make([]byte, 4))
	b.Write(le.AppendUint16(nil, 1))
	b.Write(le.AppendUint16(nil, 1))
	b.Write(le.AppendUint32(nil, uint32(size)))
	b.Write(le.AppendUint32(nil, uint32(start)))
	b.Write(make([]byte, 2))
	dir, n, err := unpackTest(t, b.Bytes(), 1000)
	if err != nil || n != int64(len(body)) {
		t.Fatalf("%d bytes, %v", n, err)
	}
	if got, err := os.ReadFile(filepath.Join(dir, "f")); err != nil || string(got) != body {
		t.Errorf("%q, %v", got, err)
	}
}

func FuzzUnpack(f *testing.F) {
	f.Add(makeZip(f, file{name: "bootstrap", body: "#!/bin/sh\n", mode: 0o755}, file{name: "a/b/c", body: "c"}))
	f.Add(makeZip(f, file{name: "a/l", body: "../b", mode: link}, file{name: "b", body: "x"}))
	f.Add(makeZip(f, file{name: "d/e/s", body: "../..", mode: link}, file{name: "d/e/t", body: "s/../x", mode: link}))
	f.Add(makeZip(f, file{name: "../x", body: "x"}))
	f.Add(makeZip(f, file{name: "f", body: deflated(f, 5000), size: 10, method: zip.Deflate}))
	f.Add([]byte("PK\x05\x06" + strings.Repeat("\x00", 18)))
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > 1<<16 {
			return
		}
		dir, size, err := unpackTest(t, data, 1<<16)
		ds, readErr := os.ReadDir(filepath.Dir(dir))
		if readErr != nil || len(ds) > 1 {
			t.Fatalf("outside: %v, %v", ds, readErr)
		}
		if err != nil {
			return
		}
		if size > 1<<16 {
			t.Fatalf("%d bytes", size)
		}
		// Every link that leads anywhere leads inside.
		err = filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
			if err != nil || d.Type() != fs.ModeSymlink {
				return err
			}
			to, err := filepath.EvalSymlinks(p)
			if err == nil && to != dir && !strings.HasPrefix(to, dir+"/") {
				t.Errorf("%s leads to %s", p, to)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	})
}
