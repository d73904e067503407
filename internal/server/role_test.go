package server

import (
	"bytes"
	"errors"
	"log/slog"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"
	"github.com/aws/smithy-go"

	"github.com/mayflyhq/mayfly/internal/fleet"
)

const cannotAssume = "The role defined for the function cannot be assumed by Lambda."

// wantCode holds an error to its code and the beginning of its message.
func wantCode(t *testing.T, err error, code, message string) {
	t.Helper()
	e, ok := errors.AsType[smithy.APIError](err)
	if !ok || e.ErrorCode() != code || !strings.HasPrefix(e.ErrorMessage(), message) {
		t.Errorf("error %v, want %s: %s", err, code, message)
	}
}

func (i *instance) putRole(name, trust string) *string {
	i.t.Helper()
	c := iam.NewFromConfig(i.sdk())
	out, err := c.CreateRole(i.t.Context(), &iam.CreateRoleInput{RoleName: &name, Path: aws.String("/a/b/"), AssumeRolePolicyDocument: &trust})
	if err != nil {
		i.t.Fatal(err)
	}
	return out.Role.Arn
}

const trustLambda = `{"Version":"2012-10-17","Statement":{"Effect":"Allow","Principal":{"Service":"lambda.amazonaws.com"},"Action":"sts:AssumeRole"}}`

func TestRoleOfFunction(t *testing.T) {
	i := start(t, Config{})
	c := i.lambda()
	create := func(name string, role *string) error {
		_, err := c.CreateFunction(t.Context(), &lambda.CreateFunctionInput{
			FunctionName: &name, Role: role, Runtime: types.RuntimeProvidedal2023, Handler: aws.String("bootstrap"), Code: echoCode(t)})
		return err
	}
	good := i.putRole("good", trustLambda)
	for name, role := range map[string]*string{
		"missing":    aws.String("arn:aws:iam::000000000000:role/missing"),
		"other-path": aws.String("arn:aws:iam::000000000000:role/good"),
		"other":      i.putRole("other", strings.Replace(trustLambda, "lambda", "ec2", 1)),
		"elsewhere": i.putRole("elsewhere", strings.Replace(trustLambda, `"sts:AssumeRole"`,
			`"sts:AssumeRole","Condition":{"StringNotEquals":{"aws:SourceAccount":"000000000000"}}`, 1)),
	} {
		wantCode(t, create(name, role), "InvalidParameterValueException", cannotAssume)
	}
	if err := create("this", i.putRole("this", strings.Replace(trustLambda, `"sts:AssumeRole"`,
		`"sts:AssumeRole","Condition":{"ArnLike":{"aws:SourceArn":"arn:aws:lambda:*:000000000000:function:this"}}`, 1))); err != nil {
		t.Error("a role for this function only:", err)
	}
	wantCode(t, create("foreign", aws.String("arn:aws:iam::123456789012:role/good")), "AccessDeniedException", "Cross-account pass role is not allowed.")

	if err := create("f", good); err != nil {
		t.Fatal(err)
	}
	i.await("f")
	update := func(name, role string) error {
		_, err := c.UpdateFunctionConfiguration(t.Context(), &lambda.UpdateFunctionConfigurationInput{FunctionName: &name, Role: &role})
		return err
	}
	wantCode(t, update("f", "arn:aws:iam::000000000000:role/missing"), "InvalidParameterValueException", cannotAssume)
	wantCode(t, update("f", "arn:aws:iam::123456789012:role/good"), "AccessDeniedException", "Cross-account pass role is not allowed.")
	wantCode(t, update("nope", "arn:aws:iam::000000000000:role/missing"), "ResourceNotFoundException", "Function not found: ")

	// A role that is gone, or no longer to be had, is noticed when the next environment starts.
	if _, err := iam.NewFromConfig(i.sdk()).DeleteRole(t.Context(), &iam.DeleteRoleInput{RoleName: aws.String("good")}); err != nil {
		t.Fatal(err)
	}
	_, err := i.invoke("f", `1`)
	wantCode(t, err, "AccessDeniedException", cannotAssume)
	i.putRole("good", trustLambda)
	if out, err := i.invoke("f", `1`); err != nil || string(out.Payload) != "1" {
		t.Errorf("with a role of that name again: %v %v", out, err)
	}
}

// No environment outlives its credentials: one that is as old as one can be may be idle once more, be taken at the last moment, start its processes anew and
// run as long as a function may.
func TestCredentialsOutliveEnvironments(t *testing.T) {
	l := fleet.DefaultLimits(1)
	const longest = 15 * time.Minute
	if most := l.Age + l.Idle + l.Linger + l.Init + longest + l.Init; most >= sessionDuration {
		t.Errorf("an environment may live for %v, its credentials hold for %v", most, sessionDuration)
	}
}

// In development a role need not exist.
func TestRoleInDevelopment(t *testing.T) {
	if _, err := exec.LookPath("python3"); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("python3 is not installed")
		}
		t.Skip("python3 is not installed")
	}
	var log logBuffer
	i := start(t, Config{Dev: true, Log: slog.New(slog.NewTextHandler(&log, nil))})
	name := aws.String("f")
	if _, err := i.lambda().CreateFunction(t.Context(), &lambda.CreateFunctionInput{
		FunctionName: name, Role: aws.String("arn:aws:iam::000000000000:role/nobody"), Runtime: types.RuntimePython311, Handler: aws.String("app.handler"),
		Timeout: aws.Int32(20), Code: archive(t, map[string][]byte{"app.py": []byte(callerSource)})}); err != nil {
		t.Fatal(err)
	}
	i.await(*name)
	out, err := i.invoke(*name, `{}`)
	if err != nil || !strings.Contains(string(out.Payload), "assumed-role/nobody/f") {
		t.Errorf("%v %s", err, out.Payload)
	}
	if n := strings.Count(log.String(), "role does not exist"); n != 1 {
		t.Errorf("%d warnings:\n%s", n, log.String())
	}
	// One that exists is held to its trust policy.
	bad := i.putRole("bad", strings.Replace(trustLambda, "lambda", "ec2", 1))
	_, err = i.lambda().UpdateFunctionConfiguration(t.Context(), &lambda.UpdateFunctionConfigurationInput{FunctionName: name, Role: bad})
	wantCode(t, err, "InvalidParameterValueException", cannotAssume)
}

// logBuffer is a log that may be read while it is written.
type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func (i *instance) await(name string) {
	i.t.Helper()
	w := lambda.NewFunctionActiveV2Waiter(i.lambda(), func(o *lambda.FunctionActiveV2WaiterOptions) {
		o.MinDelay, o.MaxDelay = 5*time.Millisecond, 20*time.Millisecond
	})
	if err := w.Wait(i.t.Context(), &lambda.GetFunctionInput{FunctionName: &name}, time.Minute); err != nil {
		i.t.Fatal(err)
	}
}
