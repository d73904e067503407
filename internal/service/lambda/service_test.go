package lambda

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mayflyhq/mayfly/internal/aws/api/lambdaapi"
	"github.com/mayflyhq/mayfly/internal/aws/apierr"
	"github.com/mayflyhq/mayfly/internal/aws/smithy"
	"github.com/mayflyhq/mayfly/internal/blob"
	"github.com/mayflyhq/mayfly/internal/call"
	"github.com/mayflyhq/mayfly/internal/fleet"
	"github.com/mayflyhq/mayfly/internal/kv"
	"github.com/mayflyhq/mayfly/internal/kv/pebblekv"
)

const (
	testAccount = "111122223333"
	testRegion  = "eu-central-1"
	testARN     = "arn:aws:lambda:eu-central-1:111122223333:function:"
	testRole    = "arn:aws:iam::111122223333:role/service-role/runs"
)

// world is a service with its surroundings. Restart gives it a new service on the same store and directories.
type world struct {
	*Service
	t    testing.TB
	dir  string
	db   kv.DB
	deps Deps
	mux  *smithy.Mux
	stop func()

	invoker  *fakeInvoker
	capacity *fakeCapacity
	runtimes *fakeRuntimes
}

func newWorld(t testing.TB, change ...func(*Deps)) *world {
	t.Helper()
	w := &world{t: t, dir: t.TempDir(), invoker: &fakeInvoker{}, capacity: newCapacity(), runtimes: &fakeRuntimes{}, stop: func() {}}
	db, err := pebblekv.Open(pebblekv.Options{InMemory: true})
	if err != nil {
		t.Fatal(err)
	}
	blobs, err := blob.Open(filepath.Join(w.dir, "blobs"))
	if err != nil {
		t.Fatal(err)
	}
	w.db = db
	w.deps = Deps{
		DB: db, Blobs: blobs, CodeDir: filepath.Join(w.dir, "code"), Invoker: w.invoker, Capacity: w.capacity, Runtimes: w.runtimes, Downloads: fakeDownloads{},
	}
	for _, c := range change {
		c(&w.deps)
	}
	t.Cleanup(func() {
		w.stop()
		if err := db.Close(); err != nil {
			t.Error(err)
		}
		ds, err := os.ReadDir(w.deps.CodeDir)
		if err != nil {
			t.Error(err)
		}
		for _, d := range ds {
			if d.IsDir() {
				if err := removeTree(filepath.Join(w.deps.CodeDir, d.Name())); err != nil {
					t.Error(err)
				}
			}
		}
	})
	w.restart()
	return w
}

// restart makes the service anew, as after a crash. It does not run.
func (w *world) restart() {
	w.t.Helper()
	w.stop()
	s, err := New(w.deps)
	if err != nil {
		w.t.Fatal(err)
	}
	w.Service, w.mux = s, smithy.NewMux()
	s.Register(w.mux)
	w.stop = func() {}
}

// run starts Run.
func (w *world) run() {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- w.Run(ctx) }()
	w.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			w.t.Error("Run:", err)
		}
	})
}

// Call is what the gate does, without authentication.
func (w *world) Call(ctx context.Context, op *smithy.OpInfo, in, out any) error {
	if call.From(ctx).Account == "" {
		ctx = as(ctx, testAccount, testRegion)
	}
	if err := w.mux.Validate(op, in); err != nil {
		return err
	}
	return w.mux.Call(ctx, op, in, out)
}

func as(ctx context.Context, account, region string) context.Context {
	return call.With(ctx, &call.Info{
		Account: account, Region: region, RequestID: call.NewRequestID(), Host: "localhost:4566",
		Principal: call.Principal{Type: call.Root, ARN: "arn:aws:iam::" + account + ":root"},
	})
}

type fakeInvoker struct {
	mu      sync.Mutex
	serve   func(*fleet.Function, *fleet.Request) (*fleet.Response, error)
	last    *fleet.Function
	request *fleet.Request
	retired []string
}

func (f *fakeInvoker) Invoke(_ context.Context, fn *fleet.Function, req *fleet.Request) (*fleet.Response, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.last, f.request = fn, req
	if f.serve != nil {
		return f.serve(fn, req)
	}
	return &fleet.Response{Payload: req.Payload}, nil
}

func (f *fakeInvoker) Retire(arn string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.retired = append(f.retired, arn)
}

type fakeRuntimes struct {
	mu    sync.Mutex
	check func(ctx context.Context, runtime, arch string) (string, error)
}

func (*fakeRuntimes) Creatable() []string {
	return []string{"nodejs22.x", "python3.13", "provided.al2023"}
}

func (f *fakeRuntimes) Check(ctx context.Context, runtime, arch string) (string, error) {
	f.mu.Lock()
	check := f.check
	f.mu.Unlock()
	if check != nil {
		return check(ctx, runtime, arch)
	}
	return strings.Repeat("ab", 32), nil
}

