package lambda

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/mayflyhq/mayfly/internal/aws/api/lambdaapi"
	"github.com/mayflyhq/mayfly/internal/aws/apierr"
	"github.com/mayflyhq/mayfly/internal/kv"
)

func (w *world) publish(in lambdaapi.PublishVersionInput) *lambdaapi.FunctionConfiguration {
	w.t.Helper()
	return must(lambdaapi.PublishVersion.Call(w.t.Context(), w, &in))(w.t)
}

func (w *world) update(in lambdaapi.UpdateFunctionConfigurationInput) *lambdaapi.FunctionConfiguration {
	w.t.Helper()
	must(lambdaapi.UpdateFunctionConfiguration.Call(w.t.Context(), w, &in))(w.t)
	return w.settled(*in.FunctionName)
}

func (w *world) versions(name string) (all []string) {
	w.t.Helper()
	out := must(lambdaapi.ListVersionsByFunction.Call(w.t.Context(), w, &lambdaapi.ListVersionsByFunctionInput{FunctionName: &name}))(w.t)
	for _, v := range out.Versions {
		if v.State != nil || !strings.HasSuffix(*v.FunctionArn, ":"+*v.Version) {
			w.t.Errorf("listed version: %+v", v)
		}
		all = append(all, *v.Version)
	}
	return all
}

func TestPublishVersion(t *testing.T) {
	w := newWorld(t)
	w.run()
	name := new("f")
	first := w.created("f", func(in *lambdaapi.CreateFunctionInput) { in.Description = new("latest") })
	if d := cmp.Diff([]string{"$LATEST"}, w.versions("f")); d != "" {
		t.Error(d)
	}
	_, err := lambdaapi.PublishVersion.Call(t.Context(), w, &lambdaapi.PublishVersionInput{FunctionName: name, CodeSha256: new("somenonexistentsha256")})
	wantError(t, err, "InvalidParameterValueException", 400, "CodeSHA256 (somenonexistentsha256) is different from current CodeSHA256 in $LATEST ("+*first.CodeSha256+"). Please try again with the CodeSHA256 in $LATEST.")
	_, err = lambdaapi.PublishVersion.Call(t.Context(), w, &lambdaapi.PublishVersionInput{FunctionName: name, RevisionId: new("stale")})
	wantError(t, err, "PreconditionFailedException", 412, "The Revision Id provided does not match")
	_, err = lambdaapi.PublishVersion.Call(t.Context(), w, &lambdaapi.PublishVersionInput{FunctionName: new("nope")})
	wantError(t, err, "ResourceNotFoundException", 404, "Function not found: "+testARN+"nope")

	one := w.publish(lambdaapi.PublishVersionInput{FunctionName: name, Description: new("one"), CodeSha256: first.CodeSha256, RevisionId: first.RevisionId})
	if *one.Version != "1" || *one.FunctionArn != testARN+"f:1" || *one.State != "Active" || *one.LastUpdateStatus != "Successful" || *one.Description != "one" {
		t.Error("version 1:", one)
	}
	after := w.configuration("f")
	if *after.RevisionId == *first.RevisionId || *after.Description != "latest" || *after.LastModified != *first.LastModified {
		t.Error("$LATEST after publishing:", after)
	}
	if again := w.publish(lambdaapi.PublishVersionInput{FunctionName: name, Description: new("two")}); *again.Version != "1" || *again.Description != "one" {
		t.Error("published again without a change:", again)
	}
	if d := cmp.Diff(after, w.configuration("f")); d != "" {
		t.Error("publishing nothing changed $LATEST:", d)
	}
	w.update(lambdaapi.UpdateFunctionConfigurationInput{FunctionName: name, Timeout: new(int32(9))})
	if two := w.publish(lambdaapi.PublishVersionInput{FunctionName: name}); *two.Version != "2" || *two.Timeout != 9 || *two.Description != "latest" {
		t.Error("version 2:", two)
	}
	if got := w.configuration("f:1"); *got.Timeout != 3 || *got.RevisionId != *one.RevisionId {
		t.Error("version 1 changed:", got)
	}
	// Numbers are not used again, whatever is deleted.
	must(lambdaapi.DeleteFunction.Call(t.Context(), w, &lambdaapi.DeleteFunctionInput{FunctionName: name, Qualifier: new("2")}))(t)
	if three := w.publish(lambdaapi.PublishVersionInput{FunctionName: name}); *three.Version != "3" {
		t.Error("version 3:", three)
	}
	if d := cmp.Diff([]string{"$LATEST", "1", "3"}, w.versions("f")); d != "" {
		t.Error(d)
	}

	if out := w.invoked(&lambdaapi.InvokeInput{FunctionName: new("f:1")}); *out.ExecutedVersion != "1" || w.invoker.last.Timeout.Seconds() != 3 || w.invoker.last.Version != "1" || w.invoker.request.InvokedARN != testARN+"f:1" {
		t.Error("invoked", *out.ExecutedVersion, w.invoker.last)
	}
	if out := w.invoked(&lambdaapi.InvokeInput{FunctionName: name}); *out.ExecutedVersion != "$LATEST" || w.invoker.last.Timeout.Seconds() != 9 || w.invoker.request.InvokedARN != testARN+"f" {
		t.Error("invoked", *out.ExecutedVersion, w.invoker.last)
	}
	_, err = lambdaapi.Invoke.Call(t.Context(), w, &lambdaapi.InvokeInput{FunctionName: name, Qualifier: new("2")})
	wantError(t, err, "ResourceNotFoundException", 404, "Function not found: "+testARN+"f:2")
}

