package authorize

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"reflect"
	"strconv"
	"strings"

	"github.com/mayflyhq/mayfly/internal/arn"
	"github.com/mayflyhq/mayfly/internal/aws/smithy"
	"github.com/mayflyhq/mayfly/internal/call"
)

// form makes ARNs of an input.
type form struct {
	make   func(e *evaluation, f *form, add func(string))
	texts  []string // arguments in quotes
	fields []field  // arguments that are members
	prefix string   // arn:aws:<service>:
	global bool     // ARNs have no region
}

// forms are the words of the tables.
var forms = map[string]func(e *evaluation, f *form, add func(string)){
	"arn":               givenARN,
	"named":             named,
	"function":          function,
	"layer":             layer,
	"layerversion":      layerVersion,
	"logGroup":          logGroup,
	"logStream":         logStream,
	"tagged":            tagged,
	"stream":            stream,
	"consumer":          consumer,
	"token":             token,
	"entity":            entity,
	"created":           created,
	"path":              entityPath,
	"caller":            callerItself,
	"issuer":            oidcProvider,
	"serviceLinkedRole": serviceLinkedRole,
	"queue":             queue,
	"moveTask":          moveTask,
}

func compileForm(op *smithy.OpInfo, word string) (form, error) {
	name, args, ok := strings.Cut(strings.TrimSuffix(word, ")"), "(")
	f := form{make: forms[name], prefix: "arn:" + arn.Partition + ":" + op.Service.SigningName + ":", global: op.Service.Name == "iam" || op.Service.Name == "sts"}
	if !ok || f.make == nil {
		return f, fmt.Errorf("no form %q", word)
	}
	if args == "" {
		return f, nil
	}
	for arg := range strings.SplitSeq(args, ",") {
		if strings.HasPrefix(arg, "'") {
			f.texts = append(f.texts, strings.Trim(arg, "'"))
			continue
		}
		m, err := compileField(op.Input, arg)
		if err != nil {
			return f, err
		}
		f.fields = append(f.fields, m)
	}
	return f, nil
}

// text returns the i-th member as text, "" if it is not given.
func (f *form) text(e *evaluation, i int) string {
	if i >= len(f.fields) {
		return ""
	}
	v, ok := f.fields[i].value(e.in)
	if !ok {
		return ""
	}
	switch v.Kind() {
	case reflect.String:
		return v.String()
	case reflect.Int32, reflect.Int64:
		return strconv.FormatInt(v.Int(), 10)
	}
	return ""
}

// each calls add with every text that the i-th member has, one or a list.
func (f *form) each(e *evaluation, i int, add func(string)) {
	v, ok := f.fields[i].value(e.in)
	if !ok {
		return
	}
	switch v.Kind() {
	case reflect.String:
		add(v.String())
	case reflect.Slice:
		for j := range v.Len() {
			if s := v.Index(j); s.Kind() == reflect.String {
				add(s.String())
			}
		}
	}
}

// local is the ARN of a resource in the caller's account and region.
func (f *form) local(e *evaluation, resource string) string {
	region := e.info.Region
	if f.global {
		region = ""
	}
	return f.prefix + region + ":" + e.info.Account + ":" + resource
}

func everything(_ *evaluation, _ *form, add func(string)) { add("*") }

// givenARN is what a member has, one ARN or several. What is no ARN is no resource that a policy could name.
func givenARN(e *evaluation, f *form, add func(string)) {
	f.each(e, 0, func(s string) {
		if !arn.Is(s) {
			s = "*"
		}
		add(s)
	})
}

// named is a text and a name after it. Where AWS takes an ARN for the name, it is the resource.
func named(e *evaluation, f *form, add func(string)) {
	name := f.text(e, 0)
	if arn.Is(name) {
		add(name)
		return
	}
	add(f.local(e, f.texts[0]+name))
}

// function is a function, by any of its names, with the qualifier that is given in either place.
func function(e *evaluation, f *form, add func(string)) {
	given := f.text(e, 0)
	if given == "" {
		return
	}
	r, ok := arn.ParseFunction(given)
	if !ok {
		add("*")
		return
	}
	if r.Region == "" {
		r.Region = e.info.Region
	}
	if r.Account == "" {
		r.Account = e.info.Account
	}
	if q := f.text(e, 1); q != "" && r.Qualifier == "" {
		r.Qualifier = q
	}
	if r.Qualifier == "" {
		add("arn:" + arn.Partition + ":lambda:" + r.Region + ":" + r.Account + ":function:" + r.Name)
		return
	}
	add("arn:" + arn.Partition + ":lambda:" + r.Region + ":" + r.Account + ":function:" + r.Name + ":" + r.Qualifier)
}

func layer(e *evaluation, f *form, add func(string)) {
	name := f.text(e, 0)
	if !arn.Is(name) {
		name = f.local(e, "layer:"+name)
	}
	add(name)
}

func layerVersion(e *evaluation, f *form, add func(string)) {
	layer(e, f, func(s string) { add(s + ":" + f.text(e, 1)) })
}

// logGroup is a log group as policies name it, by name or ARN: with what the streams begin with, so that the pattern
// log-group:NAME:* matches.
func logGroup(e *evaluation, f *form, add func(string)) {
	for i := range f.fields {
		f.each(e, i, func(s string) { add(f.group(e, s) + ":log-stream:") })
	}
}

