package authorize

import (
	"context"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/mayflyhq/mayfly/internal/call"
	"github.com/mayflyhq/mayfly/internal/lang/iampolicy"
)

// evaluation is one decision on its way: the facts of the call, and scratch space. It is the Context that policies ask for
// condition keys, which are formed when they are asked for.
type evaluation struct {
	a        *Authorizer
	ctx      context.Context
	info     *call.Info
	caller   *call.Principal
	identity *Identity // of a user, or the role or user behind a session; nil if there is none

	in      reflect.Value // the input's struct; invalid for a Request
	check   *check
	extra   iampolicy.Values
	display string // how IAM's messages name the resource, if not by its ARN
	err     error  // of a lookup
	denial  denial // how the service refuses

	request  iampolicy.Request
	policies iampolicy.Policies
	session  []*iampolicy.Compiled
	asked    []asked      // what the operation needs
	add      func(string) // appends to asked; made once

	tags      map[string]string // of the resource
	tagsKnown bool

	known []known  // keys that were asked for
	text  []string // backs values of one text
}

// asked is one action on one resource.
type asked struct {
	check    *check
	resource string
	display  string
}

type known struct {
	key    string
	values []string
	ok     bool
}

// fail keeps the first error of a lookup; the decision then is that error.
func (e *evaluation) fail(err error) {
	if e.err == nil {
		e.err = err
	}
}

func (e *evaluation) reset() {
	clear(e.session[:cap(e.session)])
	clear(e.asked[:cap(e.asked)])
	clear(e.known[:cap(e.known)])
	clear(e.text[:cap(e.text)])
	*e = evaluation{session: e.session[:0], asked: e.asked[:0], known: e.known[:0], text: e.text[:0], add: e.add}
}

// next makes e ready for another resource: what depends on action and resource is forgotten.
func (e *evaluation) next() {
	e.known, e.text = e.known[:0], e.text[:0]
	e.tags, e.tagsKnown = nil, false
}

// Values implements iampolicy.Context.
func (e *evaluation) Values(key string) ([]string, bool) {
	for i := range e.known {
		if k := &e.known[i]; k.key == key {
			return k.values, k.ok
		}
	}
	values, ok := e.find(key)
	e.known = append(e.known, known{key, values, ok})
	return values, ok
}

// one is a key with one value.
func (e *evaluation) one(s string) ([]string, bool) {
	e.text = append(e.text, s) // a slice taken before keeps the array that it was taken from
	n := len(e.text)
	return e.text[n-1 : n : n], true
}

// some is a key that is absent without a value.
func (e *evaluation) some(s string) ([]string, bool) {
	if s == "" {
		return nil, false
	}
	return e.one(s)
}

func (e *evaluation) flag(b bool) ([]string, bool) { return e.one(strconv.FormatBool(b)) }

func (e *evaluation) find(key string) ([]string, bool) {
	if v, ok := e.extra[key]; ok {
		return v, true
	}
	prefix, rest, _ := strings.Cut(key, ":")
	if name, tag, ok := strings.Cut(rest, "/"); ok && (prefix == "aws" || prefix == "iam") {
		switch name {
		case "principaltag":
			return e.principalTag(tag)
		case "resourcetag":
			return e.tag(e.resourceTags(), tag)
		case "requesttag":
			return e.requestTag(tag)
		}
	}
	if prefix == "aws" {
		if v, ok, is := e.global(rest); is {
			return v, ok
		}
	}
	if e.check != nil {
		for i := range e.check.keys {
			if k := &e.check.keys[i]; k.name == key {
				return e.from(&k.from)
			}
		}
	}
	if key == "lambda:sourcefunctionarn" && e.caller.Session != nil {
		return e.some(e.caller.Session.Function)
	}
	return nil, false
}

// globalKeys are those of AWS's global keys that a call can have here, for explanations.
var globalKeys = []string{
	"aws:CurrentTime", "aws:EpochTime", "aws:FederatedProvider", "aws:MultiFactorAuthPresent", "aws:PrincipalAccount", "aws:PrincipalArn",
	"aws:PrincipalIsAWSService", "aws:PrincipalServiceName", "aws:PrincipalType", "aws:RequestedRegion", "aws:ResourceAccount",
	"aws:SecureTransport", "aws:SourceAccount", "aws:SourceArn", "aws:SourceIdentity", "aws:SourceIp", "aws:TagKeys", "aws:TokenIssueTime",
	"aws:UserAgent", "aws:ViaAWSService", "aws:userid", "aws:username", "lambda:SourceFunctionArn",
}

