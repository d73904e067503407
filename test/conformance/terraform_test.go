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

// workspace is a directory with a configuration of Terraform's.
type workspace struct {
	t    *testing.T
	path string // of terraform
	dir  string
	env  []string
}

// newWorkspace copies a configuration of testdata and initializes it.
func newWorkspace(t *testing.T, s *instance, configuration string) *workspace {
	t.Helper()
	path, err := exec.LookPath("terraform")
	if err != nil {
		missing(t, "Terraform (terraform)", "https://developer.hashicorp.com/terraform/install")
	}
	w := &workspace{t: t, path: path, dir: t.TempDir(), env: append(s.env(), "TF_IN_AUTOMATION=1", "CHECKPOINT_DISABLE=1")}
	if err := os.CopyFS(w.dir, os.DirFS(filepath.Join("testdata", configuration))); err != nil {
		t.Fatal(err)
	}
	initialize := exec.Command(path, "init", "-input=false")
	if plugins := os.Getenv("TF_PLUGIN_DIR"); plugins != "" {
		initialize.Args = append(initialize.Args, "-plugin-dir="+plugins)
	}
	initialize.Dir, initialize.Env = w.dir, w.env
	if out, err := initialize.CombinedOutput(); err != nil {
		missing(t, "Terraform's AWS provider", "let terraform init reach its registry, or set TF_PLUGIN_DIR to a directory of plugins\n"+string(out))
	}
	return w
}

// run returns what terraform prints; it must exit with status want. A plan with -detailed-exitcode exits with 2 if there is
// anything to change.
func (w *workspace) run(want int, args ...string) string {
	w.t.Helper()
	cmd := exec.CommandContext(w.t.Context(), w.path, args...)
	cmd.Dir, cmd.Env = w.dir, w.env
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); cmd.ProcessState == nil || cmd.ProcessState.ExitCode() != want {
		w.t.Fatalf("terraform %s: %v\n%s%s", strings.Join(args, " "), err, stdout.String(), stderr.String())
	}
	return stdout.String()
}

func (w *workspace) apply(settings ...string) {
	w.t.Helper()
	w.run(0, append([]string{"apply", "-input=false", "-auto-approve"}, settings...)...)
}

func (w *workspace) plan(want int, settings ...string) {
	w.t.Helper()
	w.run(want, append([]string{"plan", "-input=false", "-detailed-exitcode"}, settings...)...)
}

// takeOver forgets a resource and imports it as it is.
func (w *workspace) takeOver(address, id string, settings ...string) {
	w.t.Helper()
	w.run(0, "state", "rm", address)
	w.run(0, append(append([]string{"import", "-input=false"}, settings...), address, id)...)
}

func (w *workspace) destroy(settings ...string) {
	w.t.Helper()
	w.run(0, append([]string{"destroy", "-auto-approve"}, settings...)...)
	if left := w.run(0, "state", "list"); left != "" {
		w.t.Errorf("after destroy there is\n%s", left)
	}
}

// terraform takes the configuration of testdata/terraform through its life.
func terraform(t *testing.T, s *instance) {
	w := newWorkspace(t, s, "terraform")
	w.env = append(w.env, "TF_VAR_archive=app.zip")
	write(t, filepath.Join(w.dir, "app.zip"), archive(t, "app.py",
		"import os\ndef handler(event, context):\n    return os.environ['GREETING'] + ' ' + event['name']\n"))
	greeting := func(want string) {
		t.Helper()
		var got string
		if err := json.Unmarshal([]byte(w.run(0, "output", "-json", "greeting")), &got); err != nil || got != want {
			t.Errorf("the function says %q, not %q (%v)", got, want, err)
		}
	}

	w.apply()
	greeting("hello Terraform")
	if may := w.run(0, "output", "may"); may != "true\n" {
		t.Errorf("by simulation the user may invoke functions: %s", may)
	}
	w.plan(0)

	changed := []string{"-var", "greeting=good day", "-var", "memory=256"}
	w.plan(2, changed...)
	w.apply(changed...)
	greeting("good day Terraform")
	w.plan(0, changed...)

	// What exists can be taken over as it is. Archives cannot be read back, so that the next apply sends them again.
	for address, id := range map[string]string{
		"aws_lambda_function.function": "conformance", "aws_iam_role.role": "conformance", "aws_iam_group.group": "conformance", "aws_iam_instance_profile.profile": "conformance",
		"aws_iam_user_policy_attachment.managed": "conformance/arn:aws:iam::aws:policy/AWSLambda_ReadOnlyAccess",
		"aws_lambda_event_source_mapping.stream": w.run(0, "output", "-raw", "mapping"),
	} {
		w.takeOver(address, id, changed...)
	}
	w.apply(changed...)
	w.plan(0, changed...)
	w.destroy(changed...)
}

// terraformQueues takes queues through their life. The provider waits for every change to be seen for half a minute, and for
// every deletion for three quarters of one.
func terraformQueues(t *testing.T, s *instance) {
	w := newWorkspace(t, s, "terraform-queues")
	w.apply()
	if found := w.run(0, "output", "-raw", "found"); found != "true 5" {
		t.Errorf("the queues found: %s", found)
	}
	w.plan(0)

	changed := []string{"-var", "delay=5"}
	w.plan(2, changed...)
	w.apply(changed...)
	w.plan(0, changed...)

	url := func(name string) string { return s.vars["AWS_ENDPOINT_URL"] + "/000000000000/" + name }
	w.takeOver("aws_sqs_queue.queue", url("terraform"), changed...)
	w.takeOver("aws_sqs_queue.fifo", url("terraform.fifo"), changed...)
	w.takeOver("aws_sqs_queue_policy.plain", url("terraform-plain"), changed...)
	w.takeOver("aws_sqs_queue_redrive_allow_policy.dead", url("terraform-dead"), changed...)
	w.plan(0, changed...)
	w.destroy(changed...)
}
