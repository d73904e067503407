package server

import (
	"archive/zip"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	iamtypes "github.com/aws/aws-sdk-go-v2/service/iam/types"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"
	"github.com/aws/smithy-go"

	"github.com/mayflyhq/mayfly/internal/kv"
	"github.com/mayflyhq/mayfly/internal/sandbox/linux"
)

// The test binary is also what sandboxes start from.
func TestMain(m *testing.M) {
	linux.MaybeInit()
	if os.Getenv("MAYFLY_BENCH_BACKEND") != "" {
		benchBackend()
		return
	}
	os.Exit(m.Run())
}

// instance is a server that runs.
type instance struct {
	*Server
	t    testing.TB
	stop func() error
}

func start(t testing.TB, config Config) *instance {
	t.Helper()
	config.Listen = "127.0.0.1:0"
	if config.DataDir == "" {
		config.Ephemeral = true
	}
	if config.Log == nil {
		config.Log = slog.New(slog.DiscardHandler)
	}
	s, err := New(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ready, ended := make(chan struct{}), make(chan error, 1)
	go func() { ended <- s.Run(ctx, func() { close(ready) }) }()
	i := &instance{Server: s, t: t}
	stopped := false
	i.stop = func() error {
		if stopped {
			return nil
		}
		stopped = true
		cancel()
		return <-ended
	}
	t.Cleanup(func() {
		if err := i.stop(); err != nil {
			t.Error("stop:", err)
		}
	})
	select {
	case <-ready:
	case err := <-ended:
		t.Fatal(err)
	}
	return i
}

func (i *instance) sdk() aws.Config {
	root := i.Root()
	return aws.Config{
		Region:           root.Region,
		BaseEndpoint:     aws.String("http://" + i.Addr().String()),
		Credentials:      credentials.NewStaticCredentialsProvider(root.AccessKeyID, root.SecretAccessKey, ""),
		RetryMaxAttempts: 1,
	}
}

func (i *instance) lambda() *lambda.Client { return lambda.NewFromConfig(i.sdk()) }

// create makes a function of an archive and waits until it can be invoked.
func (i *instance) create(name string, in lambda.CreateFunctionInput) {
	i.t.Helper()
	in.FunctionName = &name
	if in.Runtime == "" {
		in.Runtime, in.Handler = types.RuntimeProvidedal2023, aws.String("bootstrap")
	}
	in.Role = i.role()
	if _, err := i.lambda().CreateFunction(i.t.Context(), &in); err != nil {
		i.t.Fatal(err)
	}
	i.await(name)
}

// role makes the role of the tests' functions, which may do everything, unless it is there already.
func (i *instance) role() *string {
	i.t.Helper()
	c, name := iam.NewFromConfig(i.sdk()), aws.String("test")
	_, err := c.CreateRole(i.t.Context(), &iam.CreateRoleInput{RoleName: name, AssumeRolePolicyDocument: aws.String(
		`{"Version":"2012-10-17","Statement":{"Effect":"Allow","Principal":{"Service":"lambda.amazonaws.com"},"Action":"sts:AssumeRole"}}`)})
	if exists, ok := errors.AsType[*iamtypes.EntityAlreadyExistsException](err); err != nil && (!ok || exists == nil) {
		i.t.Fatal(err)
	}
	if _, err := c.PutRolePolicy(i.t.Context(), &iam.PutRolePolicyInput{RoleName: name, PolicyName: aws.String("everything"), PolicyDocument: aws.String(
		`{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"*","Resource":"*"}}`)}); err != nil {
		i.t.Fatal(err)
	}
	return aws.String("arn:aws:iam::000000000000:role/test")
}

func (i *instance) invoke(name, payload string) (*lambda.InvokeOutput, error) {
	return i.lambda().Invoke(i.t.Context(), &lambda.InvokeInput{FunctionName: &name, Payload: []byte(payload)})
}

// archive zips files given by name and content; those named bootstrap are executable.
func archive(t testing.TB, files map[string][]byte) *types.FunctionCode {
	t.Helper()
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	for name, content := range files {
		h := &zip.FileHeader{Name: name, Method: zip.Deflate}
		mode := fs.FileMode(0o644)
		if name == "bootstrap" {
			mode = 0o755
		}
		h.SetMode(mode)
		w, err := z.CreateHeader(h)
		if err != nil {
			t.Fatal(err)
		}
		w.Write(content)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return &types.FunctionCode{ZipFile: b.Bytes()}
}

// buildBootstrap compiles testdata/bootstrap once. It answers every event with itself, after the milliseconds that an event
// of the form {"sleep":N} asks for.
var buildBootstrap = sync.OnceValues(func() ([]byte, error) {
	dir, err := os.MkdirTemp("", "bootstrap-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	build := exec.Command("go", "build", "-o", filepath.Join(dir, "bootstrap"), "./testdata/bootstrap")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("go build: %w\n%s", err, out)
	}
	return os.ReadFile(filepath.Join(dir, "bootstrap"))
})

// echoCode is an archive with the program of testdata/bootstrap.
func echoCode(t testing.TB) *types.FunctionCode {
	t.Helper()
	program, err := buildBootstrap()
	if err != nil {
		t.Fatal(err)
	}
	return archive(t, map[string][]byte{"bootstrap": program})
}

func TestFunctionSurvivesRestart(t *testing.T) {
	dir := t.TempDir()
	if err := os.Chmod(filepath.Dir(dir), 0o755); err != nil {
		t.Fatal(err)
	}
	i := start(t, Config{DataDir: dir})
	root := *i.Root()
	i.create("f", lambda.CreateFunctionInput{Code: echoCode(t)})
	if out, err := i.invoke("f", `{"a":1}`); err != nil || string(out.Payload) != `{"a":1}` || out.FunctionError != nil {
		t.Fatalf("answer %+v, %v", out, err)
	}
	if _, err := New(t.Context(), Config{DataDir: dir, Listen: "127.0.0.1:0"}); !errors.Is(err, kv.ErrLocked) {
		t.Errorf("a second server on the same data: %v", err)
	}
	if err := i.stop(); err != nil {
		t.Fatal(err)
	}

	i = start(t, Config{DataDir: dir})
	if again := i.Root(); again.AccessKeyID != root.AccessKeyID || again.SecretAccessKey != root.SecretAccessKey {
		t.Error("the root credentials changed at the restart")
	}
	if out, err := i.invoke("f", `{"b":2}`); err != nil || string(out.Payload) != `{"b":2}` {
		t.Fatalf("after the restart: %+v, %v", out, err)
	}
	// What the first server logged at its end is there.
	logs, err := cloudwatchlogs.NewFromConfig(i.sdk()).FilterLogEvents(t.Context(), &cloudwatchlogs.FilterLogEventsInput{LogGroupName: aws.String("/aws/lambda/f")})
	if err != nil {
		t.Fatal(err)
	}
	reports := 0
	for _, e := range logs.Events {
		if strings.HasPrefix(*e.Message, "REPORT") {
			reports++
		}
	}
	if reports < 1 {
		t.Errorf("no report of the first invocation among %d events", len(logs.Events))
	}
}

// Unpacked code is read-only. An ephemeral server of any user removes it all the same.
func TestRemoveAll(t *testing.T) {
	if os.Geteuid() == 0 { // root is never refused: be somebody else
		cmd := exec.Command(os.Args[0], "-test.run", "^TestRemoveAll$", "-test.v")
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
		cmd.Dir = "/"
		cmd.Env = []string{"TMPDIR=/tmp"}
		for _, dir := range []string{filepath.Dir(os.Args[0]), filepath.Dir(filepath.Dir(os.Args[0]))} {
			info, err := os.Stat(dir)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.Chmod(dir, info.Mode()|0o055); err != nil { // whatever else it is
				t.Fatal(err)
			}
		}
		out, err := cmd.CombinedOutput()
		if errors.Is(err, fs.ErrPermission) {
			t.Skipf("%s lies where no other user can run it", os.Args[0])
		}
		if err != nil || !bytes.Contains(out, []byte("--- PASS: TestRemoveAll")) {
			t.Fatalf("as another user: %v\n%s", err, out)
		}
		return
	}
	dir, err := os.MkdirTemp("", "remove-")
	if err != nil {
		t.Fatal(err)
	}
	code := filepath.Join(dir, "code", "digest")
	if err := os.MkdirAll(code, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(code, "app.py"), nil, 0o444); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(code, 0o555); err != nil {
		t.Fatal(err)
	}
	if err := removeAll(dir); err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%s is still there: %v", dir, err)
	}
}

func TestGracefulStop(t *testing.T) {
	i := start(t, Config{})
	i.create("slow", lambda.CreateFunctionInput{Code: echoCode(t), Timeout: aws.Int32(30)})
	type result struct {
		out *lambda.InvokeOutput
		err error
	}
	done := make(chan result, 1)
	go func() {
		out, err := i.invoke("slow", `{"sleep":700}`)
		done <- result{out, err}
	}()
	for i.core.Load().fleet.Stats().Busy == 0 {
		time.Sleep(time.Millisecond)
	}
	if err := i.stop(); err != nil {
		t.Fatal(err)
	}
	if r := <-done; r.err != nil || string(r.out.Payload) != `{"sleep":700}` {
		t.Errorf("the invocation under way gave %+v, %v", r.out, r.err)
	}
	if _, err := http.Get("http://" + i.Addr().String() + "/_mayfly/health"); err == nil {
		t.Error("the stopped server answers")
	}
}

func TestDownload(t *testing.T) {
	i := start(t, Config{})
	code := archive(t, map[string][]byte{"bootstrap": []byte("#!/bin/sh\n")})
	i.create("f", lambda.CreateFunctionInput{Code: code})
	fn, err := i.lambda().GetFunction(t.Context(), &lambda.GetFunctionInput{FunctionName: aws.String("f")})
	if err != nil {
		t.Fatal(err)
	}
	get := func(url string) (int, []byte) {
		res, err := http.Get(url)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		b, err := io.ReadAll(res.Body)
		if err != nil {
			t.Fatal(err)
		}
		return res.StatusCode, b
	}
	if status, b := get(*fn.Code.Location); status != http.StatusOK || !bytes.Equal(b, code.ZipFile) {
		t.Errorf("the archive's URL answers %d with %d bytes, want %d", status, len(b), len(code.ZipFile))
	}
	forged := strings.Replace(*fn.Code.Location, "X-Amz-Signature=", "X-Amz-Signature=0", 1)
	if status, _ := get(forged); status != http.StatusForbidden {
		t.Errorf("a forged URL answers %d", status)
	}
}

func TestReset(t *testing.T) {
	i := start(t, Config{Dev: true})
	reset := func() int {
		res, err := http.Post("http://"+i.Addr().String()+"/_mayfly/reset", "", nil)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		return res.StatusCode
	}
	for round := range 3 {
		i.create("f", lambda.CreateFunctionInput{Code: echoCode(t)})
		if out, err := i.invoke("f", `1`); err != nil || string(out.Payload) != `1` {
			t.Fatalf("round %d: %v %v", round, out, err)
		}
		if status := reset(); status != http.StatusOK {
			t.Fatalf("reset answers %d", status)
		}
		_, err := i.invoke("f", `1`)
		if e, ok := errors.AsType[smithy.APIError](err); !ok || e.ErrorCode() != "ResourceNotFoundException" {
			t.Fatalf("after the reset the function answers %v", err)
		}
	}
	kept := start(t, Config{DataDir: t.TempDir(), Dev: true})
	res, err := http.Post("http://"+kept.Addr().String()+"/_mayfly/reset", "", nil)
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if res.StatusCode != http.StatusNotFound {
		t.Errorf("a server that keeps its data answers a reset with %d", res.StatusCode)
	}
}

// A function's own calls reach Mayfly inside the sandbox and are signed with its role's credentials.
func TestFunctionCallsBack(t *testing.T) {
	if _, err := exec.LookPath("python3"); err != nil {
		t.Skip("python3 is not installed")
	}
	i := start(t, Config{})
	i.create("caller", lambda.CreateFunctionInput{
		Runtime: types.RuntimePython311, Handler: aws.String("app.handler"), Timeout: aws.Int32(20),
		Code: archive(t, map[string][]byte{"app.py": []byte(callerSource)}),
	})
	out, err := i.invoke("caller", `{}`)
	if err != nil {
		t.Fatal(err)
	}
	var identity struct {
		GetCallerIdentityResponse struct {
			GetCallerIdentityResult struct{ Arn string }
		}
	}
	if err := json.Unmarshal(out.Payload, &identity); err != nil {
		t.Fatalf("%v: %s", err, out.Payload)
	}
	if got := identity.GetCallerIdentityResponse.GetCallerIdentityResult.Arn; got != "arn:aws:sts::000000000000:assumed-role/test/caller" {
		t.Errorf("the function is %q: %s", got, out.Payload)
	}
}

// callerSource signs a request as any AWS client does, with nothing but the standard library.
const callerSource = `
import datetime, hashlib, hmac, os, re, json, urllib.request

def handler(event, context):
    url = os.environ["AWS_ENDPOINT_URL"] + "/"
    host = url.split("/")[2]
    body = "Action=GetCallerIdentity&Version=2011-06-15"
    now = datetime.datetime.now(datetime.timezone.utc)
    stamp, day = now.strftime("%Y%m%dT%H%M%SZ"), now.strftime("%Y%m%d")
    token, region = os.environ["AWS_SESSION_TOKEN"], os.environ["AWS_REGION"]
    names = "content-type;host;x-amz-date;x-amz-security-token"
    canonical = "\n".join(["POST", "/", "", "content-type:application/x-www-form-urlencoded", "host:" + host, "x-amz-date:" + stamp,
        "x-amz-security-token:" + token, "", names, hashlib.sha256(body.encode()).hexdigest()])
    scope = day + "/" + region + "/sts/aws4_request"
    text = "\n".join(["AWS4-HMAC-SHA256", stamp, scope, hashlib.sha256(canonical.encode()).hexdigest()])
    key = ("AWS4" + os.environ["AWS_SECRET_ACCESS_KEY"]).encode()
    for part in (day, region, "sts", "aws4_request"):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    signature = hmac.new(key, text.encode(), hashlib.sha256).hexdigest()
    request = urllib.request.Request(url, body.encode(), {
        "Content-Type": "application/x-www-form-urlencoded", "X-Amz-Date": stamp, "X-Amz-Security-Token": token,
        "Authorization": "AWS4-HMAC-SHA256 Credential=%s/%s, SignedHeaders=%s, Signature=%s" % (os.environ["AWS_ACCESS_KEY_ID"], scope, names, signature),
    })
    arn = re.search("<Arn>(.*)</Arn>", urllib.request.urlopen(request).read().decode()).group(1)
    return {"GetCallerIdentityResponse": {"GetCallerIdentityResult": {"Arn": arn}}}
`