func TestPublishOnCreateAndUpdate(t *testing.T) {
	w := newWorld(t)
	made := w.create("f", func(in *lambdaapi.CreateFunctionInput) { in.Publish = new(true) })
	if *made.Version != "1" || *made.FunctionArn != testARN+"f" || *made.State != "Pending" {
		t.Error("CreateFunction:", made)
	}
	_, err := lambdaapi.Invoke.Call(t.Context(), w, &lambdaapi.InvokeInput{FunctionName: new("f:1")})
	wantError(t, err, "ResourceConflictException", 409, "The operation cannot be performed at this time. The function is currently in the following state: Pending")
	w.run()
	w.settled("f")
	one := w.settled("f:1")
	if *one.State != "Active" || *one.LastUpdateStatus != "Successful" || *one.RevisionId == *made.RevisionId {
		t.Error("version 1:", one)
	}
	if again := w.publish(lambdaapi.PublishVersionInput{FunctionName: new("f")}); *again.Version != "1" {
		t.Error("published again:", again)
	}

	w.stop()
	two := must(lambdaapi.UpdateFunctionCode.Call(t.Context(), w, &lambdaapi.UpdateFunctionCodeInput{FunctionName: new("f"), ZipFile: zipped(t, "2"), Publish: new(true)}))(t)
	if *two.Version != "2" || *two.FunctionArn != testARN+"f:2" || *two.State != "Pending" || *two.StateReasonCode != "Creating" || two.LastUpdateStatus != nil {
		t.Error("UpdateFunctionCode:", two)
	}
	if latest := w.configuration("f"); *latest.State != "Active" || *latest.LastUpdateStatus != "InProgress" {
		t.Error("$LATEST:", latest)
	}
	w.run()
	w.settled("f")
	if got := w.settled("f:2"); *got.State != "Active" || *got.CodeSha256 != *two.CodeSha256 {
		t.Error("version 2:", got)
	}
}

