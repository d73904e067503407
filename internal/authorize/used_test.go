package authorize

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mayflyhq/mayfly/internal/aws/api/lambdaapi"
	"github.com/mayflyhq/mayfly/internal/aws/api/logsapi"
	"github.com/mayflyhq/mayfly/internal/call"
	"github.com/mayflyhq/mayfly/internal/kv"
	"github.com/mayflyhq/mayfly/internal/kv/pebblekv"
	"github.com/mayflyhq/mayfly/internal/lang/iampolicy"
)

func memory(t *testing.T) kv.DB {
	t.Helper()
	db, err := pebblekv.Open(pebblekv.Options{InMemory: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}

func put(group, stream string) *logsapi.PutLogEventsInput {
	return &logsapi.PutLogEventsInput{LogGroupName: &group, LogStreamName: &stream}
}

func TestProposal(t *testing.T) {
	w := bobWith(t)
	w.identities[roleARN].Policies = identity(t, allow("lambda:InvokeFunction", "*"), allow("lambda:ListFunctions", "*"), allow("logs:*", "*"), allow("s3:GetObject", "arn:aws:s3:::b/*"))
	db := memory(t)
	a := newAuthorizer(t, w, Deps{DB: db})
	if err := a.load(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx := as(t, worker(call.Session{Function: fnARN}))
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Error(err)
		}
	}
	must(a.Authorize(ctx, lambdaapi.Invoke.Info, &lambdaapi.InvokeInput{FunctionName: new("g")}))
	must(a.Authorize(ctx, lambdaapi.Invoke.Info, &lambdaapi.InvokeInput{FunctionName: new("f")}))
	must(a.Authorize(ctx, logsapi.PutLogEvents.Info, put("/a", "s")))
	must(a.Authorize(ctx, logsapi.CreateLogStream.Info, &logsapi.CreateLogStreamInput{LogGroupName: new("/a"), LogStreamName: new("s")}))
	must(a.Authorize(ctx, logsapi.CreateLogGroup.Info, &logsapi.CreateLogGroupInput{LogGroupName: new("/a")}))
	if a.Authorize(ctx, lambdaapi.DeleteFunction.Info, &lambdaapi.DeleteFunctionInput{FunctionName: new("g")}) == nil {
		t.Error("allowed")
	}
	must(a.store(t.Context()))

	const logsARN = "arn:aws:logs:us-east-1:" + account + ":log-group:/a"
	want := `{"Version":"2012-10-17","Statement":[` +
		`{"Effect":"Allow","Action":"lambda:InvokeFunction","Resource":["` + fnARN + `","arn:aws:lambda:us-east-1:` + account + `:function:g"]},` +
		`{"Effect":"Allow","Action":"logs:CreateLogGroup","Resource":"` + logsARN + `:*"},` +
		`{"Effect":"Allow","Action":["logs:CreateLogStream","logs:PutLogEvents"],"Resource":"` + logsARN + `:log-stream:s"}]}`
	for range 2 {
		p, err := a.Propose(t.Context(), fnARN, roleARN, false)
		if err != nil {
			t.Fatal(err)
		}
		if b, _ := json.Marshal(p.Policy); string(b) != want {
			t.Errorf("got  %s\nwant %s", b, want)
		}
		if got := strings.Join(p.Unused, "; "); got != "lambda:ListFunctions on *; s3:GetObject on arn:aws:s3:::b/*" {
			t.Error("unused:", got)
		}
		// The policy is one, and allows what was done.
		b, _ := json.Marshal(p.Policy)
		doc, err := iampolicy.Parse(string(b), iampolicy.Identity)
		if err != nil {
			t.Fatal(err)
		}
		w.identities[roleARN].Policies = []*iampolicy.Compiled{iampolicy.Compile(doc, "proposed")}
		must(a.Authorize(ctx, logsapi.CreateLogGroup.Info, &logsapi.CreateLogGroupInput{LogGroupName: new("/a")}))
		must(a.Authorize(ctx, lambdaapi.Invoke.Info, &lambdaapi.InvokeInput{FunctionName: new("g")}))
		w.identities[roleARN].Policies = identity(t, allow("lambda:InvokeFunction", "*"), allow("lambda:ListFunctions", "*"), allow("logs:*", "*"), allow("s3:GetObject", "arn:aws:s3:::b/*"))

		p, _ = a.Propose(t.Context(), fnARN, roleARN, true)
		if b, _ := json.Marshal(p.Policy); !strings.Contains(string(b), "lambda:DeleteFunction") {
			t.Errorf("without what was refused: %s", b)
		}
		// Another one on the same store knows it all.
		must(a.store(t.Context()))
		before := a
		a = newAuthorizer(t, w, Deps{DB: db})
		if err := a.load(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := a.Refusals(account, "", 10); len(got) != 1 || got[0].Action != "lambda:DeleteFunction" || got[0].Function != fnARN {
			t.Errorf("refusals: %+v", got)
		}
		if !a.used.since.Equal(before.used.since) {
			t.Error("since", a.used.since, before.used.since)
		}
	}
}

// Many streams of one group become one pattern, in memory and in the store, and no more memory is taken.
func TestManyResources(t *testing.T) {
	w := bobWith(t)
	w.identities[roleARN].Policies = identity(t, allow("logs:*", "*"))
	db := memory(t)
	a := newAuthorizer(t, w, Deps{DB: db})
	if err := a.load(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx := as(t, worker(call.Session{Function: fnARN}))
	for i := range 3000 {
		if err := a.Authorize(ctx, logsapi.PutLogEvents.Info, put(fmt.Sprintf("/g%d", i%3), fmt.Sprintf("2026/%d", i))); err != nil {
			t.Fatal(err)
		}
		if i%500 == 0 {
			if err := a.store(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := a.store(t.Context()); err != nil {
		t.Fatal(err)
	}
	uses, _ := a.Used(fnARN)
	if len(uses) > maxResources {
		t.Errorf("%d resources", len(uses))
	}
	again := newAuthorizer(t, w, Deps{DB: db})
	if err := again.load(t.Context()); err != nil {
		t.Fatal(err)
	}
	stored, _ := again.Used(fnARN)
	if fmt.Sprint(stored) != fmt.Sprint(uses) {
		t.Errorf("stored\n%v, known\n%v", stored, uses)
	}
}

func TestRefusalsAreBounded(t *testing.T) {
	w := bobWith(t)
	db := memory(t)
	a := newAuthorizer(t, w, Deps{DB: db})
	for i := range 3 * maxRefusals {
		a.Authorize(as(t, bob()), lambdaapi.Invoke.Info, invoke)
		if i%100 == 0 {
			if err := a.store(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := a.store(t.Context()); err != nil {
		t.Fatal(err)
	}
	n := 0
	db.View(t.Context(), func(r kv.Reader) error {
		for range r.Scan(kv.Prefix("authorize", "refused")) {
			n++
		}
		return nil
	})
	if got := len(a.Refusals(account, "", 10000)); got != maxRefusals || n != maxRefusals {
		t.Errorf("%d in memory, %d stored", got, n)
	}
}

func TestConcurrently(t *testing.T) {
	w := bobWith(t, allow("logs:*", "*"))
	a := newAuthorizer(t, w, Deps{DB: memory(t)})
	if err := a.load(t.Context()); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			ctx := as(t, bob())
			for i := range 300 {
				a.Authorize(ctx, logsapi.PutLogEvents.Info, put("/g", fmt.Sprint(i%150)))
				a.Authorize(ctx, lambdaapi.Invoke.Info, invoke)
				if g == 0 && i%50 == 0 {
					if err := a.store(t.Context()); err != nil {
						t.Error(err)
					}
				}
				a.Used(bobARN)
				a.Refusals(account, "", 3)
			}
		})
	}
	wg.Wait()
}

func TestExplanations(t *testing.T) {
	w := bobWith(t, `{"Sid":"Stop","Effect":"Deny","Action":"lambda:Invoke*","Resource":"*"}`)
	a := newAuthorizer(t, w, Deps{})
	last := func() Refusal {
		t.Helper()
		all := a.Refusals(account, "", 1)
		if len(all) != 1 {
			t.Fatal("nothing was remembered")
		}
		return all[0]
	}
	a.Authorize(as(t, bob()), lambdaapi.Invoke.Info, invoke)
	if r := last(); !r.Denies || r.Statement != "Stop" || r.Policy != "inline" || r.Fix.Policy != nil || !strings.Contains(r.Fix.Advice, "Stop") {
		t.Errorf("%+v", r)
	}
	w.identities[bobARN].Policies = nil
	a.Authorize(as(t, bob()), lambdaapi.CreateFunction.Info, &lambdaapi.CreateFunctionInput{FunctionName: new("f"), Tags: map[string]string{"a": "b"}})
	r := last()
	if r.Denies || r.PolicyType != "identity-based policy" || r.Keys["aws:RequestTag/a"][0] != "b" || r.Keys["aws:SourceIp"][0] != "10.1.2.3" || r.Keys["aws:PrincipalTag/Team"][0] != "red" {
		t.Errorf("%+v", r)
	}
	// What is proposed helps.
	b, _ := json.Marshal(r.Fix.Policy)
	p, err := iampolicy.Parse(string(b), iampolicy.Identity)
	if err != nil {
		t.Fatal(err)
	}
	w.identities[bobARN].Policies = []*iampolicy.Compiled{iampolicy.Compile(p, "fix")}
	if err := a.Authorize(as(t, bob()), lambdaapi.CreateFunction.Info, &lambdaapi.CreateFunctionInput{FunctionName: new("f")}); err != nil {
		t.Error(err)
	}
	w.identities[bobARN] = &Identity{ARN: bobARN, ID: "AIDABOB", Policies: identity(t, `{"Sid":"Red","Effect":"Allow","Action":"lambda:*","Resource":"*","Condition":{"StringEquals":{"aws:RequestTag/team":"red"}}}`)}
	a.Authorize(as(t, bob()), lambdaapi.Invoke.Info, invoke)
	if got := last().Nearly; len(got) != 1 || got[0] != "Statement Red of the identity-based policy inline would allow it, but its condition is not met: StringEquals aws:RequestTag/team" {
		t.Errorf("nearly: %q", got)
	}
	if _, err := json.Marshal(r); err != nil {
		t.Error(err)
	}
}

// failing is a store that cannot write.
type failing struct{ kv.DB }

func (failing) Update(context.Context, func(kv.Tx) error) error { return kv.ErrFailed }

// What could not be stored is stored later, and Run does not end.
func TestStoreFails(t *testing.T) {
	w := bobWith(t, allow("logs:*", "*"))
	db := memory(t)
	a := newAuthorizer(t, w, Deps{DB: db})
	ctx := as(t, bob())
	a.Authorize(ctx, logsapi.PutLogEvents.Info, put("/g", "s"))
	a.Authorize(ctx, logsapi.PutLogEvents.Info, put("/g", strings.Repeat("s", 5000))) // no key can hold it
	a.Authorize(ctx, lambdaapi.Invoke.Info, invoke)
	if err := a.used.store(t.Context(), failing{db}); err == nil {
		t.Error("stored")
	}
	if err := a.refusals.store(t.Context(), failing{db}); err == nil {
		t.Error("stored")
	}
	if err := a.store(t.Context()); err != nil {
		t.Fatal(err)
	}
	again := newAuthorizer(t, w, Deps{DB: db})
	if err := again.load(t.Context()); err != nil {
		t.Fatal(err)
	}
	if uses, _ := again.Used(bobARN); len(uses) != 2 || len(again.Refusals(account, "", 9)) != 1 {
		t.Errorf("%+v", uses)
	}
}

// Run stores a second after something new, and what is left when it ends.
func TestRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := bobWith(t, allow("logs:*", "*"))
		db := &counting{DB: fake{}}
		a := newAuthorizer(t, w, Deps{DB: db})
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- a.Run(ctx) }()
		synctest.Wait()
		began := db.n.Load() // what loading wrote
		for i := range 10 {
			a.Authorize(as(t, bob()), logsapi.PutLogEvents.Info, put("/g", fmt.Sprint(i)))
		}
		synctest.Wait()
		if db.n.Load() != began {
			t.Error("stored at once")
		}
		time.Sleep(linger + time.Millisecond)
		synctest.Wait()
		if got := db.n.Load() - began; got != 1 {
			t.Errorf("%d writes for ten uses", got)
		}
		a.Authorize(as(t, bob()), lambdaapi.Invoke.Info, invoke)
		cancel()
		if err := <-ended; err != nil || db.n.Load()-began < 2 {
			t.Error("the last ones are lost:", err)
		}
	})
}

// counting counts writes to a store that keeps nothing.
type counting struct {
	kv.DB
	n atomic.Int64
}

func (c *counting) Update(context.Context, func(kv.Tx) error) error { c.n.Add(1); return nil }

type fake struct{ kv.DB }

func (fake) View(context.Context, func(kv.Reader) error) error { return nil }
