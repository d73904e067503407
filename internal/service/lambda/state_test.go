package lambda

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mayflyhq/mayfly/internal/aws/api/lambdaapi"
	"github.com/mayflyhq/mayfly/internal/aws/apierr"
	"github.com/mayflyhq/mayfly/internal/fleet"
	"github.com/mayflyhq/mayfly/internal/kv"
)

func TestFailedFunction(t *testing.T) {
	w := newWorld(t)
	w.runtimes.set(func(context.Context, string, string) (string, error) {
		return "", errors.New("Node.js is not installed: get it from https://nodejs.org")
	})
	w.run()
	got := w.created("f")
	if *got.State != "Failed" || *got.StateReasonCode != "InvalidRuntime" || *got.StateReason != "Node.js is not installed: get it from https://nodejs.org" || got.LastUpdateStatus != nil {
		t.Error("failed:", *got.State, deref(got.StateReason), deref(got.LastUpdateStatus))
	}
	_, err := lambdaapi.Invoke.Call(t.Context(), w, &lambdaapi.InvokeInput{FunctionName: new("f")})
	wantError(t, err, "ResourceConflictException", 409, "The operation cannot be performed at this time. The function is currently in the following state: Failed")
	_, err = lambdaapi.PublishVersion.Call(t.Context(), w, &lambdaapi.PublishVersionInput{FunctionName: new("f")})
	wantError(t, err, "ResourceConflictException", 409, "The operation cannot be performed at this time. The function is currently in the following state: Failed")

	// An update tries again.
	w.runtimes.set(nil)
	got = must(lambdaapi.UpdateFunctionConfiguration.Call(t.Context(), w, &lambdaapi.UpdateFunctionConfigurationInput{FunctionName: new("f"), Timeout: new(int32(4))}))(t)
	if *got.State != "Pending" {
		t.Error("updated:", *got.State)
	}
	if got = w.settled("f"); *got.State != "Active" || got.StateReason != nil || *got.LastUpdateStatus != "Successful" {
		t.Error("tried again:", *got.State, *got.LastUpdateStatus)
	}
	w.invoked(&lambdaapi.InvokeInput{FunctionName: new("f")})
}

// TestOldCodeServes looks at invocations during an update, after one that failed, and after one that worked.
func TestOldCodeServes(t *testing.T) {
	w := newWorld(t)
	w.run()
	w.created("f")
	serves := func() (dir string, timeout time.Duration) {
		t.Helper()
		w.invoked(&lambdaapi.InvokeInput{FunctionName: new("f")})
		if b, err := os.ReadFile(filepath.Join(w.invoker.last.Code, "bootstrap")); err != nil || len(b) == 0 {
			t.Fatalf("code: %q, %v", b, err)
		}
		return w.invoker.last.Code, w.invoker.last.Timeout
	}
	first, _ := serves()
	firstRevision := w.invoker.last.Revision

	block := make(chan error)
	w.runtimes.set(func(ctx context.Context, _, _ string) (string, error) {
		select {
		case err := <-block:
			return "cd", err
		case <-ctx.Done():
			return "", ctx.Err()
		}
	})
	update := func(body string) {
		t.Helper()
		must(lambdaapi.UpdateFunctionCode.Call(t.Context(), w, &lambdaapi.UpdateFunctionCodeInput{FunctionName: new("f"), ZipFile: zipped(t, body)}))(t)
	}
	update("second")
	if dir, _ := serves(); dir != first || w.invoker.last.Revision != firstRevision {
		t.Error("new code serves before it is ready")
	}
	const busy = "The operation cannot be performed at this time. An update is in progress for resource: " + testARN + "f"
	_, err := lambdaapi.UpdateFunctionCode.Call(t.Context(), w, &lambdaapi.UpdateFunctionCodeInput{FunctionName: new("f"), ZipFile: zipped(t, "third")})
	wantError(t, err, "ResourceConflictException", 409, busy)
	_, err = lambdaapi.UpdateFunctionConfiguration.Call(t.Context(), w, &lambdaapi.UpdateFunctionConfigurationInput{FunctionName: new("f")})
	wantError(t, err, "ResourceConflictException", 409, busy)
	_, err = lambdaapi.PublishVersion.Call(t.Context(), w, &lambdaapi.PublishVersionInput{FunctionName: new("f")})
	wantError(t, err, "ResourceConflictException", 409, busy)

	block <- errors.New("no such language")
	got := w.settled("f")
	if *got.State != "Active" || *got.LastUpdateStatus != "Failed" || *got.LastUpdateStatusReasonCode != "InvalidRuntime" || *got.LastUpdateStatusReason != "no such language" {
		t.Error("failed update:", got)
	}
	if dir, _ := serves(); dir != first {
		t.Error("code of a failed update serves")
	}
	// Once more, over the failed one: what serves is still the first.
	update("third")
	if dir, _ := serves(); dir != first {
		t.Error("code of a failed update serves during the next one")
	}
	block <- nil
	if got := w.settled("f"); *got.LastUpdateStatus != "Successful" {
		t.Error("third:", got)
	}
	third, _ := serves()
	if third == first || w.invoker.last.Revision == firstRevision {
		t.Error("new code does not serve")
	}
	// A configuration alone makes environments anew too.
	revision := w.invoker.last.Revision
	must(lambdaapi.UpdateFunctionConfiguration.Call(t.Context(), w, &lambdaapi.UpdateFunctionConfigurationInput{FunctionName: new("f"), Timeout: new(int32(44))}))(t)
	if _, timeout := serves(); timeout != 3*time.Second {
		t.Error("new timeout before it is ready")
	}
	block <- nil
	w.settled("f")
	if dir, timeout := serves(); dir != third || timeout != 44*time.Second || w.invoker.last.Revision == revision {
		t.Error("configuration:", dir, timeout)
	}
}