// global forms one of AWS's global keys; is says that it is one.
func (e *evaluation) global(name string) (values []string, ok, is bool) {
	p, s := e.caller, e.caller.Session
	switch name {
	case "principalarn":
		values, ok = e.some(e.principalARN())
	case "principalaccount":
		values, ok = e.some(accountOf(p.ARN))
	case "principaltype":
		values, ok = e.one(principalType(p.Type))
	case "userid":
		if p.Type != call.Service {
			values, ok = e.some(p.UserID)
		}
	case "username":
		if p.Type == call.User {
			values, ok = e.one(p.ARN[strings.LastIndexByte(p.ARN, '/')+1:])
		}
	case "sourceip":
		values, ok = e.some(e.info.SourceIP)
	case "useragent":
		values, ok = e.some(e.info.UserAgent)
	case "securetransport":
		// What does not leave the machine is as good as encrypted.
		values, ok = e.flag(e.info.SourceIP == "" || strings.HasPrefix(e.info.SourceIP, "127.") || e.info.SourceIP == "::1")
	case "currenttime":
		values, ok = e.one(e.info.Time.UTC().Format(time.RFC3339))
	case "epochtime":
		values, ok = e.one(strconv.FormatInt(e.info.Time.Unix(), 10))
	case "requestedregion":
		if strings.HasPrefix(e.request.Action, "iam:") {
			values, ok = e.one("us-east-1")
		} else {
			values, ok = e.some(e.info.Region)
		}
	case "resourceaccount":
		values, ok = e.some(e.request.ResourceAccount)
	case "principalisawsservice":
		values, ok = e.flag(p.Type == call.Service)
	case "principalservicename":
		values, ok = e.some(p.Service)
	case "viaawsservice":
		values, ok = e.flag(false)
	case "tokenissuetime":
		if s != nil {
			values, ok = e.one(s.Issued.UTC().Format(time.RFC3339))
		}
	case "multifactorauthpresent":
		if s != nil {
			values, ok = e.flag(s.MFA)
		}
	case "multifactorauthage":
		if s != nil && s.MFA {
			values, ok = e.one(strconv.FormatInt(int64(e.info.Time.Sub(s.Issued)/time.Second), 10))
		}
	case "federatedprovider":
		if s != nil {
			values, ok = e.some(s.Provider)
		}
	case "sourceidentity":
		if s != nil {
			values, ok = e.some(s.SourceIdentity)
		}
	case "tagkeys":
		if e.check == nil || e.check.tags == nil {
			return nil, false, false
		}
		eachTag(e.in, e.check.tags, func(k, _ string) bool { values, ok = append(values, k), true; return true })
	default:
		return nil, false, false
	}
	return values, ok, true
}

// principalARN is aws:PrincipalArn: for sessions that of the role, with its path.
func (e *evaluation) principalARN() string {
	if e.caller.Type == call.AssumedRole && e.caller.Session != nil {
		return e.caller.Session.Issuer
	}
	if e.caller.Type == call.Service || e.caller.Type == call.WebIdentity {
		return ""
	}
	return e.caller.ARN
}

func principalType(t call.PrincipalType) string {
	switch t {
	case call.Root:
		return "Account"
	case call.User:
		return "User"
	case call.AssumedRole:
		return "AssumedRole"
	case call.FederatedUser:
		return "FederatedUser"
	case call.Service:
		return "AWSService"
	}
	return "Anonymous"
}

// principalTag finds a tag of the session, else of the user or role. The names of tags in keys have no case.
func (e *evaluation) principalTag(name string) ([]string, bool) {
	if s := e.caller.Session; s != nil {
		if v, ok := e.tag(s.Tags, name); ok {
			return v, true
		}
	}
	if e.identity == nil || e.caller.Type == call.FederatedUser {
		return nil, false
	}
	return e.tag(e.identity.Tags, name)
}

func (e *evaluation) tag(tags map[string]string, name string) ([]string, bool) {
	for k, v := range tags {
		if strings.EqualFold(k, name) {
			return e.one(v)
		}
	}
	return nil, false
}

