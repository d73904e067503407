package authorize

import (
	"reflect"
	"strings"
	"testing"

	"github.com/mayflyhq/mayfly/internal/arn"
	"github.com/mayflyhq/mayfly/internal/aws/smithy"
	"github.com/mayflyhq/mayfly/internal/call"
)

// fill gives every text below v a value.
func fill(v reflect.Value, s string, depth int) {
	if depth > 4 || !v.CanSet() {
		return
	}
	switch v.Kind() {
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(v.Elem(), s, depth+1)
	case reflect.String:
		v.SetString(s)
	case reflect.Struct:
		for i := range v.NumField() {
			fill(v.Field(i), s, depth+1)
		}
	case reflect.Slice:
		if v.Type().Elem().Kind() != reflect.Uint8 {
			v.Set(reflect.MakeSlice(v.Type(), 1, 1))
			fill(v.Index(0), s, depth+1)
		}
	case reflect.Map:
		if v.Type().Elem().Kind() == reflect.String {
			v.Set(reflect.MakeMap(v.Type()))
			v.SetMapIndex(reflect.ValueOf(s), reflect.ValueOf(s))
		}
	}
}

// FuzzForms holds, for every operation, that hostile names form ARNs or "*", and that a name never leads out of the caller's account:
// only an ARN, or a function's name with an account, may name another.
func FuzzForms(f *testing.F) {
	for _, s := range []string{
		"", "f", "*", "f:*", "f?", "../x", "arn:aws:lambda:us-east-1:444455556666:function:g", "444455556666:function:g", "arn:aws:lambda:::", "arn:", ":::::", "a:b:c:d:e:f",
		"arn:aws:logs:us-east-1:444455556666:log-group:/x:*", "${aws:username}", "http://h/444455556666/q", "444455556666", "eyJzb3VyY2VBcm4iOiJhcm46YXdzOnNxczp1czo0NDQ0NTU1NTY2NjY6cSJ9", "\x00", "naïve", "f:$LATEST", "arn:aws:iam::444455556666:role/x", strings.Repeat("a:", 50),
	} {
		f.Add(s)
	}
	a := newAuthorizer(f, bobWith(f), Deps{})
	info := call.From(as(f, bob()))
	f.Fuzz(func(t *testing.T, s string) {
		for _, svc := range contracts {
			for i := range svc.Ops {
				hostile(t, a, info, &svc.Ops[i], s)
			}
		}
	})
}

func hostile(t *testing.T, a *Authorizer, info *call.Info, op *smithy.OpInfo, s string) {
	in := reflect.New(op.Input.Type()).Elem()
	fill(in, s, 0)
	e := a.pool.Get().(*evaluation)
	defer a.put(e)
	e.a, e.ctx, e.info, e.caller, e.in = a, t.Context(), info, &info.Principal, in
	for i := range a.rules[op].checks {
		c := &a.rules[op].checks[i]
		e.check = c
		for j := range c.forms {
			c.forms[j].make(e, &c.forms[j], e.add)
		}
		for _, k := range c.keys {
			e.from(&k.from)
		}
		e.requestTag(s)
	}
	for _, q := range e.asked {
		if q.resource == "*" {
			continue
		}
		if !strings.HasPrefix(q.resource, "arn:") || serviceOf(q.resource) == "" {
			t.Fatalf("%s: %q forms %q", op, s, q.resource)
		}
		if got := accountOf(q.resource); got != account && !strings.Contains(s, ":") && !arn.IsAccount(s) {
			t.Fatalf("%s: %q forms %q, in account %q", op, s, q.resource, got)
		}
		if arn.Is(s) || arn.IsAccount(s) || strings.Contains(s, "444455556666:") {
			continue
		}
		if q, ok := arn.ParseQueueURL(s); ok && q.Account != "" {
			continue
		}
		if _, ok := tokenARN(s); ok {
			continue
		}
		if got := accountOf(q.resource); got != account && !functionAccount(s) {
			t.Fatalf("%s: %q forms %q, in account %q", op, s, q.resource, got)
		}
	}
}

func functionAccount(s string) bool {
	r, ok := arn.ParseFunction(s)
	return ok && r.Account != ""
}