// TestCrashResume stops the service in the middle of everything and starts another on the same store.
func TestCrashResume(t *testing.T) {
	w := newWorld(t)
	w.run()
	w.created("updated")
	w.stop()
	w.create("created", func(in *lambdaapi.CreateFunctionInput) { in.Publish = new(true) })
	must(lambdaapi.UpdateFunctionCode.Call(t.Context(), w, &lambdaapi.UpdateFunctionCodeInput{FunctionName: new("updated"), ZipFile: zipped(t, "new")}))(t)

	// A new machine: what was unpacked is not trusted, and some of it is broken.
	if err := os.WriteFile(filepath.Join(w.deps.CodeDir, "boot"), []byte("another"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(w.deps.CodeDir, temporary+"123"), 0o755); err != nil {
		t.Fatal(err)
	}
	w.restart()
	if dirs := w.codeDirs(); len(dirs) > 0 {
		t.Errorf("kept over a restart of the machine: %q", dirs)
	}
	for _, name := range []string{"created", "created:1"} {
		if got := w.configuration(name); *got.State != "Pending" {
			t.Error(name, got)
		}
	}
	// What served before the crash serves before the update is resumed, unpacked again from its blob.
	w.invoked(&lambdaapi.InvokeInput{FunctionName: new("updated")})
	if b, err := os.ReadFile(filepath.Join(w.invoker.last.Code, "bootstrap")); err != nil || string(b) != "#!/bin/sh\n" {
		t.Errorf("old code %q, %v", b, err)
	}
	w.run()
	for _, name := range []string{"created", "created:1", "updated"} {
		if got := w.settled(name); *got.State != "Active" || *got.LastUpdateStatus != "Successful" {
			t.Error(name, got)
		}
	}
	w.invoked(&lambdaapi.InvokeInput{FunctionName: new("updated")})
	if b, err := os.ReadFile(filepath.Join(w.invoker.last.Code, "bootstrap")); err != nil || string(b) != "new" {
		t.Errorf("new code %q, %v", b, err)
	}
	for _, k := range w.keys() {
		if strings.HasPrefix(k, `"lambda.transition"/`) {
			t.Error("left:", k)
		}
	}

	// A restart of the process alone keeps what is unpacked.
	dirs := w.codeDirs()
	w.restart()
	if got := w.codeDirs(); !slices.Equal(got, dirs) {
		t.Errorf("a restart left %q of %q", got, dirs)
	}
}

// TestMissingArchive loses a blob, which no crash does.
func TestMissingArchive(t *testing.T) {
	w := newWorld(t)
	w.create("f")
	w.stop()
	for _, d := range w.codeDirs() {
		if err := removeTree(filepath.Join(w.deps.CodeDir, d)); err != nil {
			t.Fatal(err)
		}
		if err := w.code.drop(t.Context(), d); err != nil {
			t.Fatal(err)
		}
	}
	w.restart()
	w.run()
	if got := w.settled("f"); *got.State != "Failed" || *got.StateReasonCode != "InvalidZipFileException" {
		t.Error(got)
	}
}

// TestCrashBeforeBlob finds the row of an archive without its blob, as a crash between the two leaves it.
func TestCrashBeforeBlob(t *testing.T) {
	w := newWorld(t)
	digest, release, err := w.code.add(t.Context(), zipped(t, "#!/bin/sh\n"))
	if err != nil {
		t.Fatal(err)
	}
	release()
	if err := w.code.drop(t.Context(), digest); err != nil {
		t.Fatal(err)
	}
	w.restart()
	w.create("f")
	if !w.blobExists(digest) {
		t.Error("the archive has no blob")
	}
}

func TestArchivesAreShared(t *testing.T) {
	w := newWorld(t)
	w.run()
	w.created("f")
	w.created("g")
	if dirs := w.codeDirs(); len(dirs) != 1 {
		t.Errorf("one archive is unpacked %d times", len(dirs))
	}
}

// TestCollect follows the archives of a function through its life.
func TestCollect(t *testing.T) {
	var busy atomic.Bool
	w := newWorld(t, func(d *Deps) { d.CodeInUse = func(string) bool { return busy.Load() } })
	w.run()
	ctx := t.Context()
	collect := func() int {
		t.Helper()
		return must(w.code.collect(ctx))(t)
	}
	count := func(want int) {
		t.Helper()
		var archives []string
		if err := w.db.View(ctx, func(r kv.Reader) (err error) { archives, err = listArchives(r); return err }); err != nil {
			t.Fatal(err)
		}
		dirs := w.codeDirs()
		if len(dirs) != want || len(archives) != want {
			t.Errorf("%d directories and %d archives, want %d", len(dirs), len(archives), want)
		}
		for _, d := range dirs {
			if !w.blobExists(d) {
				t.Errorf("%s has no blob", d)
			}
		}
	}
	w.created("f", func(in *lambdaapi.CreateFunctionInput) { in.Publish = new(true) })
	w.settled("f:1")
	code := func(body string) {
		t.Helper()
		must(lambdaapi.UpdateFunctionCode.Call(ctx, w, &lambdaapi.UpdateFunctionCodeInput{FunctionName: new("f"), ZipFile: zipped(t, body)}))(t)
		w.settled("f")
	}
	code("2")
	collect()
	count(2) // version 1 needs the first
	code("3")
	collect()
	count(2)

	// Invoked: the directory stays while an environment may run from it.
	w.invoked(&lambdaapi.InvokeInput{FunctionName: new("f")})
	busy.Store(true)
	code("4")
	if left := collect(); left != 1 {
		t.Errorf("%d left", left)
	}
	count(3)
	busy.Store(false)
	if left := collect(); left != 0 {
		t.Errorf("%d left", left)
	}
	count(2)

	// A dry run, and a call that fails late, leave an archive that is collected.
	must(lambdaapi.UpdateFunctionCode.Call(ctx, w, &lambdaapi.UpdateFunctionCodeInput{FunctionName: new("f"), ZipFile: zipped(t, "dry"), DryRun: new(true)}))(t)
	count(3)
	collect()
	count(2)

	must(lambdaapi.DeleteFunction.Call(ctx, w, &lambdaapi.DeleteFunctionInput{FunctionName: new("f")}))(t)
	collect()
	count(0)
	if keys := w.keys(); len(keys) > 0 {
		t.Errorf("left behind: %q", keys)
	}
	// The same archive once more.
	w.created("f")
	w.invoked(&lambdaapi.InvokeInput{FunctionName: new("f")})
	count(1)
}

// TestCollectWithoutFleet keeps what was run from until the next start.
func TestCollectWithoutFleet(t *testing.T) {
	w := newWorld(t)
	w.run()
	w.created("run")
	w.invoked(&lambdaapi.InvokeInput{FunctionName: new("run")})
	w.created("never", func(in *lambdaapi.CreateFunctionInput) { in.Code.ZipFile = zipped(t, "never") })
	for _, n := range []string{"run", "never"} {
		must(lambdaapi.DeleteFunction.Call(t.Context(), w, &lambdaapi.DeleteFunctionInput{FunctionName: &n}))(t)
	}
	if left := must(w.code.collect(t.Context()))(t); left != 0 || len(w.codeDirs()) != 1 {
		t.Errorf("%d left, %q", left, w.codeDirs())
	}
	w.restart()
	must(w.code.collect(t.Context()))(t)
	if dirs, keys := w.codeDirs(), w.keys(); len(dirs) > 0 || len(keys) > 0 {
		t.Errorf("left behind: %q, %q", dirs, keys)
	}
}

// TestCollectRunsInRun lets Run do it, in its own time.
func TestCollectRunsInRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.run()
		defer w.stop()
		w.create("f")
		synctest.Wait()
		must(lambdaapi.DeleteFunction.Call(t.Context(), w, &lambdaapi.DeleteFunctionInput{FunctionName: new("f")}))(t)
		time.Sleep(3 * collectEvery)
		synctest.Wait()
		if dirs, keys := w.codeDirs(), w.keys(); len(dirs) > 0 || len(keys) > 0 {
			t.Errorf("left behind: %q, %q", dirs, keys)
		}
	})
}

