package protocol_test

import (
	"encoding/json"
	"io"
	"reflect"
	"strings"
	"time"

	"github.com/mayflyhq/mayfly/internal/aws/smithy"
)

// fill sets every member of the structure at ptr to something that depends on its name, two levels into recursive shapes.
func fill(ptr any, sh *smithy.Shape) {
	filler{map[*smithy.Shape]int{}}.structure(reflect.ValueOf(ptr).Elem(), sh)
}

type filler struct{ depth map[*smithy.Shape]int }

func (f filler) structure(v reflect.Value, sh *smithy.Shape) {
	if f.depth[sh] > 1 {
		return
	}
	f.depth[sh]++
	defer func() { f.depth[sh]-- }()
	for i := range v.NumField() {
		f.value(v.Field(i), &sh.Members[i])
		if sh.Union && !v.Field(i).IsZero() {
			return
		}
	}
}

func (f filler) value(v reflect.Value, m *smithy.Member) {
	sh := m.Shape
	if sh.EventStream {
		return
	}
	if v.Kind() == reflect.Pointer {
		p := reflect.New(v.Type().Elem())
		f.value(p.Elem(), m)
		if sh.Kind == smithy.Structure && p.Elem().IsZero() && p.Elem().NumField() > 0 {
			return // nothing more below: leave a recursive shape out
		}
		v.Set(p)
		return
	}
	switch sh.Kind {
	case smithy.Structure:
		f.structure(v, sh)
	case smithy.List:
		list := reflect.MakeSlice(v.Type(), 2, 2)
		for i := range 2 {
			f.value(list.Index(i), &sh.Elem)
		}
		if sh.Elem.Shape.Kind == smithy.Structure && list.Index(0).IsZero() && list.Index(0).NumField() > 0 {
			return
		}
		v.Set(list)
	case smithy.Map:
		mv := reflect.MakeMap(v.Type())
		for _, k := range [...]string{"one", "two"} {
			elem := reflect.New(v.Type().Elem()).Elem()
			f.value(elem, &sh.Elem)
			mv.SetMapIndex(reflect.ValueOf(k), elem)
		}
		v.Set(mv)
	case smithy.String:
		s := "v <&> \"é\" of " + m.Name
		switch {
		case len(sh.Enum) > 0:
			s = sh.Enum[0]
		case m.Location == smithy.InHeader, m.Location == smithy.InHeaders, m.Location == smithy.InURI:
			s = "plain/" + m.Name
		}
		v.SetString(s)
	case smithy.Boolean:
		v.SetBool(true)
	case smithy.Integer, smithy.Long:
		v.SetInt(202)
	case smithy.Float, smithy.Double:
		v.SetFloat(-2.5)
	case smithy.Timestamp:
		v.Set(reflect.ValueOf(time.Date(2026, 11, 24, 6, 5, 4, 0, time.UTC)))
	case smithy.Blob:
		if m.Streaming {
			v.Set(reflect.ValueOf(io.NopCloser(strings.NewReader("streamed"))))
		} else {
			v.SetBytes([]byte("\x00blob " + m.Name))
		}
	case smithy.Document:
		v.Set(reflect.ValueOf(json.RawMessage(`{"a":1}`)))
	}
}