func TestListVersionsPages(t *testing.T) {
	w := newWorld(t)
	w.run()
	w.created("f")
	w.created("f-2")
	for i := range 12 {
		w.update(lambdaapi.UpdateFunctionConfigurationInput{FunctionName: new("f"), Description: new(fmt.Sprint(i))})
		w.publish(lambdaapi.PublishVersionInput{FunctionName: new("f")})
	}
	var got []string
	in := &lambdaapi.ListVersionsByFunctionInput{FunctionName: new("f"), MaxItems: new(int32(5))}
	for {
		out := must(lambdaapi.ListVersionsByFunction.Call(t.Context(), w, in))(t)
		for _, v := range out.Versions {
			got = append(got, *v.Version)
		}
		if in.Marker = out.NextMarker; in.Marker == nil {
			break
		}
	}
	want := []string{"$LATEST", "1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "11", "12"}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

func TestAliases(t *testing.T) {
	w := newWorld(t)
	w.run()
	name := new("f")
	w.created("f", func(in *lambdaapi.CreateFunctionInput) { in.Publish = new(true) })
	w.settled("f:1")
	w.update(lambdaapi.UpdateFunctionConfigurationInput{FunctionName: name, Timeout: new(int32(9))})
	w.publish(lambdaapi.PublishVersionInput{FunctionName: name})
	weights := func(m map[string]float64) *lambdaapi.AliasRoutingConfiguration {
		return &lambdaapi.AliasRoutingConfiguration{AdditionalVersionWeights: m}
	}
	create := func(in lambdaapi.CreateAliasInput) (*lambdaapi.AliasConfiguration, error) {
		in.FunctionName = name
		return lambdaapi.CreateAlias.Call(t.Context(), w, &in)
	}
	live := must(create(lambdaapi.CreateAliasInput{Name: new("live"), FunctionVersion: new("1"), RoutingConfig: weights(map[string]float64{"2": 0.25})}))(t)
	want := &lambdaapi.AliasConfiguration{
		AliasArn: new(testARN + "f:live"), Name: new("live"), FunctionVersion: new("1"), Description: new(""), RevisionId: live.RevisionId,
		RoutingConfig: weights(map[string]float64{"2": 0.25}),
	}
	if d := cmp.Diff(want, live); d != "" {
		t.Error(d)
	}
	must(create(lambdaapi.CreateAliasInput{Name: new("dev"), FunctionVersion: new("$LATEST"), Description: new("d")}))(t)
	must(create(lambdaapi.CreateAliasInput{Name: new("2024-01-02"), FunctionVersion: new("2"), RoutingConfig: &lambdaapi.AliasRoutingConfiguration{}}))(t)
	for _, c := range []struct {
		in     lambdaapi.CreateAliasInput
		code   string
		status int
		text   string
	}{
		{lambdaapi.CreateAliasInput{Name: new("x"), FunctionVersion: new("1"), RoutingConfig: weights(map[string]float64{"1": 0.5, "2": 0.5})}, "InvalidParameterValueException", 400, "Number of items in AdditionalVersionWeights cannot be greater than 1"},
		{lambdaapi.CreateAliasInput{Name: new("x"), FunctionVersion: new("1"), RoutingConfig: weights(map[string]float64{"1": 0.5})}, "InvalidParameterValueException", 400, "Invalid function version 1. Function version 1 is already included in routing configuration."},
		{lambdaapi.CreateAliasInput{Name: new("x"), FunctionVersion: new("10")}, "ResourceNotFoundException", 404, "Function not found: " + testARN + "f:10"},
		{lambdaapi.CreateAliasInput{Name: new("x"), FunctionVersion: new("1"), RoutingConfig: weights(map[string]float64{"10": 0.5})}, "ResourceNotFoundException", 404, "Function not found: " + testARN + "f:10"},
		{lambdaapi.CreateAliasInput{Name: new("x"), FunctionVersion: new("$LATEST"), RoutingConfig: weights(map[string]float64{"1": 0.5})}, "InvalidParameterValueException", 400, "$LATEST is not supported for an alias pointing to more than 1 version"},
		{lambdaapi.CreateAliasInput{Name: new("live"), FunctionVersion: new("1")}, "ResourceConflictException", 409, "Alias already exists: " + testARN + "f:live"},
		{lambdaapi.CreateAliasInput{Name: new("123"), FunctionVersion: new("1")}, "ValidationException", 400, "1 validation error detected: Value '123' at 'name' failed to satisfy constraint: Member must satisfy regular expression pattern: "},
		{lambdaapi.CreateAliasInput{Name: new("x"), FunctionVersion: new("1"), RoutingConfig: weights(map[string]float64{"2": 2})}, "ValidationException", 400, "1 validation error detected: Value "},
	} {
		_, err := create(c.in)
		wantError(t, err, c.code, c.status, c.text)
	}

	list := func(version *string) (all []string) {
		out := must(lambdaapi.ListAliases.Call(t.Context(), w, &lambdaapi.ListAliasesInput{FunctionName: name, FunctionVersion: version}))(t)
		for _, a := range out.Aliases {
			all = append(all, *a.Name)
		}
		return all
	}
	if d := cmp.Diff([]string{"2024-01-02", "dev", "live"}, list(nil)); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff([]string{"live"}, list(new("1"))); d != "" {
		t.Error(d)
	}
	if got := w.configuration("f:live"); *got.FunctionArn != testARN+"f:live" || *got.Version != "1" {
		t.Error("through an alias:", got)
	}

	// Both versions get their share.
	count := map[string]int{}
	for range 2000 {
		out := w.invoked(&lambdaapi.InvokeInput{FunctionName: name, Qualifier: new("live")})
		count[*out.ExecutedVersion]++
		if w.invoker.last.Version != *out.ExecutedVersion || w.invoker.request.InvokedARN != testARN+"f:live" {
			t.Fatal("version", w.invoker.last.Version, *out.ExecutedVersion, w.invoker.request.InvokedARN)
		}
	}
	// 500 are expected with a standard deviation of 19.
	if count["2"] < 350 || count["2"] > 650 || count["1"]+count["2"] != 2000 {
		t.Errorf("shares: %v", count)
	}

	update := func(in lambdaapi.UpdateAliasInput) (*lambdaapi.AliasConfiguration, error) {
		in.FunctionName = name
		return lambdaapi.UpdateAlias.Call(t.Context(), w, &in)
	}
	_, err := update(lambdaapi.UpdateAliasInput{Name: new("live"), RevisionId: new("stale")})
	wantError(t, err, "PreconditionFailedException", 412, "The Revision Id provided does not match")
	_, err = update(lambdaapi.UpdateAliasInput{Name: new("nope")})
	wantError(t, err, "ResourceNotFoundException", 404, "Alias not found: "+testARN+"f:nope")
	_, err = update(lambdaapi.UpdateAliasInput{Name: new("live"), FunctionVersion: new("2")})
	wantError(t, err, "InvalidParameterValueException", 400, "Invalid function version 2. Function version 2 is already included in routing configuration.")
	got := must(update(lambdaapi.UpdateAliasInput{Name: new("live"), RevisionId: live.RevisionId, RoutingConfig: weights(map[string]float64{}), FunctionVersion: new("2"), Description: new("moved")}))(t)
	if got.RoutingConfig != nil || *got.FunctionVersion != "2" || *got.Description != "moved" || *got.RevisionId == *live.RevisionId {
		t.Error("updated:", got)
	}
	if out := w.invoked(&lambdaapi.InvokeInput{FunctionName: new("f:live")}); *out.ExecutedVersion != "2" {
		t.Error("after the move:", *out.ExecutedVersion)
	}
	if got2 := must(lambdaapi.GetAlias.Call(t.Context(), w, &lambdaapi.GetAliasInput{FunctionName: name, Name: new("live")}))(t); cmp.Diff(got, got2) != "" {
		t.Error(cmp.Diff(got, got2))
	}
	for range 2 {
		must(lambdaapi.DeleteAlias.Call(t.Context(), w, &lambdaapi.DeleteAliasInput{FunctionName: name, Name: new("live")}))(t)
	}
	_, err = lambdaapi.GetAlias.Call(t.Context(), w, &lambdaapi.GetAliasInput{FunctionName: name, Name: new("live")})
	wantError(t, err, "ResourceNotFoundException", 404, "Cannot find alias arn: "+testARN+"f:live")
	_, err = lambdaapi.Invoke.Call(t.Context(), w, &lambdaapi.InvokeInput{FunctionName: new("f:live")})
	wantError(t, err, "ResourceNotFoundException", 404, "Function not found: "+testARN+"f:live")
}

func TestDeletionRemovesWhatHangs(t *testing.T) {
	w := newWorld(t)
	w.run()
	w.created("f")
	w.created("fx")
	must(lambdaapi.PublishVersion.Call(t.Context(), w, &lambdaapi.PublishVersionInput{FunctionName: new("f")}))(t)
	must(lambdaapi.CreateAlias.Call(t.Context(), w, &lambdaapi.CreateAliasInput{FunctionName: new("f"), Name: new("a"), FunctionVersion: new("$LATEST")}))(t)
	c := scope{testAccount, testRegion}
	err := w.db.Update(t.Context(), func(tx kv.Tx) error {
		for _, qualifier := range []string{"", "$LATEST", "1", "a"} {
			if err := c.hang(tx, "f", qualifier, "test", qualifier); err != nil {
				return err
			}
		}
		return c.hang(tx, "fx", "", "test", "other")
	})
	if err != nil {
		t.Fatal(err)
	}
	left := func(want int) {
		t.Helper()
		n := 0
		for _, k := range w.keys() {
			if strings.Contains(k, `"of"/"f"/`) {
				n++
			}
		}
		if n != want {
			t.Errorf("%d rows hang on f, want %d: %q", n, want, w.keys())
		}
	}
	left(4)
	must(lambdaapi.DeleteAlias.Call(t.Context(), w, &lambdaapi.DeleteAliasInput{FunctionName: new("f"), Name: new("a")}))(t)
	left(3)
	must(lambdaapi.DeleteFunction.Call(t.Context(), w, &lambdaapi.DeleteFunctionInput{FunctionName: new("f"), Qualifier: new("1")}))(t)
	left(2)
	must(lambdaapi.DeleteFunction.Call(t.Context(), w, &lambdaapi.DeleteFunctionInput{FunctionName: new("f")}))(t)
	left(0)
	if !slices.ContainsFunc(w.keys(), func(k string) bool { return strings.Contains(k, `"of"/"fx"/`) }) {
		t.Error("a row of another function is gone")
	}
}

// TestAliasShares measures the share that each weight gets.
func TestAliasShares(t *testing.T) {
	w := newWorld(t)
	w.run()
	w.created("f", func(in *lambdaapi.CreateFunctionInput) { in.Publish = new(true) })
	w.settled("f:1")
	w.update(lambdaapi.UpdateFunctionConfigurationInput{FunctionName: new("f"), Timeout: new(int32(9))})
	w.publish(lambdaapi.PublishVersionInput{FunctionName: new("f")})
	must(lambdaapi.CreateAlias.Call(t.Context(), w, &lambdaapi.CreateAliasInput{FunctionName: new("f"), Name: new("a"), FunctionVersion: new("1")}))(t)
	const n = 4000
	for _, weight := range []float64{0, 0.01, 0.5, 0.9, 1} {
		must(lambdaapi.UpdateAlias.Call(t.Context(), w, &lambdaapi.UpdateAliasInput{FunctionName: new("f"), Name: new("a"),
			RoutingConfig: &lambdaapi.AliasRoutingConfiguration{AdditionalVersionWeights: map[string]float64{"2": weight}}}))(t)
		second := 0
		for range n {
			if out := w.invoked(&lambdaapi.InvokeInput{FunctionName: new("f"), Qualifier: new("a")}); *out.ExecutedVersion == "2" {
				second++
			}
		}
		// Seven standard deviations: once in 10^11 runs it is further away.
		if far := math.Abs(float64(second) - n*weight); far > 7*math.Sqrt(n*weight*(1-weight)) {
			t.Errorf("weight %v: %d of %d", weight, second, n)
		}
	}
}

// TestStaleAlias lets many callers change an alias who all believe in the same RevisionId: one wins.
func TestStaleAlias(t *testing.T) {
	w := newWorld(t)
	w.run()
	w.created("f")
	a := must(lambdaapi.CreateAlias.Call(t.Context(), w, &lambdaapi.CreateAliasInput{FunctionName: new("f"), Name: new("a"), FunctionVersion: new("$LATEST")}))(t)
	var won atomic.Int32
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			_, err := lambdaapi.UpdateAlias.Call(t.Context(), w, &lambdaapi.UpdateAliasInput{
				FunctionName: new("f"), Name: new("a"), RevisionId: a.RevisionId, Description: new(fmt.Sprint(i))})
			if err == nil {
				won.Add(1)
				return
			}
			if apierr.Code(err) != "PreconditionFailedException" {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if won.Load() != 1 {
		t.Errorf("%d of 8 won", won.Load())
	}
}

// crashing is a store whose next transaction does its work and is then lost, as at a crash before it was durable.
type crashing struct {
	kv.DB
	crash atomic.Bool
}

var errCrash = errors.New("crash")

func (c *crashing) Update(ctx context.Context, f func(kv.Tx) error) error {
	return c.DB.Update(ctx, func(tx kv.Tx) error {
		if err := f(tx); err != nil {
			return err
		}
		if c.crash.Swap(false) {
			return errCrash
		}
		return nil
	})
}

// TestCrashInPublish loses the transactions that publish versions and layers: no number, row or archive is left of them.
func TestCrashInPublish(t *testing.T) {
	db := &crashing{}
	w := newWorld(t, func(d *Deps) { db.DB, d.DB = d.DB, db })
	w.run()
	w.created("f")
	w.layer("l", "first")
	must(w.code.collect(t.Context()))(t)
	before := w.keys()
	db.crash.Store(true)
	if _, err := lambdaapi.PublishVersion.Call(t.Context(), w, &lambdaapi.PublishVersionInput{FunctionName: new("f")}); !errors.Is(err, errCrash) {
		t.Fatal(err)
	}
	if d := cmp.Diff(before, w.keys()); d != "" {
		t.Error("after the crash of a publication (-before +after)", d)
	}
	w.stop()
	// The first transaction of a layer says that there will be a blob, the second publishes it.
	layer := makeZip(t, file{name: "x", body: "second"})
	sum := sha256.Sum256(layer)
	err := w.db.Update(t.Context(), func(tx kv.Tx) error { tx.Set(archiveKey(hex.EncodeToString(sum[:])), nil); return nil })
	if err != nil {
		t.Fatal(err)
	}
	db.crash.Store(true)
	_, err = lambdaapi.PublishLayerVersion.Call(t.Context(), w, &lambdaapi.PublishLayerVersionInput{
		LayerName: new("l"), Content: &lambdaapi.LayerVersionContentInput{ZipFile: layer}})
	if !errors.Is(err, errCrash) {
		t.Fatal(err)
	}
	w.restart()
	must(w.code.collect(t.Context()))(t)
	if d := cmp.Diff(before, w.keys()); d != "" {
		t.Error("after the crash of a layer (-before +after)", d)
	}
	w.run()
	if v := w.publish(lambdaapi.PublishVersionInput{FunctionName: new("f")}); *v.Version != "1" {
		t.Error("the version after the crash is", *v.Version)
	}
	if l := w.layer("l", "third"); *l.Version != 2 {
		t.Error("the layer's version after the crash is", *l.Version)
	}
}
