package fleet

import (
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

func framed(at time.Time, message string) string {
	var h [frameHeader]byte
	binary.BigEndian.PutUint32(h[0:], frameMagic|3)
	binary.BigEndian.PutUint32(h[4:], uint32(len(message)))
	binary.BigEndian.PutUint64(h[8:], uint64(at.UnixMicro()))
	return string(h[:]) + message
}

func TestOutput(t *testing.T) {
	now, then := time.UnixMicro(2_000_000), time.UnixMicro(1_000_000)
	long := strings.Repeat("x", maxEvent)
	cases := []struct {
		name   string
		writes []string
		want   []string // seconds of the time and the message
	}{
		{"lines", []string{"a\nb\n"}, []string{"2 a\n", "2 b\n"}},
		{"a line in pieces", []string{"a", "b", "c\nd"}, []string{"2 abc\n", "2 d"}},
		{"an empty line", []string{"\na\n"}, []string{"2 \n", "2 a\n"}},
		{"a frame keeps its lines and its time", []string{framed(then, "a\nb")}, []string{"1 a\nb"}},
		{"a frame in pieces", strings.Split(framed(then, "ab"), ""), []string{"1 ab"}},
		{"a frame after an unfinished line", []string{"x" + framed(then, "a") + "y\n"}, []string{"2 x", "1 a", "2 y\n"}},
		{"an unfinished frame at the end", []string{framed(then, "ab")[:17]}, []string{"2 " + framed(then, "ab")[:17]}},
		{"a byte that begins no frame", []string{"\xa5x\n\xa5\n"}, []string{"2 \xa5x\n", "2 \xa5\n"}},
		{"a line over the limit", []string{long + "yz\n"}, []string{"2 " + long, "2 yz\n"}},
		{"a line over the limit in pieces", []string{long[:1000], long[1000:], "yz\n"}, []string{"2 " + long, "2 yz\n"}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			var got []string
			o := output{
				emit: func(at time.Time, m []byte) { got = append(got, fmt.Sprint(at.Unix(), " ", string(m))) },
				now:  func() time.Time { return now },
			}
			for _, w := range c.writes {
				o.Write([]byte(w))
			}
			o.Flush()
			if !slices.Equal(got, c.want) {
				t.Errorf("events:\n%.200q\nwant:\n%.200q", got, c.want)
			}
		})
	}
}

func TestEndLine(t *testing.T) {
	var got []string
	o := output{emit: func(_ time.Time, m []byte) { got = append(got, string(m)) }, now: time.Now}
	record := framed(time.UnixMicro(1), "whole")
	for _, w := range []string{"a", record[:5], record[5:] + "b"} {
		o.Write([]byte(w))
		o.EndLine()
	}
	if want := []string{"a", "whole", "b"}; !slices.Equal(got, want) {
		t.Errorf("events %q, want %q", got, want)
	}
}

// However the bytes are cut into writes, the events are the same, and unframed bytes all arrive.
func FuzzOutput(f *testing.F) {
	f.Add([]byte("a\nb"), uint8(1))
	f.Add([]byte(framed(time.UnixMicro(5), "x\ny")+"z\n"), uint8(3))
	f.Add([]byte("\xa5\x5a\x00\x03\x00\x00"), uint8(2))
	f.Add([]byte("ab\xa5\x5a\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\n"), uint8(2))
	f.Fuzz(func(t *testing.T, data []byte, step uint8) {
		collect := func(step int) (events []string) {
			o := output{
				emit: func(at time.Time, m []byte) { events = append(events, fmt.Sprint(at.UnixMicro(), string(m))) },
				now:  func() time.Time { return time.UnixMicro(7) },
			}
			for rest := data; len(rest) > 0; {
				n := min(step, len(rest))
				o.Write(rest[:n])
				rest = rest[n:]
			}
			o.Flush()
			return events
		}
		whole, pieces := collect(max(len(data), 1)), collect(int(step)+1)
		if !slices.Equal(whole, pieces) {
			t.Errorf("in one write: %q\nin writes of %d: %q", whole, int(step)+1, pieces)
		}
	})
}
