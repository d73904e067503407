package eventpattern

import (
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// The naive evaluator does what the documentation says in the plainest way, without a thought for time: it multiplies out
// the $ors, lists the values of the document with the array elements they are in, and tries every choice of values.

// place says which elements of which arrays a value is in, by the arrays' paths with indexes.
type place map[string]int

type naiveValue struct {
	value any
	in    place
}

func flatten(prefix, where string, v any, in place, into map[string][]naiveValue) {
	switch v := v.(type) {
	case map[string]any:
		for name, m := range v {
			path := name
			if prefix != "" {
				path = prefix + "." + name
			}
			flatten(path, where+"."+name, m, in, into)
		}
	case []any:
		for i, e := range v {
			inner := maps.Clone(in)
			inner[where] = i
			flatten(prefix, fmt.Sprintf("%s[%d]", where, i), e, inner, into)
		}
	default:
		into[prefix] = append(into[prefix], naiveValue{v, in})
	}
}

func consistent(a, b place) bool {
	for array, i := range a {
		if j, ok := b[array]; ok && i != j {
			return false
		}
	}
	return true
}

// naiveRules multiplies out a pattern. Its members are lists of pairs, since their order matters.
type member struct {
	name  string
	value any // []member, []any (values), or or
}

type or [][]member

func naiveRules(prefix string, members []member, rules []map[string][]any) []map[string][]any {
	for _, m := range members {
		path := m.name
		if prefix != "" {
			path = prefix + "." + m.name
		}
		switch v := m.value.(type) {
		case or:
			var all []map[string][]any
			for _, o := range v {
				var copies []map[string][]any
				for _, r := range rules {
					copies = append(copies, maps.Clone(r))
				}
				all = append(all, naiveRules(prefix, o, copies)...)
			}
			rules = all
		case []member:
			rules = naiveRules(path, v, rules)
		case []any:
			for _, r := range rules {
				r[path] = v
			}
		}
	}
	return rules
}

func naiveMatch(rules []map[string][]any, document any) bool {
	values := map[string][]naiveValue{}
	flatten("", "", document, place{}, values)
	return slices.ContainsFunc(rules, func(r map[string][]any) bool {
		return naiveChoose(r, slices.Sorted(maps.Keys(r)), nil, place{}, values)
	})
}

func naiveChoose(r map[string][]any, paths, absent []string, in place, values map[string][]naiveValue) bool {
	if len(paths) == 0 {
		return !slices.ContainsFunc(absent, func(path string) bool {
			return slices.ContainsFunc(values[path], func(v naiveValue) bool { return consistent(v.in, in) })
		})
	}
	path := paths[0]
	for _, v := range values[path] {
		if consistent(v.in, in) && slices.ContainsFunc(r[path], func(alternative any) bool { return naiveIs(alternative, v.value) }) {
			both := maps.Clone(in)
			maps.Copy(both, v.in)
			if naiveChoose(r, paths[1:], absent, both, values) {
				return true
			}
		}
	}
	for _, alternative := range r[path] {
		if o, ok := alternative.(map[string]any); ok && o["exists"] == false {
			return naiveChoose(r, paths[1:], append(slices.Clone(absent), path), in, values)
		}
	}
	return false
}

func naiveIs(alternative, value any) bool {
	o, ok := alternative.(map[string]any)
	if !ok {
		return alternative == value
	}
	s, isString := value.(string)
	f, isNumber := value.(float64)
	for operator, operand := range o {
		switch operator {
		case "exists":
			return operand == true
		case "prefix":
			if fold, ok := operand.(map[string]any); ok {
				return isString && strings.HasPrefix(strings.ToLower(s), strings.ToLower(fold["equals-ignore-case"].(string)))
			}
			return isString && strings.HasPrefix(s, operand.(string))
		case "suffix":
			if fold, ok := operand.(map[string]any); ok {
				return isString && strings.HasSuffix(strings.ToLower(s), strings.ToLower(fold["equals-ignore-case"].(string)))
			}
			return isString && strings.HasSuffix(s, operand.(string))
		case "equals-ignore-case":
			return isString && strings.EqualFold(s, operand.(string))
		case "wildcard":
			expression := strings.ReplaceAll(regexp.QuoteMeta(operand.(string)), `\*`, `.*`)
			return isString && regexp.MustCompile("(?s)^"+expression+"$").MatchString(s)
		case "numeric":
			terms := operand.([]any)
			holds := isNumber
			for i := 0; i+1 < len(terms); i += 2 {
				than := terms[i+1].(float64)
				holds = holds && map[any]bool{"=": f == than, "<": f < than, "<=": f <= than, ">": f > than, ">=": f >= than}[terms[i]]
			}
			return holds
		case "anything-but":
			switch operand := operand.(type) {
			case []any:
				return !slices.Contains(operand, value)
			case map[string]any:
				for inner, list := range operand {
					many, ok := list.([]any)
					if !ok {
						many = []any{list}
					}
					for _, one := range many {
						if naiveIs(map[string]any{inner: one}, value) {
							return false
						}
					}
				}
				return true
			}
			return operand != value
		}
	}
	panic("unknown operator")
}

// random makes patterns and documents that are likely to have something to do with one another.
type random struct{ *rand.Rand }

func pick[T any](r random, of ...T) T { return of[r.IntN(len(of))] }

func (r random) name() string { return pick(r, "a", "b", "c") }
func (r random) text() string { return pick(r, "", "x", "X", "xy", "yx", "xyx", "Yxy") }

func (r random) operators() any {
	texts := []any{pick(r, "x", "y", "xy"), pick(r, "X", "yx")}
	return pick[any](r,
		map[string]any{"exists": true},
		map[string]any{"exists": false},
		map[string]any{"exists": false},
		map[string]any{"prefix": r.text()},
		map[string]any{"suffix": r.text()},
		map[string]any{"prefix": map[string]any{"equals-ignore-case": r.text()}},
		map[string]any{"suffix": map[string]any{"equals-ignore-case": r.text()}},
		map[string]any{"equals-ignore-case": r.text()},
		map[string]any{"wildcard": pick(r, "*", "x*", "*x", "x*x", "*y*", "*x*y*", "x")},
		map[string]any{"numeric": pick[[]any](r, []any{"=", 1.0}, []any{">", 0.0}, []any{"<=", 1.0}, []any{">=", 1.0, "<", 2.0})},
		map[string]any{"anything-but": pick[any](r, "x", 1.0, []any{"x", "y"}, []any{1.0, 2.0})},
		map[string]any{"anything-but": map[string]any{pick(r, "prefix", "suffix", "wildcard", "equals-ignore-case"): pick[any](r, "x", texts)}},
	)
}

func (r random) members(depth int) (all []member) {
	for range 1 + r.IntN(2) {
		if depth < 2 && r.IntN(6) == 0 {
			o := or{r.members(depth + 1), r.members(depth + 1)}
			all = append(all, member{"$or", o})
			continue
		}
		m := member{name: r.name()}
		if r.IntN(8) == 0 {
			m.name += "." + r.name()
		}
		if depth < 2 && r.IntN(2) == 0 {
			m.value = r.members(depth + 1)
		} else {
			var list []any
			for range 1 + r.IntN(3) {
				list = append(list, pick[any](r, r.text(), float64(r.IntN(3)), true, nil, r.operators(), r.operators()))
			}
			m.value = list
		}
		all = append(all, m)
	}
	return all
}

func (r random) value(depth int) any {
	switch n := r.IntN(10); {
	case depth < 3 && n < 4 || depth == 0:
		o := map[string]any{}
		for range r.IntN(6) {
			o[r.name()] = r.value(depth + 1)
		}
		return o
	case depth < 4 && n < 7:
		a := []any{}
		for range r.IntN(4) {
			a = append(a, r.value(depth+1))
		}
		return a
	}
	return pick[any](r, r.text(), float64(r.IntN(3)), true, false, nil)
}

func (m member) MarshalJSON() ([]byte, error) {
	name, _ := json.Marshal(m.name)
	var value []byte
	switch v := m.value.(type) {
	case []member:
		value = membersText(v)
	case or:
		value = []byte{'['}
		for i, o := range v {
			if i > 0 {
				value = append(value, ',')
			}
			value = append(value, membersText(o)...)
		}
		value = append(value, ']')
	default:
		value, _ = json.Marshal(v)
	}
	return append(append(name, ':'), value...), nil
}

func membersText(members []member) []byte {
	text := []byte{'{'}
	for i, m := range members {
		if i > 0 {
			text = append(text, ',')
		}
		one, _ := m.MarshalJSON()
		text = append(text, one...)
	}
	return append(text, '}')
}

func TestAgainstNaive(t *testing.T) {
	matches, n := 0, 1500
	for seed := range n {
		r := random{rand.New(rand.NewPCG(uint64(seed), 1))}
		members := r.members(0)
		text := membersText(members)
		p, err := Parse(Events, text)
		if err != nil {
			t.Fatalf("seed %d: %s: %v", seed, text, err)
		}
		rules := naiveRules("", members, []map[string][]any{{}})
		for range 10 {
			document := r.value(0)
			doc, err := json.Marshal(document)
			if err != nil {
				t.Fatal(err)
			}
			want := naiveMatch(rules, document)
			if want {
				matches++
			}
			if got := p.Match(doc); got != want {
				t.Fatalf("seed %d: %s\n%s\ngot %v, want %v", seed, text, doc, got, want)
			}
		}
	}
	if matches < n/2 {
		t.Errorf("only %d of %d documents match: the test does not test", matches, 10*n)
	}
}
