package runtimes

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	goruntime "runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Options say where to look. The zero value, with Dir set, looks where this machine's user would.
type Options struct {
	// Dir is where the runtime interface clients are written. It is created, may be shared by processes, and must be
	// readable by whoever sandboxes run as. Required.
	Dir string

	Home   string              // of the version managers; default: the user's home directory
	Getenv func(string) string // PATH, NVM_DIR, PYENV_ROOT and the like; default: os.Getenv
	Search []string            // directories to look in before all others: an installation or its bin directory

	// System is a directory put before the fixed places (/usr/bin, /opt, ...), so that tests can have their own.
	System string
}

// Finder finds runtimes on this machine. It is safe for concurrent use.
type Finder struct {
	dir   string
	opts  Options
	probe func(ctx context.Context, family Family, executable string) (toolchain, error)

	mu       sync.Mutex
	launches map[string]Launch      // by runtime and architecture
	known    map[string]probeResult // by executable
}

type probeResult struct {
	size  int64
	mtime time.Time
	tool  toolchain
	err   error
}

// New returns a Finder. It touches nothing until the first Resolve.
func New(opts Options) (*Finder, error) {
	if opts.Dir == "" {
		return nil, errors.New("runtimes: no directory for the runtime interface clients")
	}
	dir, err := filepath.Abs(opts.Dir)
	if err != nil {
		return nil, err
	}
	if opts.Getenv == nil {
		opts.Getenv = os.Getenv
	}
	if opts.Home == "" {
		opts.Home, _ = os.UserHomeDir() // without one, only the system's places are searched
	}
	f := &Finder{dir: dir, opts: opts, probe: probe}
	f.Rescan()
	return f, nil
}

// Rescan forgets what was resolved, so that the next Resolve sees what has been installed or removed since. What is known
// of an executable that has not changed is kept.
func (f *Finder) Rescan() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.launches = map[string]Launch{}
	if f.known == nil {
		f.known = map[string]probeResult{}
	}
}

