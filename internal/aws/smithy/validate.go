package smithy

import (
	"fmt"
	"net/http"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/mayflyhq/mayfly/internal/aws/apierr"
)

// maxValidationErrors is how many failures AWS reports of one request.
const maxValidationErrors = 10

// Validate checks in, a pointer to the operation's input, against every constraint of its model, and returns nil or an
// *apierr.Error in AWS's words. Lengths of strings are counted in Unicode characters, of blobs in bytes.
func Validate(op *OpInfo, in any) error { return validate(op, in, nil) }

func validate(op *OpInfo, in any, unchecked map[string]bool) error {
	op.Service.once.Do(op.Service.markConstrained)
	if !op.Input.constrained {
		return nil
	}
	v := validator{svc: op.Service, unchecked: unchecked}
	v.structure(op.Input, reflect.ValueOf(in).Elem(), nil)
	if len(v.failures) == 0 {
		return nil
	}
	plural := ""
	if len(v.failures) > 1 {
		plural = "s"
	}
	return apierr.New(op.Service.ValidationCode, http.StatusBadRequest, "%d validation error%s detected: %s",
		len(v.failures), plural, strings.Join(v.failures, "; "))
}

// markConstrained finds the shapes that have constraints at any depth, so that validation does not walk the others.
func (svc *Service) markConstrained() {
	for changed := true; changed; {
		changed = false
		for i := range svc.Shapes {
			sh := &svc.Shapes[i]
			if sh.constrained {
				continue // its members have their labels
			}
			c := sh.Range != nil || sh.Pattern != "" || len(sh.Enum) > 0
			switch sh.Kind {
			case List:
				c = c || sh.Elem.Shape.constrained
			case Map:
				c = c || sh.Elem.Shape.constrained || sh.Key.Shape.constrained
			}
			for j := range sh.Members {
				sh.Members[j].label = lowerFirst(sh.Members[j].Name)
				c = c || sh.Members[j].Required || sh.Members[j].Shape.constrained
			}
			if c {
				sh.constrained, changed = true, true
			}
		}
	}
}

type validator struct {
	svc       *Service
	unchecked map[string]bool
	failures  []string
}

// step is one part of the path to a value; steps form a list from the inside out, so that paths cost nothing until they are printed.
type step struct {
	up    *step
	name  string // as messages print it: a member, "1.member", or a map's key
	place string // as Unchecked names it
}

func (s *step) path(part func(*step) string) string {
	if s == nil {
		return ""
	}
	if s.up == nil {
		return part(s)
	}
	return s.up.path(part) + "." + part(s)
}

func (s *step) String() string { return s.path(func(s *step) string { return s.name }) }

func (v *validator) skips(s *step) bool {
	return v.unchecked != nil && v.unchecked[s.path(func(s *step) string { return s.place })]
}

func (v *validator) structure(sh *Shape, val reflect.Value, up *step) {
	s := &step{up: up} // one for all members: nobody keeps it
	for i := range sh.Members {
		m := &sh.Members[i]
		if !m.Required && !m.Shape.constrained || m.Shape.EventStream || len(v.failures) >= maxValidationErrors {
			continue
		}
		s.name, s.place = m.label, m.label
		if v.skips(s) {
			continue
		}
		f := val.Field(i)
		switch f.Kind() {
		case reflect.Pointer, reflect.Slice, reflect.Map, reflect.Interface:
			if f.IsNil() {
				if m.Required {
					v.fail(m.Shape, f, s, "Member must not be null")
				}
				continue
			}
		}
		if f.Kind() == reflect.Pointer {
			f = f.Elem()
		}
		if m.Shape.constrained && !m.Streaming {
			v.value(m.Shape, f, s)
		}
	}
}

func (v *validator) value(sh *Shape, val reflect.Value, s *step) {
	if fs := failed(sh, val); fs != nil {
		for _, f := range fs {
			v.fail(sh, val, s, f)
		}
	}
	switch sh.Kind {
	case Structure:
		v.structure(sh, val, s)
	case List:
		es := sh.Elem.Shape
		if !es.constrained {
			return
		}
		if es.Kind.Simple() {
			// Messages name the list and what holds for its elements, not the element.
			for i := range val.Len() {
				if failed(es, val.Index(i)) != nil {
					v.fail(sh, val, s, "Member must satisfy constraint: "+constraints(es))
					return
				}
			}
			return
		}
		for i := range val.Len() {
			es := &step{s, strconv.Itoa(i+1) + ".member", "*"}
			if !v.skips(es) {
				v.value(sh.Elem.Shape, val.Index(i), es)
			}
		}
	case Map:
		v.entries(sh, val, s)
	}
}

func (v *validator) entries(sh *Shape, val reflect.Value, s *step) {
	es := sh.Elem.Shape
	if !sh.Key.Shape.constrained && !es.constrained {
		return
	}
	keys := val.MapKeys()
	slices.SortFunc(keys, func(a, b reflect.Value) int { return strings.Compare(a.String(), b.String()) })
	for _, k := range keys {
		if failed(sh.Key.Shape, k) != nil {
			v.fail(sh, val, s, "Map keys must satisfy constraint: "+constraints(sh.Key.Shape))
			break
		}
	}
	if !es.constrained {
		return
	}
	for _, k := range keys {
		e := val.MapIndex(k)
		if es.Kind != Structure && !(es.Kind == List && !es.Elem.Shape.Kind.Simple()) {
			if failed(es, e) != nil {
				v.fail(sh, val, s, "Map value must satisfy constraint: "+constraints(es))
				break
			}
			continue
		}
		ks := &step{s, k.String() + ".member", "*"}
		if !v.skips(ks) {
			v.value(es, e, ks)
		}
	}
}