// group is the ARN of a log group from its name or ARN, without the :* that its own may end in.
func (f *form) group(e *evaluation, given string) string {
	if arn.Is(given) {
		return strings.TrimSuffix(given, ":*")
	}
	return f.local(e, "log-group:"+given)
}

// logStream has the stream's name last.
func logStream(e *evaluation, f *form, add func(string)) {
	last := len(f.fields) - 1
	for i := range last {
		f.each(e, i, func(s string) { add(f.group(e, s) + ":log-stream:" + f.text(e, last)) })
	}
}

// tagged is what the operations on tags of CloudWatch Logs name: a log group without :*.
func tagged(e *evaluation, f *form, add func(string)) {
	f.each(e, 0, func(s string) { add(f.group(e, s)) })
}

// stream is a stream of Kinesis, by name or, in what follows, by ARN or by a token that it is in.
func stream(e *evaluation, f *form, add func(string)) {
	for i := range f.fields {
		given := f.text(e, i)
		if s, ok := tokenARN(given); ok && i > 0 {
			given = s
		}
		if arn.Is(given) {
			add(given)
			return
		}
	}
	if name := f.text(e, 0); name != "" {
		add(f.local(e, "stream/"+name))
		return
	}
	add("*")
}

// consumer is a consumer of a stream of Kinesis: by its ARN, or by the stream's and its name, to which the time belongs that is not known.
func consumer(e *evaluation, f *form, add func(string)) {
	switch given, of, name := f.text(e, 0), f.text(e, 1), f.text(e, 2); {
	case given != "":
		givenARN(e, f, add)
	case arn.Is(of) && name != "":
		add(of + "/consumer/" + name + ":*")
	default:
		add("*")
	}
}

// token is a shard iterator or paging token of Kinesis, which begins with the ARN of its stream. Whether it is genuine the service knows,
// and refuses what is not.
func token(e *evaluation, f *form, add func(string)) {
	s, ok := tokenARN(f.text(e, 0))
	if !ok {
		s = "*"
	}
	add(s)
}

// tokenARN is what a token of Kinesis begins with.
func tokenARN(given string) (string, bool) {
	b, err := base64.StdEncoding.DecodeString(given)
	if err != nil {
		return "", false
	}
	s, _, ok := strings.Cut(string(b), "\x00")
	return s, ok && arn.Is(s)
}

// entity is a user, group, role or instance profile that exists, with its path. Without a name it is the caller itself.
func entity(e *evaluation, f *form, add func(string)) {
	name := f.text(e, 0)
	if name == "" {
		callerItself(e, f, add)
		return
	}
	s, err := e.a.identities.ARN(e.ctx, e.info.Account, f.texts[0], name)
	if err != nil {
		e.fail(err)
		return
	}
	e.display = f.texts[0] + " " + name
	add(s)
}

// callerItself is the user who calls. Others are none that a user operation could mean.
func callerItself(e *evaluation, _ *form, add func(string)) {
	if e.caller.Type == call.User {
		add(e.caller.ARN)
		return
	}
	add("*")
}

// created is an entity that is to be made: kind, path, name.
func created(e *evaluation, f *form, add func(string)) {
	path := f.text(e, 0)
	if path == "" {
		path = "/"
	}
	if f.texts[0] == "policy" { // alone among those that are made AWS names it so
		e.display = "policy " + f.text(e, 1)
	}
	add(f.local(e, f.texts[0]+path+f.text(e, 1)))
}

// entityPath is where entities of a kind are listed.
func entityPath(e *evaluation, f *form, add func(string)) {
	path := f.text(e, 0)
	if path == "" {
		path = "/"
	}
	add(f.local(e, f.texts[0]+path))
}

func oidcProvider(e *evaluation, f *form, add func(string)) {
	add(f.local(e, "oidc-provider/"+strings.TrimPrefix(f.text(e, 0), "https://")))
}

// serviceLinkedRole is known up to the name that the service has for it.
func serviceLinkedRole(e *evaluation, f *form, add func(string)) {
	s := "role/aws-service-role/" + f.text(e, 0) + "/AWSServiceRoleFor"
	if suffix := f.text(e, 1); suffix != "" {
		s += "_" + suffix
	}
	add(f.local(e, s))
}

// queue is a queue, by its URL, or by its name and perhaps the account of its owner.
func queue(e *evaluation, f *form, add func(string)) {
	given := f.text(e, 0)
	q, ok := arn.ParseQueueURL(given)
	if !ok {
		add("*")
		return
	}
	account := f.text(e, 1)
	if account == "" {
		account = q.Account
	}
	if !arn.IsAccount(account) {
		account = e.info.Account
	}
	add(f.prefix + e.info.Region + ":" + account + ":" + q.Name)
}

// moveTask is the source queue of a message move task, whose ARN is in its handle. Tasks of other accounts are none that it could mean.
func moveTask(e *evaluation, f *form, add func(string)) {
	var handle struct{ SourceArn string }
	b, err := base64.StdEncoding.DecodeString(f.text(e, 0))
	if err != nil || json.Unmarshal(b, &handle) != nil || !arn.Is(handle.SourceArn) || accountOf(handle.SourceArn) != e.info.Account {
		add("*")
		return
	}
	add(handle.SourceArn)
}