// Resolve finds what the runtime needs on this machine; arch is the function's architecture, "x86_64", "arm64" or empty.
// The first call for a language searches and runs its executables (tens of milliseconds), later ones answer from memory
// as long as the executable stands unchanged. A failure is not remembered.
//
// Its errors are *UnknownError, *RetiredError (for go1.x), *UnsupportedError, and *NotInstalledError when the machine has
// no version of the language that could do.
func (f *Finder) Resolve(ctx context.Context, runtime, arch string) (Launch, error) {
	r, ok := Lookup(runtime)
	switch {
	case !ok:
		return Launch{}, &UnknownError{Runtime: runtime}
	case r.Family == Go:
		return Launch{}, &RetiredError{Runtime: runtime, Instead: latest(Go)}
	case !r.Served():
		return Launch{}, &UnsupportedError{Runtime: runtime, Family: r.Family}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	key := runtime + " " + arch
	if l, ok := f.launches[key]; ok && f.unchanged(l) {
		return l, nil
	}
	l, err := f.resolve(ctx, r)
	if err != nil {
		return Launch{}, err
	}
	if here := architecture(); arch != "" && arch != here {
		l.Warning = strings.TrimSpace(l.Warning + fmt.Sprintf(" The function is declared for %s and runs on %s.", arch, here))
	}
	f.launches[key] = l
	return l, nil
}

// Check says whether functions of a runtime can run on this machine; id is the last part of the ARN of the runtime's
// version. Its errors are Resolve's.
func (f *Finder) Check(ctx context.Context, runtime, arch string) (id string, err error) {
	l, err := f.Resolve(ctx, runtime, arch)
	return l.RuntimeVersionID, err
}

// Creatable lists the names that CreateFunction accepts; see the function of that name.
func (f *Finder) Creatable() []string { return Creatable() }

func architecture() string {
	if goruntime.GOARCH == "amd64" {
		return "x86_64"
	}
	return goruntime.GOARCH
}

// unchanged says whether a launch still stands: the interpreter is the file that was probed, and the client is there.
func (f *Finder) unchanged(l Launch) bool {
	if l.Interpreter == "" {
		return true
	}
	fi, err := os.Stat(l.Interpreter)
	k := f.known[l.Interpreter]
	if err != nil || k.err != nil || fi.Size() != k.size || !fi.ModTime().Equal(k.mtime) {
		return false
	}
	_, err = os.Stat(l.Mounts[len(l.Mounts)-1].Source)
	return err == nil
}

func (f *Finder) resolve(ctx context.Context, r Info) (Launch, error) {
	if r.Family == Provided {
		return provided(r), nil
	}
	tool, err := f.find(ctx, r)
	if err != nil {
		return Launch{}, err
	}
	l := Launch{
		Runtime:          r.Name,
		Family:           r.Family,
		RequestedVersion: r.Version,
		FoundVersion:     tool.version.String(),
		Interpreter:      tool.executable,
	}
	if wanted, ok := parseVersion(r.Version); ok && distance(r.Family, wanted, tool.version) != 0 {
		l.Warning = fmt.Sprintf("%s %s is not installed on this machine: %s runs on %s %s (%s), the nearest found.",
			title(r.Family), r.Version, r.Name, title(r.Family), l.FoundVersion, tool.executable)
	}
	executable := tool.executable
	if tool.prefix != "" {
		l.Mounts = append(l.Mounts, Mount{Source: tool.prefix, Target: LangDir})
		rel, err := filepath.Rel(tool.prefix, tool.executable)
		if err != nil {
			return Launch{}, err
		}
		executable = LangDir + "/" + filepath.ToSlash(rel)
	} else if tool.root != "" {
		l.Mounts = append(l.Mounts, Mount{Source: tool.root, Target: tool.root})
	}
	var client string
	switch r.Family {
	case Node:
		client, err = f.clientDir(ctx, Node, "", nil)
		major := strconv.Itoa(tool.version[0])
		l.Exec = []string{executable, RuntimeDir + "/index.cjs"}
		l.RuntimeVersion = fmt.Sprintf("nodejs:%s.v%d", major, tool.version[1])
		l.Env = launchEnv(tool.langDir())
		l.Env["NODE_PATH"] = "/opt/nodejs/node" + r.Version + "/node_modules:/opt/nodejs/node_modules:" +
			"/var/runtime/node_modules:/var/runtime:/var/task"
	case Python:
		client, err = f.clientDir(ctx, Python, tool.cacheTag, func(ctx context.Context, dir string) error {
			return compilePython(ctx, tool.executable, dir)
		})
		// site is left out: it reads every .pth file of the machine, and the client sets the search path itself.
		l.Exec = []string{executable, "-S", RuntimeDir + "/bootstrap.py"}
		l.RuntimeVersion = fmt.Sprintf("python:%d.%d.v%d", tool.version[0], tool.version[1], tool.version[2])
		l.Env = launchEnv(tool.langDir())
		l.Env["PYTHONPATH"] = RuntimeDir
		l.Env["_MAYFLY_LAYERS_DIR"] = LayersDir // the client takes it off again
		l.Env["LC_CTYPE"] = "C.UTF-8"
	}
	if err != nil {
		return Launch{}, err
	}
	l.Mounts = append(l.Mounts, Mount{Source: client, Target: RuntimeDir})
	l.RuntimeVersionID = versionID(string(r.Family), l.FoundVersion, filepath.Base(client))
	return l, nil
}

// find returns the installed toolchain nearest to what the runtime asks for.
//
// Candidates come in the order of preference. Where a path tells the version (a version manager's directory, python3.12)
// it is believed for sorting, so that usually one executable is run, and always checked.
func (f *Finder) find(ctx context.Context, r Info) (toolchain, error) {
	wanted, named := parseVersion(r.Version)
	if !named {
		wanted = newestWanted(r.Family) // the nodejs of 2014 named no version
	}
	candidates := f.candidates(r.Family, wanted)
	slices.SortStableFunc(candidates, func(a, b candidate) int {
		return cmp.Compare(hintDistance(r.Family, wanted, a), hintDistance(r.Family, wanted, b))
	})
	var best toolchain
	bestDistance := -1
	for _, c := range candidates {
		if bestDistance >= 0 && bestDistance <= hintDistance(r.Family, wanted, c) {
			break // no candidate that follows can be nearer
		}
		tool, err := f.cachedProbe(ctx, r.Family, c.path)
		if err != nil || !usable(r.Family, tool.version) {
			continue
		}
		if d := distance(r.Family, wanted, tool.version); bestDistance < 0 || d < bestDistance {
			best, bestDistance = tool, d
		}
	}
	if err := ctx.Err(); err != nil {
		return toolchain{}, err
	}
	if bestDistance < 0 {
		return toolchain{}, f.notInstalled(r)
	}
	return best, nil
}

func (f *Finder) cachedProbe(ctx context.Context, family Family, executable string) (toolchain, error) {
	fi, err := os.Stat(executable)
	if err != nil {
		return toolchain{}, err
	}
	k, ok := f.known[executable]
	if !ok || k.size != fi.Size() || !k.mtime.Equal(fi.ModTime()) {
		k = probeResult{size: fi.Size(), mtime: fi.ModTime()}
		k.tool, k.err = f.probe(ctx, family, executable)
		if ctx.Err() == nil {
			f.known[executable] = k
		}
	}
	return k.tool, k.err
}

// NotInstalledError is returned when the machine has no usable version of a runtime's language.
type NotInstalledError struct {
	Runtime  string // for example "python3.13"
	Language string // for example "Python 3.13"
	Install  string // what to type on this machine, for example "apt-get install python3"
}

func (e *NotInstalledError) Error() string {
	return fmt.Sprintf("The runtime %s needs %s, which was not found on this machine (in PATH, in the places of the system "+
		"or of a version manager). Install it: %s", e.Runtime, e.Language, e.Install)
}

func (f *Finder) notInstalled(r Info) error {
	e := &NotInstalledError{Runtime: r.Name, Language: strings.TrimSpace(title(r.Family) + " " + r.Version)}
	pkg, managers := "nodejs", "nvm install "+r.Version
	if r.Family == Python {
		pkg, managers = "python3", "uv python install "+r.Version+" or pyenv install "+r.Version
	}
	if goruntime.GOOS == "darwin" {
		e.Install = "brew install " + map[Family]string{Node: "node@" + r.Version, Python: "python@" + r.Version}[r.Family]
		return e
	}
	install := map[string]string{
		"debian": "apt-get install ", "ubuntu": "apt-get install ", "fedora": "dnf install ", "rhel": "dnf install ",
		"centos": "dnf install ", "amzn": "dnf install ", "alpine": "apk add ", "arch": "pacman -S ", "suse": "zypper install ",
	}
	release, _ := os.ReadFile(filepath.Join(f.opts.System, "/etc/os-release"))
	for line := range strings.Lines(string(release)) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		if key != "ID" && key != "ID_LIKE" {
			continue
		}
		for id := range strings.FieldsSeq(strings.Trim(value, `"`)) {
			if command := install[id]; command != "" {
				e.Install = command + pkg + ", or for the exact version " + managers
				return e
			}
		}
	}
	e.Install = managers
	return e
}

func title(f Family) string {
	if f == Node {
		return "Node.js"
	}
	return "Python"
}