func (f *fakeRuntimes) set(check func(ctx context.Context, runtime, arch string) (string, error)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.check = check
}

type fakeDownloads struct{}

func (fakeDownloads) URL(ctx context.Context, d blob.Digest, valid time.Duration) (string, error) {
	return "http://" + call.From(ctx).Host + "/code/" + d.String() + "?valid=" + valid.String(), nil
}

// zipped is an archive whose only file is the given one.
func zipped(t testing.TB, body string) []byte {
	return makeZip(t, file{name: "bootstrap", body: body, mode: 0o755})
}

func (w *world) input(name string) *lambdaapi.CreateFunctionInput {
	return &lambdaapi.CreateFunctionInput{
		FunctionName: &name, Role: new(testRole), Runtime: new("provided.al2023"), Handler: new("bootstrap"),
		Code: &lambdaapi.FunctionCode{ZipFile: zipped(w.t, "#!/bin/sh\n")},
	}
}

func (w *world) create(name string, change ...func(*lambdaapi.CreateFunctionInput)) *lambdaapi.FunctionConfiguration {
	w.t.Helper()
	in := w.input(name)
	for _, c := range change {
		c(in)
	}
	return must(lambdaapi.CreateFunction.Call(w.t.Context(), w, in))(w.t)
}

// created creates a function and waits until it is Active. Run must be running.
func (w *world) created(name string, change ...func(*lambdaapi.CreateFunctionInput)) *lambdaapi.FunctionConfiguration {
	w.t.Helper()
	w.create(name, change...)
	return w.settled(name)
}

// settled waits until a function is in no transition.
func (w *world) settled(name string) *lambdaapi.FunctionConfiguration {
	w.t.Helper()
	deadline := time.Now().Add(2 * time.Minute)
	for {
		c := w.configuration(name)
		if deref(c.State) != "Pending" && deref(c.LastUpdateStatus) != "InProgress" {
			return c
		}
		if time.Now().After(deadline) {
			w.t.Fatalf("%s is still %s, %s", name, deref(c.State), deref(c.LastUpdateStatus))
		}
		time.Sleep(time.Millisecond)
	}
}

func (w *world) configuration(name string) *lambdaapi.FunctionConfiguration {
	w.t.Helper()
	return must(lambdaapi.GetFunctionConfiguration.Call(w.t.Context(), w, &lambdaapi.GetFunctionConfigurationInput{FunctionName: &name}))(w.t)
}

func (w *world) invoked(in *lambdaapi.InvokeInput) *lambdaapi.InvokeOutput {
	w.t.Helper()
	return must(lambdaapi.Invoke.Call(w.t.Context(), w, in))(w.t)
}

func must[T any](v T, err error) func(testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// wantError checks code, status and text of an API error; text may be the beginning of it.
func wantError(t testing.TB, err error, code string, status int, text string) {
	t.Helper()
	e, ok := errors.AsType[*apierr.Error](err)
	if !ok {
		t.Errorf("err = %v, want %s: %s", err, code, text)
		return
	}
	if e.Code != code || e.HTTPStatus() != status || !strings.HasPrefix(e.Message, text) {
		t.Errorf("error\n%s %d: %s\nwant\n%s %d: %s", e.Code, e.HTTPStatus(), e.Message, code, status, text)
	}
}

// wantType checks the member Type of Lambda's errors: User, or none for those of validation.
func wantType(t testing.TB, err error, want any) {
	t.Helper()
	if e, ok := errors.AsType[*apierr.Error](err); !ok || e.Members["Type"] != want {
		t.Errorf("Type of %v is not %v", err, want)
	}
}

// keys lists what the store holds, as people read it, guards left out.
func (w *world) keys() []string {
	w.t.Helper()
	var all []string
	err := w.db.View(w.t.Context(), func(r kv.Reader) error {
		for e, err := range r.Scan(kv.Range{}) {
			if err != nil {
				return err
			}
			if k := kv.Format(e.Key); !strings.HasPrefix(k, "guard:") {
				all = append(all, k)
			}
		}
		return nil
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return all
}

// codeDirs lists the unpacked archives and whatever else is in the code directory.
func (w *world) codeDirs() []string {
	w.t.Helper()
	ds, err := os.ReadDir(w.deps.CodeDir)
	if err != nil {
		w.t.Fatal(err)
	}
	var all []string
	for _, d := range ds {
		if d.IsDir() {
			all = append(all, d.Name())
		}
	}
	return all
}

func (w *world) blobExists(digest string) bool {
	w.t.Helper()
	r, err := w.deps.Blobs.Open(w.t.Context(), must(blob.ParseDigest(digest))(w.t))
	if errors.Is(err, fs.ErrNotExist) {
		return false
	}
	if err != nil {
		w.t.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, r); err != nil {
		w.t.Fatal(err)
	}
	r.Close()
	return true
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

func asAPIError(err error) (*apierr.Error, bool) { return errors.AsType[*apierr.Error](err) }
