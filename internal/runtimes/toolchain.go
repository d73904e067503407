package runtimes

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// languageVersion is major, minor, patch.
type languageVersion [3]int

func (v languageVersion) String() string { return fmt.Sprintf("%d.%d.%d", v[0], v[1], v[2]) }

// parseVersion reads "22", "3.13" or "v20.11.1".
func parseVersion(s string) (languageVersion, bool) {
	var v languageVersion
	for i, part := range strings.SplitN(strings.TrimPrefix(s, "v"), ".", 4) {
		n, err := strconv.ParseUint(part, 10, 16)
		if err != nil || i > 2 {
			return v, false
		}
		v[i] = int(n)
	}
	return v, true
}

// usable says whether the client of the family runs on the version.
func usable(f Family, v languageVersion) bool {
	if f == Node {
		return v[0] >= 16
	}
	return v[0] == 3 && v[1] >= 8
}

func newestWanted(f Family) languageVersion {
	v, _ := parseVersion(catalog[0].Version)
	for _, r := range catalog {
		if r.Family == f && !r.Retired {
			v, _ = parseVersion(r.Version)
		}
	}
	return v
}

// distance orders versions by how well they stand in for the wanted one: 0 is the same (major for Node.js, major and
// minor for Python); of two that are equally far, the newer is nearer.
func distance(f Family, wanted, v languageVersion) int {
	d := v[0] - wanted[0]
	if f == Python {
		d = d*100 + v[1] - wanted[1]
	}
	if d < 0 {
		return -2*d + 1
	}
	return 2 * d
}

// hintDistance is the distance of what a candidate's path says; one that says nothing is taken for an exact match, since
// only running it can tell.
func hintDistance(f Family, wanted languageVersion, c candidate) int {
	if !c.hinted {
		return 0
	}
	return distance(f, wanted, c.hint)
}

// toolchain is one installed language.
type toolchain struct {
	version    languageVersion
	executable string // the real file
	cacheTag   string // Python: the tag of its bytecode, "cpython-313"

	// prefix is the directory that has the whole language, to be shown at /var/lang. It is empty where the language is
	// spread over the system: then either it is under /usr, which a sandbox shows anyway, or root, a package manager's
	// tree with absolute paths in it, must be shown at its own place.
	prefix string
	root   string
}

// langDir is where the language's bin and lib are inside the sandbox, empty if among the system's.
func (t toolchain) langDir() string {
	switch {
	case t.prefix != "":
		return LangDir
	case t.root != "":
		return filepath.Dir(filepath.Dir(t.executable))
	}
	return ""
}

// place fills in prefix and root.
func (t toolchain) place(prefix string) toolchain {
	under := func(dir string) bool { return prefix == dir || strings.HasPrefix(prefix, dir+"/") }
	for _, root := range []string{"/nix/store", "/gnu/store", "/home/linuxbrew/.linuxbrew", "/opt/homebrew"} {
		if under(root) {
			t.root = root
			return t
		}
	}
	if prefix != "/" && !under("/usr") {
		t.prefix = prefix
	}
	return t
}

// probeTimeout bounds the run of an executable that is asked for its version.
const probeTimeout = 10 * time.Second

// probe asks an executable of the machine what it is.
func probe(ctx context.Context, family Family, executable string) (toolchain, error) {
	real, err := filepath.EvalSymlinks(executable)
	if err != nil {
		return toolchain{}, err
	}
	if err := isProgram(real); err != nil {
		return toolchain{}, err
	}
	switch family {
	case Node:
		out, err := ask(ctx, real, "--version")
		if err != nil {
			return toolchain{}, err
		}
		v, ok := parseVersion(out)
		if !ok {
			return toolchain{}, fmt.Errorf("%s: %q is not a Node.js version", real, out)
		}
		return toolchain{version: v, executable: real}.place(filepath.Dir(filepath.Dir(real))), nil
	default:
		out, err := ask(ctx, real, "-I", "-S", "-c", `import sys
print(".".join(map(str, sys.version_info[:3])), sys.implementation.name, sys.implementation.cache_tag, sys.base_prefix, sep="\n")`)
		if err != nil {
			return toolchain{}, err
		}
		lines := strings.Split(out, "\n")
		if len(lines) != 4 || lines[1] != "cpython" {
			return toolchain{}, fmt.Errorf("%s: %q is not CPython", real, out)
		}
		v, ok := parseVersion(lines[0])
		if !ok {
			return toolchain{}, fmt.Errorf("%s: %q is not a Python version", real, lines[0])
		}
		prefix, err := filepath.EvalSymlinks(lines[3])
		if err != nil {
			return toolchain{}, err
		}
		t := toolchain{version: v, executable: real, cacheTag: lines[2]}
		if !strings.HasPrefix(real, strings.TrimSuffix(prefix, "/")+"/") {
			return toolchain{}, fmt.Errorf("%s: its library is elsewhere, in %s", real, prefix)
		}
		return t.place(prefix), nil
	}
}

// isProgram refuses what is not a machine program: the shims of version managers are scripts, which choose a version by
// the directory they run in.
func isProgram(name string) error {
	file, err := os.Open(name)
	if err != nil {
		return err
	}
	defer file.Close()
	var magic [4]byte
	if _, err := file.Read(magic[:]); err != nil {
		return err
	}
	switch string(magic[:]) {
	case "\x7fELF", "\xcf\xfa\xed\xfe", "\xca\xfe\xba\xbe":
		return nil
	}
	return fmt.Errorf("%s: not a program", name)
}

