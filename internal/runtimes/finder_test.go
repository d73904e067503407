package runtimes

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// machine is a made-up machine: a root directory with programs in it that say their version.
type machine struct {
	*Finder
	root  string
	asked []string // executables that were run, relative to root
}

// newMachine makes the files (path, and after a space the version that the program says; "script" for a script).
func newMachine(t *testing.T, env map[string]string, files ...string) *machine {
	t.Helper()
	m := &machine{root: t.TempDir()}
	root, err := filepath.EvalSymlinks(m.root)
	if err != nil {
		t.Fatal(err)
	}
	m.root = root
	says := map[string]string{}
	for _, file := range files {
		name, what, _ := strings.Cut(file, " ")
		name = filepath.Join(m.root, name)
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		content := "\x7fELF " + what
		if target, ok := strings.CutPrefix(what, "-> "); ok {
			if err := os.Symlink(target, name); err != nil {
				t.Fatal(err)
			}
			continue
		}
		if what == "script" {
			content = "#!/bin/sh\nexit 1\n"
		}
		if err := os.WriteFile(name, []byte(content), 0o755); err != nil {
			t.Fatal(err)
		}
		says[name] = what
	}
	m.Finder, err = New(Options{
		Dir:    filepath.Join(m.root, "cache"),
		Home:   filepath.Join(m.root, "home"),
		System: m.root,
		Getenv: func(name string) string { return strings.ReplaceAll(env[name], "~", m.root) },
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { removeAll(m.root) })
	m.probe = func(_ context.Context, family Family, executable string) (toolchain, error) {
		real, err := filepath.EvalSymlinks(executable)
		if err != nil {
			return toolchain{}, err
		}
		rel, err := filepath.Rel(m.root, real)
		if err != nil {
			return toolchain{}, err
		}
		m.asked = append(m.asked, rel)
		v, ok := parseVersion(says[real])
		if !ok {
			return toolchain{}, errors.New("broken")
		}
		t := toolchain{version: v, executable: real, cacheTag: "none"}
		prefix := filepath.Dir(filepath.Dir(real))
		if strings.HasPrefix(rel, "usr/") {
			prefix = "/usr"
		}
		return t.place(prefix), nil
	}
	return m
}

func TestFind(t *testing.T) {
	for name, test := range map[string]struct {
		env     map[string]string
		files   []string
		runtime string
		want    string // executable
		warning string
		asked   int // programs that had to be run, 0 for any number
	}{
		"PATH":       {map[string]string{"PATH": "~/a:~/b"}, []string{"b/node 20.1.0"}, "nodejs20.x", "b/node", "", 1},
		"PATH first": {map[string]string{"PATH": "~/a:~/b"}, []string{"a/node 20.2.0", "b/node 20.1.0", "usr/bin/node 20.3.0"}, "nodejs20.x", "a/node", "", 1},
		"exact before first in PATH": {map[string]string{"PATH": "~/usr/bin"},
			[]string{"usr/bin/node 20.2.0", "home/.nvm/versions/node/v22.1.0/bin/node 22.1.0"}, "nodejs22.x", "home/.nvm/versions/node/v22.1.0/bin/node", "", 0},
		"nvm": {nil, []string{"home/.nvm/versions/node/v18.20.0/bin/node 18.20.0", "home/.nvm/versions/node/v22.11.0/bin/node 22.11.0"},
			"nodejs22.x", "home/.nvm/versions/node/v22.11.0/bin/node", "", 1},
		"nvm elsewhere": {map[string]string{"NVM_DIR": "~/nvm"}, []string{"nvm/versions/node/v20.0.0/bin/node 20.0.0"}, "nodejs20.x", "nvm/versions/node/v20.0.0/bin/node", "", 1},
		"fnm":           {nil, []string{"home/.local/share/fnm/node-versions/v20.9.0/installation/bin/node 20.9.0"}, "nodejs20.x", "home/.local/share/fnm/node-versions/v20.9.0/installation/bin/node", "", 1},
		"volta":         {nil, []string{"home/.volta/tools/image/node/20.9.0/bin/node 20.9.0"}, "nodejs20.x", "home/.volta/tools/image/node/20.9.0/bin/node", "", 1},
		"asdf":          {nil, []string{"home/.asdf/installs/nodejs/20.9.0/bin/node 20.9.0"}, "nodejs20.x", "home/.asdf/installs/nodejs/20.9.0/bin/node", "", 1},
		"mise":          {nil, []string{"home/.local/share/mise/installs/node/20.9.0/bin/node 20.9.0"}, "nodejs20.x", "home/.local/share/mise/installs/node/20.9.0/bin/node", "", 1},
		"nodenv":        {nil, []string{"home/.nodenv/versions/20.9.0/bin/node 20.9.0"}, "nodejs20.x", "home/.nodenv/versions/20.9.0/bin/node", "", 1},
		"n":             {nil, []string{"usr/local/n/versions/node/20.9.0/bin/node 20.9.0"}, "nodejs20.x", "usr/local/n/versions/node/20.9.0/bin/node", "", 1},
		"homebrew":      {nil, []string{"opt/homebrew/opt/node@20/bin/node 20.9.0"}, "nodejs20.x", "opt/homebrew/opt/node@20/bin/node", "", 1},
		"opt":           {nil, []string{"opt/node-v20.9.0-linux-x64/bin/node 20.9.0"}, "nodejs20.x", "opt/node-v20.9.0-linux-x64/bin/node", "", 1},
		"nodejs":        {nil, []string{"usr/bin/nodejs 18.1.0"}, "nodejs18.x", "usr/bin/nodejs", "", 1},
		"shims are scripts": {map[string]string{"PATH": "~/home/.nodenv/shims"},
			[]string{"home/.nodenv/shims/node script", "home/.nodenv/versions/20.9.0/bin/node 20.9.0"}, "nodejs20.x", "home/.nodenv/versions/20.9.0/bin/node", "", 1},
		"a broken one": {map[string]string{"PATH": "~/a:~/b"}, []string{"a/node broken", "b/node 20.1.0"}, "nodejs20.x", "b/node", "", 2},
		"a wrong hint": {nil, []string{"home/.nvm/versions/node/v22.0.0/bin/node 18.0.0", "home/.nvm/versions/node/v20.0.0/bin/node 20.0.0"},
			"nodejs22.x", "home/.nvm/versions/node/v20.0.0/bin/node", "Node.js 22 is not installed", 2},
		"nearest, newer first": {nil, []string{"home/.nvm/versions/node/v18.0.0/bin/node 18.0.0", "home/.nvm/versions/node/v22.0.0/bin/node 22.0.0"},
			"nodejs20.x", "home/.nvm/versions/node/v22.0.0/bin/node", "nodejs20.x runs on Node.js 22.0.0", 1},
		"nearest is older": {nil, []string{"usr/bin/node 20.5.0"}, "nodejs24.x", "usr/bin/node", "runs on Node.js 20.5.0 (", 1},
		"a retired name":   {nil, []string{"usr/bin/node 20.5.0"}, "nodejs14.x", "usr/bin/node", "nodejs14.x runs on Node.js 20.5.0", 1},
		"a link": {map[string]string{"PATH": "~/bin"}, []string{"x/node-20/bin/node 20.1.0", "bin/node -> ../x/node-20/bin/node"},
			"nodejs20.x", "x/node-20/bin/node", "", 1},

		"python by name":  {nil, []string{"usr/bin/python3 -> python3.11", "usr/bin/python3.11 3.11.2", "usr/bin/python3.12 3.12.1"}, "python3.12", "usr/bin/python3.12", "", 1},
		"python3":         {nil, []string{"usr/bin/python3 3.13.1"}, "python3.13", "usr/bin/python3", "", 1},
		"pyenv":           {nil, []string{"home/.pyenv/versions/3.9.1/bin/python3.9 3.9.1", "home/.pyenv/versions/3.13.2/bin/python3.13 3.13.2"}, "python3.13", "home/.pyenv/versions/3.13.2/bin/python3.13", "", 1},
		"uv":              {nil, []string{"home/.local/share/uv/python/cpython-3.12.7-linux-x86_64-gnu/bin/python3.12 3.12.7"}, "python3.12", "home/.local/share/uv/python/cpython-3.12.7-linux-x86_64-gnu/bin/python3.12", "", 1},
		"python asdf":     {nil, []string{"home/.asdf/installs/python/3.12.7/bin/python3.12 3.12.7"}, "python3.12", "home/.asdf/installs/python/3.12.7/bin/python3.12", "", 1},
		"conda":           {nil, []string{"home/miniconda3/envs/x/bin/python3.10 3.10.1"}, "python3.10", "home/miniconda3/envs/x/bin/python3.10", "", 1},
		"python nearest":  {nil, []string{"usr/bin/python3.11 3.11.2", "home/.pyenv/versions/3.8.1/bin/python3.8 3.8.1"}, "python3.13", "usr/bin/python3.11", "Python 3.13 is not installed on this machine: python3.13 runs on Python 3.11.2", 1},
		"python too old":  {nil, []string{"home/.pyenv/versions/3.7.1/bin/python3.7 3.7.1", "usr/bin/python3.12 3.12.0"}, "python3.8", "usr/bin/python3.12", "runs on Python 3.12.0", 2},
		"python 3.10 > 9": {nil, []string{"usr/bin/python3.9 3.9.0", "usr/bin/python3.10 3.10.0"}, "python3.14", "usr/bin/python3.10", "runs on Python 3.10.0", 1},
	} {
		t.Run(name, func(t *testing.T) {
			m := newMachine(t, test.env, test.files...)
			if strings.HasPrefix(test.runtime, "python") {
				// The made-up Python cannot compile the client.
				m.skipCompile(t)
			}
			l, err := m.Resolve(t.Context(), test.runtime, "")
			if err != nil {
				t.Fatal(err)
			}
			if got, _ := filepath.Rel(m.root, l.Interpreter); got != test.want {
				t.Errorf("found %s, want %s", got, test.want)
			}
			if (l.Warning == "") != (test.warning == "") || !strings.Contains(l.Warning, test.warning) {
				t.Errorf("warning %q, want %q", l.Warning, test.warning)
			}
			if test.asked > 0 && len(m.asked) != test.asked {
				t.Errorf("ran %d programs, want %d: %v", len(m.asked), test.asked, m.asked)
			}
			before := len(m.asked)
			if again, err := m.Resolve(t.Context(), test.runtime, ""); err != nil || !cmp.Equal(again, l) {
				t.Errorf("the second time: %v, %v", again, err)
			}
			m.Rescan()
			if again, err := m.Resolve(t.Context(), test.runtime, ""); err != nil || !cmp.Equal(again, l) {
				t.Errorf("after Rescan: %v, %v", again, err)
			}
			if len(m.asked) != before {
				t.Errorf("programs that had not changed were run again: %v", m.asked[before:])
			}
		})
	}
}

// skipCompile puts the Python client in place, as if it had been compiled.
func (m *machine) skipCompile(t *testing.T) {
	t.Helper()
	if _, err := m.clientDir(t.Context(), Python, "none", nil); err != nil {
		t.Fatal(err)
	}
}

func TestFindAgain(t *testing.T) {
	m := newMachine(t, nil, "usr/bin/node 18.0.0")
	resolve := func() string {
		t.Helper()
		l, err := m.Resolve(t.Context(), "nodejs22.x", "")
		if err != nil {
			t.Fatal(err)
		}
		return l.FoundVersion
	}
	if got := resolve(); got != "18.0.0" {
		t.Fatal(got)
	}
	// The cache is emptied: written again.
	removeAll(filepath.Join(m.root, "cache"))
	resolve()
	if entries, err := os.ReadDir(filepath.Join(m.root, "cache")); err != nil || len(entries) != 1 {
		t.Errorf("the client is not there again: %v, %v", entries, err)
	}
	// The interpreter is upgraded in place: seen at once.
	node := filepath.Join(m.root, "usr/bin/node")
	if err := os.WriteFile(node, []byte("\x7fELF upgraded"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(node, time.Time{}, time.Now().Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	resolve()
	if len(m.asked) != 2 {
		t.Errorf("an executable that had changed was not run again: %v", m.asked)
	}
	// It is removed: seen at once.
	if err := os.Remove(node); err != nil {
		t.Fatal(err)
	}
	_, err := m.Resolve(t.Context(), "nodejs22.x", "")
	if _, ok := errors.AsType[*NotInstalledError](err); !ok {
		t.Errorf("Resolve gives %v", err)
	}
}

func TestNotInstalled(t *testing.T) {
	for release, want := range map[string]string{
		"ID=debian\n": "apt-get install nodejs, or for the exact version nvm install 22",
		"ID=\"rocky\"\nID_LIKE=\"rhel centos fedora\"\n": "dnf install nodejs, or for the exact version nvm install 22",
		"ID=alpine\n": "apk add nodejs, or for the exact version nvm install 22",
		"":            "nvm install 22",
	} {
		m := newMachine(t, nil)
		if err := os.MkdirAll(filepath.Join(m.root, "etc"), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(m.root, "etc/os-release"), []byte(release), 0o644); err != nil {
			t.Fatal(err)
		}
		_, err := m.Resolve(t.Context(), "nodejs22.x", "")
		e, ok := errors.AsType[*NotInstalledError](err)
		if !ok || e.Install != want || e.Language != "Node.js 22" {
			t.Errorf("on %q: %v", release, err)
		}
	}
}

func TestResolveErrors(t *testing.T) {
	m := newMachine(t, nil)
	for name, want := range map[string]string{
		"java21":  "The runtime java21 (java) is not served here: use a custom runtime (provided.al2023) or a container image, or one of nodejs and python.",
		"go1.x":   "The runtime parameter of go1.x is no longer supported for creating or updating AWS Lambda functions. We recommend you use a supported runtime (provided.al2023) while creating or updating functions.",
		"Python3": "Value Python3 at 'runtime' failed to satisfy constraint: Member must satisfy enum value set: [" + strings.Join(Creatable(), ", ") + "] or be a valid ARN",
	} {
		if _, err := m.Resolve(t.Context(), name, ""); err == nil || err.Error() != want {
			t.Errorf("Resolve(%s): %v", name, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := m.Resolve(ctx, "nodejs22.x", ""); !errors.Is(err, context.Canceled) {
		t.Errorf("with a context that has ended: %v", err)
	}
}

func TestSupported(t *testing.T) {
	for _, name := range []string{"nodejs22.x", "python3.13", "python3.8", "provided.al2", "provided.al2023"} {
		if err := Supported(name); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, name := range []string{"provided", "nodejs14.x", "python3.7", "go1.x", "java8", "dotnetcore3.1"} {
		if _, ok := errors.AsType[*RetiredError](Supported(name)); !ok {
			t.Errorf("%s: %v", name, Supported(name))
		}
	}
	for _, name := range []string{"java21", "dotnet8", "ruby3.4"} {
		if _, ok := errors.AsType[*UnsupportedError](Supported(name)); !ok {
			t.Errorf("%s: %v", name, Supported(name))
		}
	}
	for name, want := range map[string]Info{
		"nodejs22.x":      {"nodejs22.x", Node, "22", false},
		"nodejs":          {"nodejs", Node, "", true},
		"nodejs4.3-edge":  {"nodejs4.3-edge", Node, "4", true},
		"python3.10":      {"python3.10", Python, "3.10", false},
		"provided.al2023": {"provided.al2023", Provided, "al2023", false},
		"provided":        {"provided", Provided, "", true},
	} {
		if got, ok := Lookup(name); !ok || got != want {
			t.Errorf("Lookup(%s) = %+v", name, got)
		}
	}
}

func TestProvided(t *testing.T) {
	m := newMachine(t, nil)
	l, err := m.Resolve(t.Context(), "provided.al2023", "x86_64")
	if err != nil {
		t.Fatal(err)
	}
	if got, want := l.InvalidEntrypoint(), "Couldn't find valid bootstrap(s): [/var/task/bootstrap /opt/bootstrap]"; got != want {
		t.Errorf("%s", got)
	}
	if l.RuntimeVersion != "provided:al2023.v1" || len(l.RuntimeVersionID) != 64 || l.Command(nil) != nil || l.Mounts != nil {
		t.Errorf("%+v", l)
	}
}

func TestLaunch(t *testing.T) {
	m := newMachine(t, nil, "home/.nvm/versions/node/v22.1.5/bin/node 22.1.5", "usr/bin/python3.13 3.13.2")
	m.skipCompile(t)
	l, err := m.Resolve(t.Context(), "nodejs22.x", "")
	if err != nil {
		t.Fatal(err)
	}
	client := l.Mounts[1].Source
	if diff := cmp.Diff([]Mount{{filepath.Join(m.root, "home/.nvm/versions/node/v22.1.5"), "/var/lang"}, {client, "/var/runtime"}}, l.Mounts); diff != "" {
		t.Error(diff)
	}
	for _, test := range []struct {
		env  map[string]string
		want []string
	}{
		{nil, []string{"/var/lang/bin/node", "/var/runtime/index.cjs"}},
		{map[string]string{"AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "1000"},
			[]string{"/var/lang/bin/node", "--max-old-space-size=900", "--max-semi-space-size=50", "/var/runtime/index.cjs"}},
		{map[string]string{"AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "1000", "NODE_OPTIONS": "--max_old_space_size=7"},
			[]string{"/var/lang/bin/node", "/var/runtime/index.cjs"}},
		{map[string]string{"AWS_LAMBDA_EXEC_WRAPPER": "/opt/wrap"},
			[]string{"/bin/sh", "/var/runtime/exec-wrapper", "/opt/wrap", "/var/lang/bin/node", "/var/runtime/index.cjs"}},
	} {
		if diff := cmp.Diff(test.want, l.Command(test.env)); diff != "" {
			t.Errorf("%v: %s", test.env, diff)
		}
	}
	if l.RuntimeVersion != "nodejs:22.v1" || !strings.HasPrefix(l.Env["PATH"], "/var/lang/bin:") ||
		!strings.HasPrefix(l.Env["NODE_PATH"], "/opt/nodejs/node22/node_modules:/opt/nodejs/node_modules:") {
		t.Errorf("%+v", l)
	}

	p, err := m.Resolve(t.Context(), "python3.13", "arm64")
	if err != nil {
		t.Fatal(err)
	}
	// The system's own Python is where the sandbox shows it anyway.
	if len(p.Mounts) != 1 || p.Exec[0] != filepath.Join(m.root, "usr/bin/python3.13") || strings.Contains(p.Env["PATH"], "/var/lang") {
		t.Errorf("%+v", p)
	}
	if architecture() != "arm64" && !strings.Contains(p.Warning, "The function is declared for arm64 and runs on") {
		t.Errorf("warning: %q", p.Warning)
	}
	if id, err := m.Check(t.Context(), "python3.13", ""); id != p.RuntimeVersionID || len(id) != 64 || err != nil {
		t.Errorf("Check: %s, %v", id, err)
	}
}

func TestPlace(t *testing.T) {
	for prefix, want := range map[string][2]string{
		"/usr":                          {"", ""},
		"/usr/local":                    {"", ""},
		"/home/u/.nvm/x":                {"/home/u/.nvm/x", ""},
		"/opt/node":                     {"/opt/node", ""},
		"/nix/store/abc-node":           {"", "/nix/store"},
		"/home/linuxbrew/.linuxbrew/x":  {"", "/home/linuxbrew/.linuxbrew"},
		"/home/linuxbrew/.linuxbrewer/": {"/home/linuxbrew/.linuxbrewer/", ""},
		"/":                             {"", ""},
	} {
		if got := (toolchain{}).place(prefix); got.prefix != want[0] || got.root != want[1] {
			t.Errorf("%s: prefix %q, root %q", prefix, got.prefix, got.root)
		}
	}
}

// The client appears once, whole and read-only, however many ask for it at once.
func TestClientDir(t *testing.T) {
	dir := t.TempDir()
	t.Cleanup(func() { removeAll(dir) })
	var wg sync.WaitGroup
	var prepared sync.Map
	for i := range 8 {
		f, err := New(Options{Dir: dir})
		if err != nil {
			t.Fatal(err)
		}
		wg.Go(func() {
			got, err := f.clientDir(context.Background(), Python, "v", func(_ context.Context, part string) error {
				return os.WriteFile(filepath.Join(part, "prepared"), nil, 0o644)
			})
			if err != nil {
				t.Error(i, err)
			}
			prepared.Store(got, true)
		})
	}
	wg.Wait()
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 1 {
		t.Fatalf("the cache has %v, %v", entries, err)
	}
	files := []string{}
	err = filepath.WalkDir(filepath.Join(dir, entries[0].Name()), func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err == nil && info.Mode().Perm()&0o222 != 0 {
			t.Errorf("%s is writable", name)
		}
		if !d.IsDir() {
			files = append(files, d.Name())
		}
		return err
	})
	if err != nil || !slices.Contains(files, "bootstrap.py") || !slices.Contains(files, "prepared") || !slices.Contains(files, wrapperScript) {
		t.Errorf("%v, %v", files, err)
	}
}

// A preparation that fails leaves nothing behind.
func TestClientDirFails(t *testing.T) {
	dir := t.TempDir()
	f, err := New(Options{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	broken := errors.New("broken")
	if _, err := f.clientDir(t.Context(), Node, "", func(context.Context, string) error { return broken }); !errors.Is(err, broken) {
		t.Errorf("%v", err)
	}
	if entries, err := os.ReadDir(dir); len(entries) != 0 || err != nil {
		t.Errorf("the cache has %v, %v", entries, err)
	}
}

// The real probe, on this machine's own programs.
func TestProbe(t *testing.T) {
	f := testFinder(t)
	for _, runtime := range []string{"nodejs22.x", "python3.13"} {
		l, err := f.Resolve(t.Context(), runtime, "")
		if missing, ok := errors.AsType[*NotInstalledError](err); ok {
			t.Logf("SKIPPED: %v", missing)
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		if _, ok := parseVersion(l.FoundVersion); !ok {
			t.Errorf("%+v", l)
		}
	}
	script := filepath.Join(t.TempDir(), "node")
	if err := os.WriteFile(script, []byte("#!/bin/sh\necho v20.0.0\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := probe(t.Context(), Node, script); err == nil {
		t.Error("a script was run")
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if tool, err := probe(t.Context(), Python, self); err == nil {
		t.Errorf("this test is taken for Python: %+v", tool)
	}
}

func FuzzParseVersion(f *testing.F) {
	for _, s := range []string{"v20.11.1", "3.13", "22", "", "v", "1.2.3.4", "-1", "3.13.0rc1", "99999999999999999999"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		v, ok := parseVersion(s)
		if !ok {
			return
		}
		if again, ok := parseVersion(v.String()); !ok || again != v {
			t.Errorf("%q is %v is %v", s, v, again)
		}
	})
}
