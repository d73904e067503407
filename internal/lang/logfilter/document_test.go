package logfilter

import (
	"encoding/json"
	"testing"
	"unicode/utf8"
)

// FuzzDocument checks the reader against the standard library's: the same texts are valid, and members have the same text.
func FuzzDocument(f *testing.F) {
	for _, s := range []string{
		`{}`, `[]`, ` [1,-2.5e+3,"a\u00e9\n",true,false,null] `, `{"a":{"b":[{}]},"a":1}`, `[01]`, `[1.]`, `[-]`, `{"a"}`,
		`{"a":}`, `[,]`, `[1,]`, `["\x"]`, `["` + "\n" + `"]`, `["\ud83d\ude00"]`, `[tru]`, `{"a":1}}`,
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		d := parseDocument(s)
		if !utf8.ValidString(s) {
			return
		}
		var want any
		err := json.Unmarshal([]byte(s), &want)
		switch want.(type) {
		case map[string]any, []any:
		default:
			if d != nil && err == nil {
				t.Fatalf("%q is no object or array", s)
			}
			return
		}
		if (d != nil) != (err == nil) {
			t.Fatalf("%q: parsed %v, json.Unmarshal says %v", s, d != nil, err)
		}
		if d != nil {
			same(t, d, 0, want)
			d.free()
		}
	})
}

func same(t *testing.T, d *document, at int, want any) {
	n := &d.nodes[at]
	switch w := want.(type) {
	case map[string]any:
		last := map[string]int{}
		for i := at + 1; i < n.next; i = d.nodes[i+1].next {
			last[d.text(&d.nodes[i])] = i + 1
		}
		if len(last) != len(w) {
			t.Fatalf("%q: members %v, want %v", d.raw(n), last, w)
		}
		for k, i := range last {
			// Of members with the same name, json.Unmarshal merges nothing into an any, so the last counts there too.
			same(t, d, i, w[k])
		}
	case []any:
		i := at + 1
		for _, e := range w {
			same(t, d, i, e)
			i = d.nodes[i].next
		}
		if i != n.next {
			t.Fatalf("%q: more elements than %v", d.raw(n), w)
		}
	case string:
		if n.kind != text || d.text(n) != w {
			t.Fatalf("%q: text %q, want %q", d.raw(n), d.text(n), w)
		}
	}
}
