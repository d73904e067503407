package authorize

import (
	"embed"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/mayflyhq/mayfly/internal/aws/smithy"
)

// The tables have one line for each operation of a service:
//
//	Operation [prefix:Action] resource... [key=value]... [+ prefix:Action resource... [key=value]... [if Member]]...
//
// The action is the operation's name unless another is given. A resource is * or a form of ARN (form.go) with members of the input
// as arguments, which may lie deeper (VpcConfig.SubnetIds), and texts in single quotes. A form that finds several ARNs, in a
// list, asks for each. What stands after a + is asked too, if its resource's members, and the member after "if", are given.
//
// A value of a condition key is a member, a text in quotes, a form, boundary(), the permissions boundary of the resource, or
// resource(), what the service that owns the resource says of it (Attributes). The key
// aws:RequestTag takes a member of tags, which gives aws:TagKeys as well. "none" in place of everything is an operation that needs no
// permission.
//
//go:embed *.txt
var tables embed.FS

// rule is one line.
type rule struct {
	line   bool    // stands in a table
	checks []check // none: no permission is needed
	names  []field // members that may hold an ARN of another account
}

// check is one action that must be allowed on each of its resources.
type check struct {
	action string
	forms  []form
	when   *field // asked only if given
	also   bool   // stands after a +
	tags   *field // of aws:RequestTag
	keys   []key
}

type key struct {
	name  string // lower case
	given string // as AWS writes it
	from  source
}

// source is where the values of a key come from.
type source struct {
	text     []string // a constant
	member   *field
	form     *form
	boundary bool
	resource string // the key, lower case, of which the resource's owner knows the value
}

// compile reads the table of a service. An operation without a line is asked for by its name, on all resources.
func compile(svc *smithy.Service) (map[*smithy.OpInfo]*rule, error) {
	rules := map[*smithy.OpInfo]*rule{}
	for i := range svc.Ops {
		op := &svc.Ops[i]
		rules[op] = &rule{checks: []check{{action: svc.SigningName + ":" + op.Name, forms: []form{{make: everything}}}}}
	}
	b, err := tables.ReadFile(svc.Name + ".txt")
	if err != nil {
		return rules, nil
	}
	for line := range strings.Lines(string(b)) {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		words := strings.Fields(line)
		op := svc.Op(words[0])
		if op == nil {
			return nil, fmt.Errorf("authorize: %s.txt: no operation %s", svc.Name, words[0])
		}
		r, err := compileRule(op, words[1:])
		if err != nil {
			return nil, fmt.Errorf("authorize: %s.txt: %s: %w", svc.Name, words[0], err)
		}
		rules[op] = r
	}
	return rules, nil
}

// lines returns the operations that the table of a service has.
func lines(svc *smithy.Service) (names []string) {
	b, _ := tables.ReadFile(svc.Name + ".txt")
	for line := range strings.Lines(string(b)) {
		if words := strings.Fields(line); len(words) > 0 && words[0][0] != '#' {
			names = append(names, words[0])
		}
	}
	return names
}

func compileRule(op *smithy.OpInfo, words []string) (*rule, error) {
	r := &rule{line: true}
	if slices.Equal(words, []string{"none"}) {
		return r, nil
	}
	c := check{action: op.Service.SigningName + ":" + op.Name}
	for i := 0; i < len(words); i++ {
		word := words[i]
		name, value, isKey := strings.Cut(word, "=")
		switch {
		case word == "+":
			r.checks = append(r.checks, c)
			c = check{also: true}
		case word == "if":
			if i++; i == len(words) {
				return nil, fmt.Errorf("no member after if")
			}
			f, err := compileField(op.Input, words[i])
			if err != nil {
				return nil, err
			}
			c.when = &f
		case isKey && !strings.Contains(name, "("):
			if err := c.addKey(op, name, value); err != nil {
				return nil, err
			}
		case word == "*":
			c.forms = append(c.forms, form{make: everything})
		case strings.Contains(word, "("):
			f, err := compileForm(op, word)
			if err != nil {
				return nil, err
			}
			c.forms = append(c.forms, f)
			r.names = append(r.names, f.fields...)
		case strings.Contains(word, ":"):
			c.action = word
		default:
			return nil, fmt.Errorf("what is %q?", word)
		}
	}
	r.checks = append(r.checks, c)
	for i := range r.checks {
		if r.checks[i].action == "" || len(r.checks[i].forms) == 0 {
			return nil, fmt.Errorf("part %d lacks action or resource", i+1)
		}
	}
	return r, nil
}

func (c *check) addKey(op *smithy.OpInfo, name, value string) error {
	k := key{name: strings.ToLower(name), given: name}
	switch {
	case value == "boundary()":
		k.from.boundary = true
	case value == "resource()":
		k.from.resource = k.name
	case strings.HasPrefix(value, "'"):
		k.from.text = []string{strings.Trim(value, "'")}
	case strings.Contains(value, "("):
		f, err := compileForm(op, value)
		if err != nil {
			return err
		}
		k.from.form = &f
	default:
		f, err := compileField(op.Input, value)
		if err != nil {
			return err
		}
		if k.name == "aws:requesttag" {
			c.tags = &f
			return nil
		}
		k.from.member = &f
	}
	c.keys = append(c.keys, k)
	return nil
}

// field is a member of an input, at any depth.
type field struct {
	index []int // of fields, from the outside in
	kind  smithy.Kind
}

func compileField(sh *smithy.Shape, path string) (field, error) {
	var f field
	for name := range strings.SplitSeq(path, ".") {
		i := -1
		if sh.Kind == smithy.Structure {
			i = sh.Member(name)
		}
		if i < 0 {
			return f, fmt.Errorf("%s has no member %s", sh.Name, name)
		}
		f.index, sh = append(f.index, i), sh.Members[i].Shape
	}
	f.kind = sh.Kind
	return f, nil
}

// value returns the member in an input, with pointers followed, and whether it is given.
func (f *field) value(in reflect.Value) (reflect.Value, bool) {
	for _, i := range f.index {
		in = in.Field(i)
		if in.Kind() == reflect.Pointer {
			if in.IsNil() {
				return in, false
			}
			in = in.Elem()
		}
	}
	switch in.Kind() {
	case reflect.Slice, reflect.Map:
		return in, in.Len() > 0
	}
	return in, true
}