// resourceTags looks the resource's tags up, once.
func (e *evaluation) resourceTags() map[string]string {
	if e.tagsKnown {
		return e.tags
	}
	e.tagsKnown = true
	resource := e.request.Resource
	if isRoleOrUser(resource) {
		if id := e.lookup(resource); id != nil {
			e.tags = id.Tags
		}
		return e.tags
	}
	if r := e.a.resources[serviceOf(resource)]; r != nil {
		var err error
		if e.tags, err = r.Tags(e.ctx, resource); err != nil {
			e.fail(err)
		}
	}
	return e.tags
}

func (e *evaluation) requestTag(name string) (values []string, ok bool) {
	if e.check == nil || e.check.tags == nil {
		return nil, false
	}
	eachTag(e.in, e.check.tags, func(k, v string) bool {
		if strings.EqualFold(k, name) {
			values, ok = e.one(v)
		}
		return !ok
	})
	return values, ok
}

// eachTag walks tags of either form that services have: a map, or a list of structures whose first two members are key and value.
func eachTag(in reflect.Value, f *field, yield func(k, v string) bool) {
	v, ok := f.value(in)
	if !ok {
		return
	}
	switch v.Kind() {
	case reflect.Map:
		for i := v.MapRange(); i.Next(); {
			if !yield(i.Key().String(), i.Value().String()) {
				return
			}
		}
	case reflect.Slice:
		for i := range v.Len() {
			t := v.Index(i)
			if t.Kind() != reflect.Struct || t.NumField() < 2 {
				return
			}
			if !yield(textOf(t.Field(0)), textOf(t.Field(1))) {
				return
			}
		}
	}
}

func textOf(v reflect.Value) string {
	if v.Kind() == reflect.Pointer {
		if v.IsNil() {
			return ""
		}
		v = v.Elem()
	}
	switch v.Kind() {
	case reflect.String:
		return v.String()
	case reflect.Bool:
		return strconv.FormatBool(v.Bool())
	case reflect.Int32, reflect.Int64:
		return strconv.FormatInt(v.Int(), 10)
	}
	return ""
}

// from forms the values of an operation's own key.
func (e *evaluation) from(s *source) (values []string, ok bool) {
	switch {
	case s.text != nil:
		return s.text, true
	case s.boundary:
		if id := e.lookup(e.request.Resource); id != nil && id.Boundary != nil {
			return e.one(id.Boundary.ID())
		}
	case s.resource != "":
		owner, ok := e.a.resources[serviceOf(e.request.Resource)].(Attributes)
		if !ok {
			return nil, false
		}
		v, err := owner.Attribute(e.ctx, e.request.Resource, s.resource)
		if err != nil {
			e.fail(err)
		}
		return e.some(v)
	case s.form != nil:
		s.form.make(e, s.form, func(v string) { values, ok = append(values, v), true })
	default:
		v, given := s.member.value(e.in)
		if !given {
			return nil, false
		}
		if v.Kind() != reflect.Slice {
			return e.some(textOf(v))
		}
		for i := range v.Len() {
			values = append(values, textOf(v.Index(i)))
		}
		return values, true
	}
	return values, ok
}

// lookup finds a user or role.
func (e *evaluation) lookup(arn string) *Identity {
	id, err := e.a.identities.Identity(e.ctx, arn)
	if err != nil {
		e.fail(err)
	}
	return id
}

// Parts of ARNs, without allocation.

func part(arn string, n int) string {
	for range n {
		i := strings.IndexByte(arn, ':')
		if i < 0 {
			return ""
		}
		arn = arn[i+1:]
	}
	if i := strings.IndexByte(arn, ':'); i >= 0 {
		return arn[:i]
	}
	return arn
}

func serviceOf(arn string) string { return part(arn, 2) }

func accountOf(arn string) string { return part(arn, 4) }

func isRoleOrUser(arn string) bool {
	return serviceOf(arn) == "iam" && (strings.HasPrefix(part(arn, 5), "role/") || strings.HasPrefix(part(arn, 5), "user/"))
}

func isRole(arn string) bool {
	return serviceOf(arn) == "iam" && strings.HasPrefix(part(arn, 5), "role/")
}
