package httpevent

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"
)

func TestSplitPrelude(t *testing.T) {
	end := strings.Repeat("\x00", 8)
	long := strings.Repeat("x", maxPrelude)
	broken := errors.New("broken")
	for _, c := range []struct {
		in, prelude, body string
		err               error
	}{
		{`{"statusCode":200}` + end + "body", `{"statusCode":200}`, "body", nil},
		{`{}` + end, `{}`, "", nil},
		{end + end, "", end, nil},
		{`{}` + end + "\x00\x00rest", `{}`, "\x00\x00rest", nil},
		{long + end + long, long, long, nil},
		{long + "y" + end, "", "", ErrPreludeTooLong},
		{"", "", "", ErrNoPrelude},
		{`{"a":1}`, "", "", ErrNoPrelude},
		{`{}` + end[1:], "", "", ErrNoPrelude},
		{`{}` + end[1:] + "x" + end, "", "", ErrNoPrelude},
	} {
		for name, wrap := range map[string]func(io.Reader) io.Reader{
			"whole":       func(r io.Reader) io.Reader { return r },
			"bytes":       iotest.OneByteReader,
			"halves":      iotest.HalfReader,
			"end at once": iotest.DataErrReader,
		} {
			prelude, body, err := SplitPrelude(wrap(strings.NewReader(c.in)))
			if err != c.err || string(prelude) != c.prelude {
				t.Errorf("%s: %.40q gives %.40q %v", name, c.in, prelude, err)
				continue
			}
			if err != nil {
				continue
			}
			if got, err := io.ReadAll(body); err != nil || string(got) != c.body {
				t.Errorf("%s: the body of %.40q is %.40q %v", name, c.in, got, err)
			}
		}
	}
	if _, _, err := SplitPrelude(io.MultiReader(strings.NewReader("{}"), iotest.ErrReader(broken))); err != broken {
		t.Error(err)
	}
	_, body, err := SplitPrelude(io.MultiReader(strings.NewReader("{}"+end+"b"), iotest.ErrReader(broken)))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(body); string(got) != "b" || err != broken {
		t.Errorf("%q %v", got, err)
	}
}

func FuzzSplitPrelude(f *testing.F) {
	f.Add([]byte("{}\x00\x00\x00\x00\x00\x00\x00\x00body"), byte(1))
	f.Add([]byte("{}\x00\x00\x00\x00\x00\x00\x00x"), byte(3))
	f.Fuzz(func(t *testing.T, in []byte, piece byte) {
		prelude, body, err := SplitPrelude(&pieces{in, int(piece)%16 + 1})
		want, rest, found := bytes.Cut(in, preludeEnd)
		if i := bytes.IndexByte(in, 0); i >= 0 && i < len(want) {
			found = false
		}
		if found = found && len(want) <= maxPrelude; found != (err == nil) {
			t.Fatalf("%q: %v", in, err)
		}
		if err != nil {
			return
		}
		if got, err := io.ReadAll(body); err != nil || !bytes.Equal(got, rest) || !bytes.Equal(prelude, want) {
			t.Errorf("%q: %q and %q, %v", in, prelude, got, err)
		}
	})
}

// pieces reads b a few bytes at a time.
type pieces struct {
	b []byte
	n int
}

func (p *pieces) Read(b []byte) (int, error) {
	if len(p.b) == 0 {
		return 0, io.EOF
	}
	n := copy(b[:min(len(b), p.n)], p.b)
	p.b = p.b[n:]
	return n, nil
}