// TestStaleRevisions lets many callers change a function who all believe in the same RevisionId: one wins.
func TestStaleRevisions(t *testing.T) {
	w := newWorld(t)
	w.run()
	revision := w.created("f").RevisionId
	for round := range 10 {
		var won atomic.Int32
		var wg sync.WaitGroup
		for i := range 8 {
			wg.Go(func() {
				_, err := lambdaapi.UpdateFunctionConfiguration.Call(t.Context(), w, &lambdaapi.UpdateFunctionConfigurationInput{
					FunctionName: new("f"), RevisionId: revision, Description: new(fmt.Sprint(round, i)),
				})
				switch code := apierr.Code(err); {
				case err == nil:
					won.Add(1)
				case code != "PreconditionFailedException" && code != "ResourceConflictException":
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if won.Load() != 1 {
			t.Fatalf("%d of 8 won", won.Load())
		}
		revision = w.settled("f").RevisionId
	}
}

// TestSameName lets many callers create, delete and use functions of one name.
func TestSameName(t *testing.T) {
	w := newWorld(t, func(d *Deps) { d.CodeInUse = func(string) bool { return false } })
	w.invoker.serve = func(fn *fleet.Function, _ *fleet.Request) (*fleet.Response, error) {
		// The code is there as long as the invocation lasts.
		for range 3 {
			if _, err := os.Stat(filepath.Join(fn.Code, "bootstrap")); err != nil {
				t.Error(err)
			}
		}
		return &fleet.Response{}, nil
	}
	w.run()
	allowed := []string{"", "ResourceConflictException", "ResourceNotFoundException"}
	check := func(err error) {
		if code := apierr.Code(err); err != nil && !slices.Contains(allowed[1:], code) {
			t.Error(err)
		}
	}
	zips := [][]byte{zipped(t, "a"), zipped(t, "b"), zipped(t, "c")}
	var wg sync.WaitGroup
	for i := range 6 {
		wg.Go(func() {
			for n := range 40 {
				name := new("f")
				switch (i + n) % 6 {
				case 0, 1:
					in := w.input("f")
					in.Code.ZipFile, in.Publish = zips[n%3], new(n%2 == 0)
					check(second(lambdaapi.CreateFunction.Call(t.Context(), w, in)))
				case 2:
					check(second(lambdaapi.DeleteFunction.Call(t.Context(), w, &lambdaapi.DeleteFunctionInput{FunctionName: name})))
				case 3:
					check(second(lambdaapi.UpdateFunctionCode.Call(t.Context(), w, &lambdaapi.UpdateFunctionCodeInput{FunctionName: name, ZipFile: zips[n%3]})))
				case 4:
					check(second(lambdaapi.CreateAlias.Call(t.Context(), w, &lambdaapi.CreateAliasInput{FunctionName: name, Name: new("a"), FunctionVersion: new("$LATEST")})))
				}
				check(second(lambdaapi.Invoke.Call(t.Context(), w, &lambdaapi.InvokeInput{FunctionName: name})))
				if n%5 == 0 {
					if _, err := w.code.collect(t.Context()); err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
	wg.Wait()
	if _, err := lambdaapi.DeleteFunction.Call(t.Context(), w, &lambdaapi.DeleteFunctionInput{FunctionName: new("f")}); err != nil && apierr.Code(err) != "ResourceNotFoundException" {
		t.Error(err)
	}
	w.stop()
	must(w.code.collect(t.Context()))(t)
	if dirs, keys := w.codeDirs(), w.keys(); len(dirs) > 0 || len(keys) > 0 {
		t.Errorf("left behind: %q, %q", dirs, keys)
	}
}

// TestManyTransitions has more at once than there are slots.
func TestManyTransitions(t *testing.T) {
	w := newWorld(t)
	var wg sync.WaitGroup
	for i := range 60 {
		wg.Go(func() { w.create(fmt.Sprint("f", i)) })
	}
	wg.Wait()
	w.run()
	for i := range 60 {
		if got := w.settled(fmt.Sprint("f", i)); *got.State != "Active" {
			t.Error(got)
		}
	}
}