func (v *validator) fail(sh *Shape, val reflect.Value, s *step, constraint string) {
	if len(v.failures) >= maxValidationErrors {
		return
	}
	value := " '" + printed(sh, val) + "'"
	switch {
	case v.svc.HidesValues || sh.Sensitive:
		value = ""
	case val.Kind() != reflect.Struct && (val.Kind() == reflect.Pointer || val.Kind() == reflect.Slice || val.Kind() == reflect.Map || val.Kind() == reflect.Interface) && val.IsNil():
		value = " null"
	}
	v.failures = append(v.failures, fmt.Sprintf("Value%s at '%s' failed to satisfy constraint: %s", value, s, constraint))
}

// failed lists the constraints of sh itself that val breaks, in AWS's order; nil if none.
func failed(sh *Shape, val reflect.Value) (fs []string) {
	if len(sh.Enum) > 0 && !slices.Contains(sh.Enum, val.String()) {
		fs = append(fs, mustEnum(sh))
	}
	if sh.Pattern != "" && sh.Kind == String && !sh.pattern().matches(val.String()) {
		fs = append(fs, mustMatch(sh))
	}
	if sh.Range == nil {
		return fs
	}
	var n float64
	switch sh.Kind {
	case String:
		n = float64(utf8.RuneCountInString(val.String()))
	case Blob, List, Map:
		n = float64(val.Len())
	case Integer, Long:
		n = float64(val.Int())
	case Float, Double:
		n = val.Float()
	default:
		return fs
	}
	if n > sh.Range.Max {
		fs = append(fs, atMost(sh))
	}
	if n < sh.Range.Min {
		fs = append(fs, atLeast(sh))
	}
	return fs
}

// constraints lists everything that must hold for an element, as messages about its list or map do.
func constraints(sh *Shape) string {
	var cs []string
	if r := sh.Range; r != nil {
		if r.Max != NoMax {
			cs = append(cs, atMost(sh))
		}
		if r.Min != NoMin {
			cs = append(cs, atLeast(sh))
		}
	}
	if sh.Pattern != "" {
		cs = append(cs, mustMatch(sh))
	}
	if len(sh.Enum) > 0 {
		cs = append(cs, mustEnum(sh))
	}
	return "[" + strings.Join(append(cs, "Member must not be null"), ", ") + "]"
}

func mustEnum(sh *Shape) string {
	return "Member must satisfy enum value set: [" + strings.Join(sh.Enum, ", ") + "]"
}

func mustMatch(sh *Shape) string {
	return "Member must satisfy regular expression pattern: " + sh.Pattern
}

func atMost(sh *Shape) string {
	return "Member must have " + measure(sh) + " less than or equal to " + number(sh, sh.Range.Max)
}

func atLeast(sh *Shape) string {
	return "Member must have " + measure(sh) + " greater than or equal to " + number(sh, sh.Range.Min)
}

func measure(sh *Shape) string {
	switch sh.Kind {
	case Integer, Long, Float, Double:
		return "value"
	}
	return "length"
}

// number prints a bound as Java does: 1 or 1.0.
func number(sh *Shape, f float64) string {
	s := strconv.FormatFloat(f, 'f', -1, 64)
	if (sh.Kind == Float || sh.Kind == Double) && !strings.Contains(s, ".") {
		s += ".0"
	}
	return s
}

// printed is a value as Java's toString has it, since that is what AWS's messages hold.
func printed(sh *Shape, v reflect.Value) string {
	switch v.Kind() {
	case reflect.Pointer, reflect.Slice, reflect.Map, reflect.Interface:
		if v.IsNil() {
			return "null"
		}
	}
	if v.Kind() == reflect.Pointer {
		v = v.Elem()
	}
	if sh.Sensitive {
		return "***"
	}
	switch sh.Kind {
	case String:
		return v.String()
	case Boolean:
		return strconv.FormatBool(v.Bool())
	case Integer, Long:
		return strconv.FormatInt(v.Int(), 10)
	case Float, Double:
		return number(sh, v.Float())
	case Timestamp:
		return v.Interface().(time.Time).UTC().Format("Mon Jan 02 15:04:05 UTC 2006")
	case Blob:
		if v.Kind() == reflect.Slice {
			return fmt.Sprintf("java.nio.HeapByteBuffer[pos=0 lim=%d cap=%[1]d]", v.Len())
		}
	case List:
		parts := make([]string, v.Len())
		for i := range parts {
			parts[i] = printed(sh.Elem.Shape, v.Index(i))
		}
		return "[" + strings.Join(parts, ", ") + "]"
	case Map:
		keys := v.MapKeys()
		slices.SortFunc(keys, func(a, b reflect.Value) int { return strings.Compare(a.String(), b.String()) })
		parts := make([]string, len(keys))
		for i, k := range keys {
			parts[i] = k.String() + "=" + printed(sh.Elem.Shape, v.MapIndex(k))
		}
		return "{" + strings.Join(parts, ", ") + "}"
	case Structure:
		var parts []string
		for i := range sh.Members {
			if i < v.NumField() && !v.Field(i).IsZero() {
				parts = append(parts, lowerFirst(sh.Members[i].Name)+"="+printed(sh.Members[i].Shape, v.Field(i)))
			}
		}
		return sh.Name + "(" + strings.Join(parts, ", ") + ")"
	}
	return ""
}

func lowerFirst(s string) string {
	r, n := utf8.DecodeRuneInString(s)
	if !unicode.IsUpper(r) {
		return s
	}
	return string(unicode.ToLower(r)) + s[n:]
}
