package conformance

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// terraform takes the configuration of testdata/terraform through its life.
func terraform(t *testing.T, s *instance) {
	path, err := exec.LookPath("terraform")
	if err != nil {
		missing(t, "Terraform (terraform)", "https://developer.hashicorp.com/terraform/install")
	}
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(filepath.Join("testdata", "terraform"))); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "app.zip"), archive(t, "app.py",
		"import os\ndef handler(event, context):\n    return os.environ['GREETING'] + ' ' + event['name']\n"))

	// run returns what terraform prints; it must exit with status want.
	run := func(want int, args ...string) string {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), path, args...)
		cmd.Dir, cmd.Env = dir, append(s.env(), "TF_IN_AUTOMATION=1", "TF_VAR_archive=app.zip", "CHECKPOINT_DISABLE=1")
		var stdout, stderr bytes.Buffer
		cmd.Stdout, cmd.Stderr = &stdout, &stderr
		if err := cmd.Run(); cmd.ProcessState == nil || cmd.ProcessState.ExitCode() != want {
			t.Fatalf("terraform %s: %v\n%s%s", strings.Join(args, " "), err, stdout.String(), stderr.String())
		}
		return stdout.String()
	}
	greeting := func(want string) {
		t.Helper()
		var got string
		if err := json.Unmarshal([]byte(run(0, "output", "-json", "greeting")), &got); err != nil || got != want {
			t.Errorf("the function says %q, not %q (%v)", got, want, err)
		}
	}

	plugins := os.Getenv("TF_PLUGIN_DIR")
	initialize := exec.Command(path, "init", "-input=false")
	if plugins != "" {
		initialize.Args = append(initialize.Args, "-plugin-dir="+plugins)
	}
	initialize.Dir, initialize.Env = dir, s.env()
	if out, err := initialize.CombinedOutput(); err != nil {
		missing(t, "Terraform's AWS provider", "let terraform init reach its registry, or set TF_PLUGIN_DIR to a directory of plugins\n"+string(out))
	}
	run(0, "apply", "-input=false", "-auto-approve")
	greeting("hello Terraform")
	if may := run(0, "output", "may"); may != "true\n" {
		t.Errorf("by simulation the user may invoke functions: %s", may)
	}
	run(0, "plan", "-input=false", "-detailed-exitcode") // 2 if there were anything to change

	changed := []string{"-input=false", "-var", "greeting=good day", "-var", "memory=256"}
	run(2, append([]string{"plan", "-detailed-exitcode"}, changed...)...)
	run(0, append([]string{"apply", "-auto-approve"}, changed...)...)
	greeting("good day Terraform")
	run(0, append([]string{"plan", "-detailed-exitcode"}, changed...)...)

	// What exists can be taken over as it is. Archives cannot be read back, so that the next apply sends them again.
	for address, id := range map[string]string{
		"aws_lambda_function.function": "conformance", "aws_iam_role.role": "conformance", "aws_iam_group.group": "conformance", "aws_iam_instance_profile.profile": "conformance",
		"aws_iam_user_policy_attachment.managed": "conformance/arn:aws:iam::aws:policy/AWSLambda_ReadOnlyAccess",
	} {
		run(0, "state", "rm", address)
		run(0, append(append([]string{"import"}, changed...), address, id)...)
	}
	run(0, append([]string{"apply", "-auto-approve"}, changed...)...)
	run(0, append([]string{"plan", "-detailed-exitcode"}, changed...)...)
	run(0, append([]string{"destroy", "-auto-approve"}, changed...)...)
	if left := run(0, "state", "list"); left != "" {
		t.Errorf("after destroy there is\n%s", left)
	}
}
