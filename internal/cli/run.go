package cli

import (
	"archive/zip"
	"bytes"
	"context"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/mayflyhq/mayfly/internal/aws/api/iamapi"
	"github.com/mayflyhq/mayfly/internal/aws/api/lambdaapi"
	"github.com/mayflyhq/mayfly/internal/aws/smithy"
	"github.com/mayflyhq/mayfly/internal/server"
)

func (a *app) runCommand() *cobra.Command {
	var event, runtime, handler, sandboxName string
	var memory, timeout int32
	var environment []string
	var quiet bool
	c := &cobra.Command{
		Use:   "run DIR",
		Short: "Run a folder's handler once, with nothing set up",
		Long: `Run a folder's handler once, in a sandbox like any function's, with a server of its own that is gone afterwards.

Runtime and handler are found by the files: bootstrap, go.mod or main.go (which are built), index.mjs or index.js, lambda_function.py,
app.py and the like. Say --runtime and --handler where that fails.`,
		Example: `  mayfly run ./hello --event '{"name":"world"}'
  mayfly run . --runtime python3.13 --handler app.main --env TABLE=test`,
		Args: one("DIR"),
		RunE: func(cmd *cobra.Command, args []string) error {
			payload, err := readEvent(event, cmd.InOrStdin())
			if err != nil {
				return err
			}
			p, err := detect(cmd.Context(), args[0], runtime, handler)
			if err != nil {
				return err
			}
			defer p.cleanup()
			archive, err := zipDir(p.dir)
			if err != nil {
				return err
			}
			variables := map[string]string{}
			for _, kv := range environment {
				name, value, ok := strings.Cut(kv, "=")
				if !ok {
					return fmt.Errorf("--env %q is not NAME=VALUE", kv)
				}
				variables[name] = value
			}
			return a.runOnce(cmd.Context(), server.Config{Ephemeral: true, Listen: "127.0.0.1:0", Sandbox: sandboxName, Prepared: -1},
				&lambdaapi.CreateFunctionInput{
					FunctionName: new("run"),
					Runtime:      &p.runtime,
					Handler:      &p.handler,
					MemorySize:   &memory,
					Timeout:      &timeout,
					Code:         &lambdaapi.FunctionCode{ZipFile: archive},
					Environment:  &lambdaapi.Environment{Variables: variables},
				}, payload, quiet)
		},
	}
	f := c.Flags()
	f.StringVarP(&event, "event", "e", "{}", "the event: JSON, a file's name, or - for standard input")
	f.StringVar(&runtime, "runtime", "", "runtime, such as python3.13 (default: by the files)")
	f.StringVar(&handler, "handler", "", "handler, such as app.handler (default: by the files)")
	f.Int32Var(&memory, "memory", 128, "memory size in MB")
	f.Int32Var(&timeout, "timeout", 30, "timeout in seconds")
	f.StringArrayVar(&environment, "env", nil, "environment variable NAME=VALUE, may be repeated")
	f.StringVar(&sandboxName, "sandbox", "", "linux or process (default: linux where it works)")
	f.BoolVarP(&quiet, "quiet", "q", false, "do not print the log")
	return c
}

// runOnce starts a server of its own, creates the function, invokes it, and ends.
func (a *app) runOnce(ctx context.Context, config server.Config, in *lambdaapi.CreateFunctionInput, payload []byte, quiet bool) (err error) {
	s, err := server.New(ctx, config)
	if err != nil {
		return err
	}
	for _, m := range s.Report().Missing() {
		fmt.Fprintf(a.err, "%s %s: %s\n", a.style.yellow("not isolated:"), m.Name, m.Detail)
	}
	run, stop := context.WithCancel(ctx)
	ready, ended := make(chan struct{}), make(chan error, 1)
	go func() { ended <- s.Run(run, func() { close(ready) }) }()
	defer func() {
		stop()
		if e := <-ended; err == nil {
			err = e
		}
	}()
	select {
	case <-ready:
	case err := <-ended:
		ended <- nil
		return err
	}
	root := s.Root()
	t := &target{endpoint: "http://" + s.Addr().String(), region: root.Region}
	t.credentials.AccessKeyID, t.credentials.SecretAccessKey = root.AccessKeyID, root.SecretAccessKey
	client := t.client()
	role, err := createRole(ctx, client, *in.FunctionName)
	if err != nil {
		return err
	}
	in.Role = &role
	if _, err := lambdaapi.CreateFunction.Call(ctx, client, in); err != nil {
		return err
	}
	if err := waitActive(ctx, client, *in.FunctionName); err != nil {
		return err
	}
	out, err := lambdaapi.Invoke.Call(ctx, client, &lambdaapi.InvokeInput{FunctionName: in.FunctionName, Payload: payload, LogType: new("Tail")})
	if err != nil {
		return err
	}
	return a.printAnswer(out, quiet)
}

// createRole makes a role for functions that may do everything, and returns its ARN.
func createRole(ctx context.Context, client smithy.Caller, name string) (arn string, err error) {
	out, err := iamapi.CreateRole.Call(ctx, client, &iamapi.CreateRoleInput{RoleName: &name, AssumeRolePolicyDocument: new(
		`{"Version":"2012-10-17","Statement":{"Effect":"Allow","Principal":{"Service":"lambda.amazonaws.com"},"Action":"sts:AssumeRole"}}`)})
	if err != nil {
		return "", err
	}
	_, err = iamapi.PutRolePolicy.Call(ctx, client, &iamapi.PutRolePolicyInput{RoleName: &name, PolicyName: new("everything"),
		PolicyDocument: new(`{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"*","Resource":"*"}}`)})
	return *out.Role.Arn, err
}

