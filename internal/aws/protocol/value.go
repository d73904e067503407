package protocol

import (
	"io"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/mayflyhq/mayfly/internal/aws/smithy"
)

// How Go values hold shapes, in one place: members of simple kinds are pointers, everything else is held directly.

// mediaType is a Content-Type without parameters.
func mediaType(s string) string {
	s, _, _ = strings.Cut(s, ";")
	return strings.ToLower(strings.TrimSpace(s))
}

// structOf is the struct that ptr, a pointer to an input or output, points to.
func structOf(ptr any) reflect.Value { return reflect.ValueOf(ptr).Elem() }

// present reports whether a member is set. Values that are held directly always are.
func present(v reflect.Value) bool {
	switch v.Kind() {
	case reflect.Pointer, reflect.Slice, reflect.Map, reflect.Interface, reflect.Func:
		return !v.IsNil()
	}
	return true
}

// deref is what a set member holds.
func deref(v reflect.Value) reflect.Value {
	if v.Kind() == reflect.Pointer {
		return v.Elem()
	}
	return v
}

// alloc is where to put a member's value: a new one if v is a pointer.
func alloc(v reflect.Value) reflect.Value {
	if v.Kind() == reflect.Pointer {
		if v.IsNil() {
			v.Set(reflect.New(v.Type().Elem()))
		}
		return v.Elem()
	}
	return v
}

// grow adds a zero element to a list and returns it.
func grow(list reflect.Value) reflect.Value {
	n := list.Len()
	list.Grow(1)
	list.SetLen(n + 1)
	e := list.Index(n)
	e.SetZero()
	return e
}

// The setters avoid reflection's boxing for the member kinds that are set most.

func setString(v reflect.Value, s string) {
	if v.Kind() == reflect.Pointer {
		if p, ok := v.Addr().Interface().(**string); ok {
			*p = &s
			return
		}
	}
	alloc(v).SetString(s)
}

func setBool(v reflect.Value, b bool)      { alloc(v).SetBool(b) }
func setInt(v reflect.Value, n int64)      { alloc(v).SetInt(n) }
func setFloat(v reflect.Value, f float64)  { alloc(v).SetFloat(f) }
func setTime(v reflect.Value, t time.Time) { alloc(v).Set(reflect.ValueOf(t)) }

func timeOf(v reflect.Value) time.Time {
	if p, ok := v.Addr().Interface().(*time.Time); ok {
		return *p
	}
	return v.Interface().(time.Time)
}

// timeIn is the time that v, perhaps not addressable, holds.
func timeIn(v reflect.Value) time.Time {
	if v.CanAddr() {
		return timeOf(v)
	}
	return v.Interface().(time.Time)
}

// httpDate is the format of RFC 9110 dates.
const httpDate = "Mon, 02 Jan 2006 15:04:05 GMT"

// appendTime writes t in a format. Milliseconds are kept, finer parts are not, as on AWS.
func appendTime(b []byte, t time.Time, f smithy.TimestampFormat) []byte {
	t = t.UTC()
	switch f {
	case smithy.DateTime:
		b = t.AppendFormat(b, "2006-01-02T15:04:05")
		b = appendMillis(b, t.Nanosecond())
		return append(b, 'Z')
	case smithy.HTTPDate:
		return t.AppendFormat(b, httpDate)
	}
	sec, ns := t.Unix(), t.Nanosecond()
	if sec < 0 && ns > 0 { // -0.5 is second -1 plus half a second
		sec++
		ns = 1e9 - ns
		if sec == 0 {
			b = append(b, '-')
		}
	}
	return appendMillis(strconv.AppendInt(b, sec, 10), ns)
}

func appendMillis(b []byte, ns int) []byte {
	ms := ns / 1e6
	if ms == 0 {
		return b
	}
	b = append(b, '.', byte('0'+ms/100), byte('0'+ms/10%10), byte('0'+ms%10))
	for b[len(b)-1] == '0' {
		b = b[:len(b)-1]
	}
	return b
}

// parseTime reads a timestamp. AWS's own services are not strict about which format a client picks, so each is tried by its looks.
func parseTime(s string) (time.Time, bool) {
	if s == "" {
		return time.Time{}, false
	}
	if c := s[0]; c >= '0' && c <= '9' || c == '-' || c == '+' || c == '.' {
		if t, err := time.Parse(time.RFC3339Nano, s); err == nil {
			return t.UTC(), true
		}
		if t, err := time.Parse("2006-01-02T15:04:05.999999999", s); err == nil {
			return t, true
		}
		f, err := strconv.ParseFloat(s, 64)
		if err != nil {
			return time.Time{}, false
		}
		return epoch(f)
	}
	for _, layout := range [...]string{httpDate, time.RFC1123Z, time.RFC850, time.ANSIC} {
		if t, err := time.Parse(layout, s); err == nil {
			return t.UTC(), true
		}
	}
	return time.Time{}, false
}

// epoch is a time from seconds since 1970, to the millisecond. Years beyond 9999 are refused.
func epoch(f float64) (time.Time, bool) {
	if math.IsNaN(f) || math.Abs(f) > 253402300799 {
		return time.Time{}, false
	}
	return time.UnixMilli(int64(math.Round(f * 1000))).UTC(), true
}

// parseFloat accepts what AWS writes for numbers that JSON and XML have no literals for.
func parseFloat(s string) (float64, bool) {
	switch s {
	case "NaN":
		return math.NaN(), true
	case "Infinity":
		return math.Inf(1), true
	case "-Infinity":
		return math.Inf(-1), true
	}
	f, err := strconv.ParseFloat(s, 64)
	if err != nil || math.IsInf(f, 0) || math.IsNaN(f) {
		return 0, false
	}
	return f, true
}

// appendFloat writes a number, or the names of those that have no literal.
func appendFloat(b []byte, f float64, kind smithy.Kind) []byte {
	switch {
	case math.IsNaN(f):
		return append(b, "NaN"...)
	case math.IsInf(f, 1):
		return append(b, "Infinity"...)
	case math.IsInf(f, -1):
		return append(b, "-Infinity"...)
	}
	bits := 64
	if kind == smithy.Float {
		bits = 32
	}
	format := byte('f')
	if a := math.Abs(f); a != 0 && (a < 1e-6 || a >= 1e21) {
		format = 'e'
	}
	return strconv.AppendFloat(b, f, format, -1, bits)
}

// parseInt reads an integer of the kind's width.
func parseInt(s string, kind smithy.Kind) (int64, bool) {
	bits := 64
	if kind == smithy.Integer {
		bits = 32
	}
	n, err := strconv.ParseInt(s, 10, bits)
	return n, err == nil
}

// fits reports whether n is within the kind's width.
func fits(n int64, kind smithy.Kind) bool {
	return kind != smithy.Integer || n >= math.MinInt32 && n <= math.MaxInt32
}

// sortedKeys are the keys of a map with string keys, in order: what we write is the same every time.
func sortedKeys(v reflect.Value) []string {
	keys := make([]string, 0, v.Len())
	for it := v.MapRange(); it.Next(); {
		keys = append(keys, it.Key().String())
	}
	if len(keys) > 1 {
		slices.Sort(keys)
	}
	return keys
}

// copyStream writes a streaming blob and closes it.
func copyStream(r io.ReadCloser) func(io.Writer) error {
	return func(w io.Writer) error {
		defer r.Close()
		_, err := io.Copy(w, r)
		return err
	}
}
