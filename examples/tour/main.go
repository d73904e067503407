// Command tour shows Mayfly at work: it starts a server, creates three functions through the AWS SDK, invokes them, prints
// their logs, has a fourth read a stream with a poison record, prints the bill, and leaves the server running until Ctrl-C.
package main

import (
	"archive/zip"
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	iamtypes "github.com/aws/aws-sdk-go-v2/service/iam/types"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"
)

// example is one of the functions beside this program.
type example struct{ name, dir, runtime, handler string }

var examples = []example{
	{"hello-go", "examples/hello-go", "provided.al2023", "bootstrap"},
	{"hello-node", "examples/hello-node", "nodejs22.x", "index.handler"},
	{"hello-python", "examples/hello-python", "python3.13", "app.handler"},
}

func main() {
	mayfly := flag.String("mayfly", "bin/mayfly", "the program to show")
	once := flag.Bool("once", false, "stop the server after the tour")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *mayfly, flag.Args(), *once); err != nil {
		fmt.Fprintln(os.Stderr, "tour:", err)
		os.Exit(1)
	}
}

// run starts the server with further arguments of its own and shows it.
func run(ctx context.Context, mayfly string, args []string, once bool) error {
	server := exec.Command(mayfly, append([]string{"serve"}, args...)...)
	server.Stdout, server.Stderr = os.Stdout, os.Stderr
	server.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // Ctrl-C reaches it through us, in good order
	if err := server.Start(); err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() { ended <- server.Wait() }()
	tour := make(chan error, 1)
	go func() { tour <- show(ctx, mayfly, args) }()

	var err error
	select {
	case err = <-ended:
		return fmt.Errorf("the server ended: %w", errors.Join(err, errors.New("is another one running?")))
	case err = <-tour:
		if err == nil && !once {
			fmt.Printf("\nMayfly goes on serving. In another terminal:\n\n  eval \"$(%s)\"\n  aws lambda list-functions\n\nCtrl-C stops it.\n",
				strings.Join(append([]string{mayfly, "env"}, dataArgs(args)...), " "))
			select {
			case <-ctx.Done():
			case e := <-ended:
				return e
			}
		}
	case <-ctx.Done():
	}
	server.Process.Signal(os.Interrupt)
	return errors.Join(err, <-ended)
}

// dataArgs are the arguments that say where the data is.
func dataArgs(args []string) []string {
	for i, a := range args {
		if a == "--data" && i+1 < len(args) {
			return args[i : i+2]
		}
	}
	return nil
}

func show(ctx context.Context, mayfly string, args []string) error {
	cfg, err := connect(ctx, mayfly, args)
	if err != nil {
		return err
	}
	client, logs := lambda.NewFromConfig(cfg), cloudwatchlogs.NewFromConfig(cfg)
	if err := createRole(ctx, iam.NewFromConfig(cfg)); err != nil {
		return err
	}
	for _, e := range examples {
		fmt.Printf("\n== %s (%s)\n", e.name, e.runtime)
		archive, err := pack(ctx, e)
		if err != nil {
			return err
		}
		if err := create(ctx, client, e, archive); err != nil {
			if strings.Contains(err.Error(), "install") { // the language is not on this machine
				fmt.Println("left out:", err)
				continue
			}
			return err
		}
		for i := range 2 {
			began := time.Now()
			out, err := client.Invoke(ctx, &lambda.InvokeInput{
				FunctionName: &e.name, Payload: fmt.Appendf(nil, `{"name":"Mayfly","n":%d}`, i), LogType: types.LogTypeTail,
			})
			if err != nil {
				return err
			}
			fmt.Printf("answer in %v: %s\n", time.Since(began).Round(100*time.Microsecond), out.Payload)
			tail, _ := base64.StdEncoding.DecodeString(aws.ToString(out.LogResult))
			for line := range strings.Lines(string(tail)) {
				if strings.HasPrefix(line, "REPORT") || out.FunctionError != nil {
					fmt.Print("  ", line)
				}
			}
			if out.FunctionError != nil {
				return fmt.Errorf("%s failed", e.name)
			}
		}
		if err := printLog(ctx, logs, "/aws/lambda/"+e.name); err != nil {
			return err
		}
	}
	if err := showStream(ctx, cfg, mayfly, args); err != nil {
		return err
	}
	fmt.Println("\n== the bill")
	usage := exec.CommandContext(ctx, mayfly, append([]string{"usage"}, dataArgs(args)...)...)
	usage.Stdout, usage.Stderr = os.Stdout, os.Stderr
	return usage.Run()
}

// connect waits for the server and configures the SDK as "mayfly env" says.
func connect(ctx context.Context, mayfly string, args []string) (aws.Config, error) {
	var env map[string]string
	for {
		out, err := exec.CommandContext(ctx, mayfly, append([]string{"env", "--json"}, dataArgs(args)...)...).Output()
		if err == nil {
			if err := json.Unmarshal(out, &env); err != nil {
				return aws.Config{}, err
			}
			if r, err := http.Get(env["AWS_ENDPOINT_URL"] + "/_mayfly/health"); err == nil {
				r.Body.Close()
				if r.StatusCode == http.StatusOK {
					break
				}
			}
		}
		select {
		case <-ctx.Done():
			return aws.Config{}, ctx.Err()
		case <-time.After(20 * time.Millisecond):
		}
	}
	cfg, err := config.LoadDefaultConfig(ctx,
		config.WithRegion(env["AWS_REGION"]),
		config.WithBaseEndpoint(env["AWS_ENDPOINT_URL"]),
		config.WithCredentialsProvider(credentials.NewStaticCredentialsProvider(env["AWS_ACCESS_KEY_ID"], env["AWS_SECRET_ACCESS_KEY"], "")),
	)
	return cfg, err
}

