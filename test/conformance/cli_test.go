package conformance

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

const installCLI = "https://docs.aws.amazon.com/cli/latest/userguide/getting-started-install.html"

// cli runs the sessions of testdata/cli with the AWS CLI, version 1 or 2.
func cli(t *testing.T, s *instance) {
	path, err := exec.LookPath("aws")
	if err != nil {
		missing(t, "the AWS CLI (aws)", installCLI)
	}
	version, err := exec.Command(path, "--version").CombinedOutput() // version 1 of old prints it to standard error
	if err != nil {
		missing(t, "a working AWS CLI (aws)", installCLI)
	}
	dir := t.TempDir()
	write(t, filepath.Join(dir, "app.zip"), archive(t, "app.py", "def handler(event, context):\n    print('hello', event['name'])\n    return {'hello': event['name']}\n"))
	write(t, filepath.Join(dir, "other.zip"), archive(t, "app.py", "def handler(event, context):\n    return 'other'\n"))
	write(t, filepath.Join(dir, "trust.json"), []byte(trust))
	// Version 2 takes payloads in base64 and opens a pager unless it is told otherwise; version 1 knows neither setting.
	write(t, filepath.Join(dir, "config"), []byte("[default]\ncli_binary_format = raw-in-base64-out\ncli_pager =\n"))
	env := append(s.env(), "AWS_CONFIG_FILE="+filepath.Join(dir, "config"), "PATH="+filepath.Dir(mayfly)+string(os.PathListSeparator)+os.Getenv("PATH"))

	sessions, err := filepath.Glob(filepath.Join("testdata", "cli", "*.txt"))
	if err != nil || len(sessions) == 0 {
		t.Fatalf("no sessions: %v", err)
	}
	for _, file := range sessions {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			for _, c := range readSession(t, file) {
				if c.version != "" && !strings.HasPrefix(string(version), "aws-cli/"+c.version+".") {
					continue
				}
				cmd := exec.CommandContext(t.Context(), "sh", "-c", c.line)
				cmd.Dir, cmd.Env = dir, env
				out, _ := cmd.CombinedOutput()
				if got := cmd.ProcessState.ExitCode(); (got != 0) != c.fails {
					t.Errorf("%s:%d: $ %s\nexit status %d\n%s", file, c.number, c.line, got, out)
				} else if !c.want.MatchString(strings.TrimSpace(string(out)) + "\n") {
					t.Errorf("%s:%d: $ %s\n%s\nwanted:\n%s", file, c.number, c.line, out, c.text)
				}
			}
		})
	}
}

// command is one of a session: "$ LINE" wants success, "! LINE" failure, "2$ LINE" is for version 2 only. The output
// follows, in which ... is anything on a line, and a line of only ... any lines.
type command struct {
	number  int
	line    string
	fails   bool
	version string
	text    string
	want    *regexp.Regexp
}

var prompt = regexp.MustCompile(`^([12]?)([$!]) (.*)$`)

func readSession(t *testing.T, file string) (all []command) {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for line := range strings.Lines(string(b)) {
		n++
		line = strings.TrimRight(line, "\n")
		switch m := prompt.FindStringSubmatch(line); {
		case m != nil:
			all = append(all, command{number: n, version: m[1], fails: m[2] == "!", line: m[3]})
		case strings.HasPrefix(line, "#"), line == "":
		case len(all) == 0:
			t.Fatalf("%s:%d: output before a command", file, n)
		default:
			all[len(all)-1].text += line + "\n"
		}
	}
	for i := range all {
		var b strings.Builder
		for line := range strings.Lines(all[i].text) {
			if line == "...\n" {
				b.WriteString(`(?:.*\n)*`)
				continue
			}
			b.WriteString(strings.ReplaceAll(regexp.QuoteMeta(strings.TrimRight(line, "\n")), `\.\.\.`, `.*`) + `[ \t]*\n`)
		}
		if b.Len() == 0 {
			b.WriteString(`\n`)
		}
		if all[i].want, err = regexp.Compile(fmt.Sprintf(`^%s$`, b.String())); err != nil {
			t.Fatalf("%s:%d: %v", file, all[i].number, err)
		}
	}
	return all
}