// ask runs an executable with a bare environment and returns its trimmed output.
func ask(ctx context.Context, executable string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, executable, args...)
	cmd.Env = []string{"PATH=/usr/bin:/bin", "LC_ALL=C.UTF-8"}
	cmd.Dir = "/"
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("%s: %w: %s", executable, err, bytes.TrimSpace(stderr.Bytes()))
	}
	return strings.TrimSpace(string(out)), nil
}

// compilePython writes the bytecode of a client, in a form that is not checked against the source at import.
func compilePython(ctx context.Context, executable, dir string) error {
	_, err := ask(ctx, executable, "-I", "-S", "-c", `import glob, py_compile, sys
for name in glob.glob(sys.argv[1] + "/*/*.py"):
    py_compile.compile(name, doraise=True, invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH)`, dir)
	return err
}

// candidate is an executable that may be the language.
type candidate struct {
	path   string
	hint   languageVersion // what the path says
	hinted bool
}

var hints = map[Family]*regexp.Regexp{
	Node:   regexp.MustCompile(`(?:^v?|node@|node-v?|nodejs-?v?)(\d+(?:\.\d+){0,2})`),
	Python: regexp.MustCompile(`(?:^|python@|python-?|cpython-)(3\.\d+(?:\.\d+)?)`),
}

// candidates lists the executables that may be the language, in the order of preference.
func (f *Finder) candidates(family Family, wanted languageVersion) []candidate {
	home, env := f.opts.Home, f.opts.Getenv
	or := func(variable, fallback string) string {
		if dir := env(variable); dir != "" {
			return dir
		}
		if home == "" {
			return ""
		}
		return filepath.Join(home, fallback)
	}
	names := []string{"node", "nodejs"}
	if family == Python {
		names = []string{fmt.Sprintf("python%d.%d", wanted[0], wanted[1]), "python3", "python3.[0-9]", "python3.[0-9][0-9]"}
	}
	var dirs []string
	add := func(root string, patterns ...string) {
		for _, p := range patterns {
			if root != "" {
				dirs = append(dirs, filepath.Join(root, p))
			}
		}
	}
	for _, dir := range f.opts.Search {
		add(dir, "", "bin", "*/bin")
	}
	dirs = append(dirs, filepath.SplitList(env("PATH"))...)
	system := func(patterns ...string) {
		for _, p := range patterns {
			dirs = append(dirs, filepath.Join(f.opts.System, p))
		}
	}
	switch family {
	case Node:
		add(or("NVM_DIR", ".nvm"), "versions/node/*/bin")
		for _, dir := range []string{env("FNM_DIR"), filepath.Join(home, ".local/share/fnm"), filepath.Join(home, ".fnm"),
			filepath.Join(home, "Library/Application Support/fnm")} {
			add(dir, "node-versions/*/installation/bin")
		}
		add(or("VOLTA_HOME", ".volta"), "tools/image/node/*/bin")
		add(or("ASDF_DATA_DIR", ".asdf"), "installs/nodejs/*/bin")
		add(or("MISE_DATA_DIR", ".local/share/mise"), "installs/node/*/bin")
		add(or("NODENV_ROOT", ".nodenv"), "versions/*/bin")
		add(env("N_PREFIX"), "n/versions/node/*/bin")
		system("/usr/local/n/versions/node/*/bin")
		system("/opt/homebrew/opt/node*/bin", "/usr/local/opt/node*/bin", "/home/linuxbrew/.linuxbrew/opt/node*/bin")
	case Python:
		add(or("PYENV_ROOT", ".pyenv"), "versions/*/bin")
		add(or("ASDF_DATA_DIR", ".asdf"), "installs/python/*/bin")
		add(or("MISE_DATA_DIR", ".local/share/mise"), "installs/python/*/bin")
		add(or("UV_PYTHON_INSTALL_DIR", ".local/share/uv/python"), "*/bin")
		add(home, "miniconda3/bin", "miniconda3/envs/*/bin", "anaconda3/bin", "anaconda3/envs/*/bin", "miniforge3/bin", "miniforge3/envs/*/bin")
		system("/opt/homebrew/opt/python@*/bin", "/usr/local/opt/python@*/bin", "/home/linuxbrew/.linuxbrew/opt/python@*/bin")
	}
	system("/usr/local/bin", "/usr/bin", "/opt/*/bin")

	var found []candidate
	seen := map[string]bool{}
	for _, dir := range dirs {
		for _, name := range names {
			matches, _ := filepath.Glob(filepath.Join(dir, name)) // the only error is a malformed pattern
			for _, p := range matches {
				real, err := filepath.EvalSymlinks(p)
				if err != nil || seen[real] || isProgram(real) != nil {
					continue
				}
				seen[real] = true
				found = append(found, hint(family, real))
			}
		}
	}
	return found
}

// hint reads the version from an executable's path: from the name of the file, else from the nearest directory that has
// one.
func hint(family Family, executable string) candidate {
	c := candidate{path: executable}
	parts := strings.Split(executable, "/")
	for i := len(parts) - 1; i >= 0 && !c.hinted; i-- {
		if m := hints[family].FindStringSubmatch(parts[i]); m != nil {
			c.hint, c.hinted = parseVersion(m[1])
		}
	}
	return c
}