// createRole makes the functions' role, unless a tour before made it. They may do what every function needs: write their log.
func createRole(ctx context.Context, client *iam.Client) error {
	name := aws.String("tour")
	_, err := client.CreateRole(ctx, &iam.CreateRoleInput{RoleName: name, AssumeRolePolicyDocument: aws.String(
		`{"Version":"2012-10-17","Statement":{"Effect":"Allow","Principal":{"Service":"lambda.amazonaws.com"},"Action":"sts:AssumeRole"}}`)})
	if exists, ok := errors.AsType[*iamtypes.EntityAlreadyExistsException](err); err != nil && (!ok || exists == nil) {
		return err
	}
	_, err = client.AttachRolePolicy(ctx, &iam.AttachRolePolicyInput{
		RoleName: name, PolicyArn: aws.String("arn:aws:iam::aws:policy/service-role/AWSLambdaBasicExecutionRole"),
	})
	return err
}

// create makes the function, or gives it the new code if a tour before made it.
func create(ctx context.Context, client *lambda.Client, e example, archive []byte) error {
	_, err := client.CreateFunction(ctx, &lambda.CreateFunctionInput{
		FunctionName: &e.name,
		Runtime:      types.Runtime(e.runtime),
		Handler:      &e.handler,
		Role:         aws.String("arn:aws:iam::000000000000:role/tour"),
		MemorySize:   aws.Int32(256),
		Timeout:      aws.Int32(10),
		Code:         &types.FunctionCode{ZipFile: archive},
	})
	if conflict, ok := errors.AsType[*types.ResourceConflictException](err); ok && conflict != nil {
		if _, err := client.UpdateFunctionCode(ctx, &lambda.UpdateFunctionCodeInput{FunctionName: &e.name, ZipFile: archive}); err != nil {
			return err
		}
		return lambda.NewFunctionUpdatedV2Waiter(client, quick[lambda.FunctionUpdatedV2WaiterOptions]).Wait(ctx, &lambda.GetFunctionInput{FunctionName: &e.name}, time.Minute)
	}
	if err != nil {
		return err
	}
	err = lambda.NewFunctionActiveV2Waiter(client, quick[lambda.FunctionActiveV2WaiterOptions]).Wait(ctx, &lambda.GetFunctionInput{FunctionName: &e.name}, time.Minute)
	if err == nil {
		return nil
	}
	c, e2 := client.GetFunctionConfiguration(ctx, &lambda.GetFunctionConfigurationInput{FunctionName: &e.name})
	if e2 == nil && c.StateReason != nil {
		client.DeleteFunction(ctx, &lambda.DeleteFunctionInput{FunctionName: &e.name})
		return errors.New(*c.StateReason)
	}
	return err
}

// quick makes a waiter ask more often than for a server far away.
func quick[O lambda.FunctionUpdatedV2WaiterOptions | lambda.FunctionActiveV2WaiterOptions](o *O) {
	switch o := any(o).(type) {
	case *lambda.FunctionUpdatedV2WaiterOptions:
		o.MinDelay, o.MaxDelay = 10*time.Millisecond, 100*time.Millisecond
	case *lambda.FunctionActiveV2WaiterOptions:
		o.MinDelay, o.MaxDelay = 10*time.Millisecond, 100*time.Millisecond
	}
}

// pack zips the example's folder; a Go program is compiled first.
func pack(ctx context.Context, e example) ([]byte, error) {
	dir := e.dir
	if strings.HasPrefix(e.runtime, "provided") {
		temp, err := os.MkdirTemp("", "tour-")
		if err != nil {
			return nil, err
		}
		defer os.RemoveAll(temp)
		build := exec.CommandContext(ctx, "go", "build", "-o", filepath.Join(temp, "bootstrap"), "./"+dir)
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := build.CombinedOutput(); err != nil {
			return nil, fmt.Errorf("go build %s: %w\n%s", dir, err, out)
		}
		dir = temp
	}
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	if err := z.AddFS(os.DirFS(dir).(fs.ReadDirFS)); err != nil {
		return nil, err
	}
	if err := z.Close(); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

// printLog prints what CloudWatch Logs has, which is written a moment after the invocation.
func printLog(ctx context.Context, client *cloudwatchlogs.Client, group string) error {
	for {
		out, err := client.FilterLogEvents(ctx, &cloudwatchlogs.FilterLogEventsInput{LogGroupName: &group})
		reports := 0
		if err == nil {
			for _, e := range out.Events {
				if strings.HasPrefix(*e.Message, "REPORT") {
					reports++
				}
			}
		}
		if reports >= 2 {
			fmt.Println("log group", group)
			for _, e := range out.Events {
				fmt.Printf("  %s %s\n", time.UnixMilli(*e.Timestamp).Format("15:04:05.000"), strings.TrimRight(*e.Message, "\n"))
			}
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(20 * time.Millisecond):
		}
	}
}