func waitActive(ctx context.Context, client smithy.Caller, name string) error {
	for {
		c, err := lambdaapi.GetFunctionConfiguration.Call(ctx, client, &lambdaapi.GetFunctionConfigurationInput{FunctionName: &name})
		switch {
		case err != nil:
			return err
		case *c.State == "Active":
			return nil
		case *c.State == "Failed":
			return fmt.Errorf("the function could not be made ready: %s", *c.StateReason)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// project is a folder with a handler.
type project struct {
	dir, runtime, handler string
	cleanup               func()
}

// handlerFiles are where handlers are looked for, with the names that they are looked for by.
var handlerFiles = []struct {
	file, language string
	names          []string
}{
	{"index.mjs", "nodejs", []string{"handler"}},
	{"index.js", "nodejs", []string{"handler"}},
	{"index.cjs", "nodejs", []string{"handler"}},
	{"app.mjs", "nodejs", []string{"handler", "lambdaHandler"}},
	{"app.js", "nodejs", []string{"handler", "lambdaHandler"}},
	{"lambda_function.py", "python", []string{"lambda_handler", "handler"}},
	{"app.py", "python", []string{"lambda_handler", "handler"}},
	{"main.py", "python", []string{"lambda_handler", "handler", "main"}},
	{"handler.py", "python", []string{"handler", "lambda_handler"}},
	{"index.py", "python", []string{"handler", "lambda_handler"}},
}

// detect finds out what runs a folder.
func detect(ctx context.Context, dir, runtime, handler string) (*project, error) {
	if info, err := os.Stat(dir); err != nil {
		return nil, err
	} else if !info.IsDir() {
		return nil, fmt.Errorf("%s is not a folder", dir)
	}
	p := &project{dir: dir, runtime: runtime, handler: handler, cleanup: func() {}}
	exists := func(name string) bool { _, err := os.Stat(filepath.Join(dir, name)); return err == nil }
	if p.runtime != "" && p.handler != "" {
		return p, nil
	}
	switch {
	case p.runtime == "" && exists("bootstrap"), strings.HasPrefix(p.runtime, "provided"):
		p.runtime, p.handler = or(p.runtime, "provided.al2023"), or(p.handler, "bootstrap")
		return p, nil
	case p.runtime == "" && (exists("go.mod") || exists("main.go")):
		return buildGo(ctx, dir, p)
	}
	for _, h := range handlerFiles {
		if !exists(h.file) || p.runtime != "" && !strings.HasPrefix(p.runtime, h.language) {
			continue
		}
		source, err := os.ReadFile(filepath.Join(dir, h.file))
		if err != nil {
			return nil, err
		}
		for _, name := range h.names {
			if regexp.MustCompile(`\b` + name + `\b`).Match(source) {
				p.handler = or(p.handler, strings.TrimSuffix(h.file, filepath.Ext(h.file))+"."+name)
				if p.runtime == "" {
					p.runtime, err = installed(ctx, h.language)
				}
				return p, err
			}
		}
	}
	return nil, fmt.Errorf("no handler found in %s: say which with --runtime and --handler, such as --runtime python3.13 --handler app.handler", dir)
}

func or(s, def string) string {
	if s != "" {
		return s
	}
	return def
}

// installed is the runtime of a language that fits what is on this machine best: the newest whose exact version is here.
func installed(ctx context.Context, language string) (string, error) {
	d, err := server.Diagnose(ctx, server.Config{Sandbox: "process"})
	if err != nil {
		return "", err
	}
	found := ""
	for _, r := range slices.Backward(d.Runtimes) {
		if !strings.HasPrefix(r.Runtime, language) {
			continue
		}
		if r.OK && r.Detail == "" {
			return r.Runtime, nil
		}
		if r.OK && found == "" || !r.OK && found == "" {
			found = r.Runtime
		}
	}
	return found, nil
}

// buildGo compiles a Go program into a folder of its own.
func buildGo(ctx context.Context, dir string, p *project) (*project, error) {
	temp, err := os.MkdirTemp("", "mayfly-run-")
	if err != nil {
		return nil, err
	}
	build := exec.CommandContext(ctx, "go", "build", "-o", filepath.Join(temp, "bootstrap"), ".")
	build.Dir = dir
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux")
	if out, err := build.CombinedOutput(); err != nil {
		os.RemoveAll(temp)
		return nil, fmt.Errorf("go build: %w\n%s", err, out)
	}
	return &project{dir: temp, runtime: "provided.al2023", handler: or(p.handler, "bootstrap"), cleanup: func() { os.RemoveAll(temp) }}, nil
}

// zipDir packs a folder as a deployment package. Version control's own files stay out.
func zipDir(dir string) ([]byte, error) {
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(dir, path)
		if err != nil || name == "." {
			return err
		}
		if d.IsDir() {
			if d.Name() == ".git" {
				return filepath.SkipDir
			}
			return nil
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		h, err := zip.FileInfoHeader(info)
		if err != nil {
			return err
		}
		h.Name, h.Method = filepath.ToSlash(name), zip.Deflate
		w, err := z.CreateHeader(h)
		if err != nil {
			return err
		}
		if info.Mode()&fs.ModeSymlink != 0 {
			to, err := os.Readlink(path)
			if err != nil {
				return err
			}
			_, err = io.WriteString(w, to)
			return err
		}
		if !info.Mode().IsRegular() {
			return fmt.Errorf("%s is neither a file nor a folder nor a link", path)
		}
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		defer f.Close()
		_, err = io.Copy(w, f)
		return err
	})
	if err != nil {
		return nil, err
	}
	if err := z.Close(); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}
