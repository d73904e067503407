// Package mayfly_test holds the house to its rules: which package may import which, and what every package has.
package mayfly_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/mayflyhq/mayfly/"

// policy says what each package may import of this module: the packages of its own line's right side and everything that
// those lines allow in turn. A pattern ending in /... is the package and all below it. What is not listed may not be
// imported. DO NOT CHANGE THIS TO MAKE A BUILD PASS: move the code instead.
const policy = `
	# L0: the base, which knows the standard library only
	internal/arn          :
	internal/call         :
	internal/group        :

	# L1: what AWS specifies
	internal/aws/apierr   :
	internal/aws/smithy   : internal/aws/apierr
	internal/aws/sigv4    :
	internal/aws/api/...  : internal/aws/smithy
	internal/aws/protocol : internal/aws/smithy
	internal/aws/protocol/protocoltest/... : internal/aws/protocol

	# L1: languages, which know no time, no context and no I/O
	internal/lang/eventpattern :
	internal/lang/httpevent :
	internal/lang/iampolicy :
	internal/lang/logfilter :

	# L2: what everything stands on
	internal/kv           :
	internal/kv/kvtest    : internal/kv
	internal/kv/pebblekv  : internal/kv
	internal/blob         :
	internal/blob/...     : internal/blob
	internal/sandbox      :
	internal/sandbox/process : internal/sandbox
	internal/sandbox/linux   : internal/sandbox
	internal/sandbox/sandboxtest : internal/sandbox
	internal/credential   : internal/arn internal/call
	internal/sequence     : internal/kv
	internal/queue        : internal/kv internal/sequence
	internal/durable      : internal/group internal/kv internal/queue
	internal/commitlog    : internal/kv internal/sequence

	# L3: engines
	internal/gate         : internal/aws/smithy internal/call
	internal/authorize    : internal/arn internal/call internal/aws/api/... internal/kv internal/lang/iampolicy
	internal/runtimes     :
	internal/runtimes/... :
	internal/runtimeapi   :
	internal/fleet        : internal/arn internal/call internal/group internal/aws/api/... internal/runtimeapi internal/runtimes internal/sandbox
	internal/meter        : internal/fleet internal/kv
	internal/target       : internal/arn internal/call internal/aws/api/...
	internal/eventsource  : internal/arn internal/aws/apierr internal/call internal/durable internal/group internal/kv
	internal/eventsource/... : internal/eventsource internal/aws/api/...

	# L4: services, none of which imports another
	internal/service/iam    : internal/authorize internal/arn internal/credential internal/call internal/aws/api/... internal/kv internal/lang/iampolicy
	internal/service/kinesis : internal/authorize internal/arn internal/call internal/commitlog internal/group internal/aws/api/... internal/kv internal/lang/iampolicy
	internal/service/lambda : internal/authorize internal/arn internal/call internal/durable internal/eventsource internal/group internal/aws/api/... internal/kv internal/blob internal/fleet internal/target internal/lang/eventpattern internal/lang/iampolicy
	internal/service/logs   : internal/arn internal/call internal/group internal/aws/api/... internal/kv internal/lang/logfilter
	internal/service/sns    : internal/authorize internal/arn internal/call internal/durable internal/group internal/aws/api/... internal/kv internal/lang/eventpattern internal/lang/iampolicy internal/target
	internal/service/sqs    : internal/arn internal/call internal/group internal/aws/api/... internal/kv internal/queue internal/lang/iampolicy
	internal/service/sts    : internal/authorize internal/arn internal/call internal/credential internal/aws/api/... internal/lang/iampolicy

	# L5: faces
	internal/edge   : internal/aws/api/... internal/aws/protocol internal/aws/sigv4 internal/call internal/credential internal/lang/httpevent
	internal/server : internal/...
	internal/cli    : internal/authorize internal/eventsource internal/aws/api/... internal/aws/protocol internal/aws/sigv4 internal/credential internal/edge internal/meter internal/server internal/service/kinesis
	cmd/mayfly      : internal/cli internal/sandbox/linux
	examples/...    :
	test/...        : internal/... cmd/...
`

// rule is one line of the policy.
type rule struct {
	pattern string
	allowed []string
}

func rules(t *testing.T) []rule {
	var all []rule
	for line := range strings.Lines(policy) {
		line, _, _ = strings.Cut(line, "#")
		if line = strings.TrimSpace(line); line == "" {
			continue
		}
		left, right, ok := strings.Cut(line, ":")
		if !ok {
			t.Fatalf("policy: no colon in %q", line)
		}
		all = append(all, rule{strings.TrimSpace(left), strings.Fields(right)})
	}
	return all
}

func matches(pattern, pkg string) bool {
	base, tree := strings.CutSuffix(pattern, "/...")
	return pkg == base || tree && strings.HasPrefix(pkg, base+"/")
}

// find returns the rule of a package: the line that names it, else the longest pattern.
func find(all []rule, pkg string) (rule, bool) {
	best, found := rule{}, false
	for _, r := range all {
		if matches(r.pattern, pkg) && (!found || len(strings.TrimSuffix(r.pattern, "/...")) > len(strings.TrimSuffix(best.pattern, "/..."))) {
			best, found = r, true
		}
	}
	return best, found
}

// may reports whether the policy lets a package import another, directly or through what it may import.
func may(all []rule, from rule, to string, seen map[string]bool) bool {
	for _, a := range from.allowed {
		if matches(a, to) {
			return true
		}
		for _, r := range all {
			if matches(a, r.pattern) || r.pattern == a {
				if !seen[r.pattern] {
					seen[r.pattern] = true
					if may(all, r, to, seen) {
						return true
					}
				}
			}
		}
	}
	return false
}

// source is one Go file of the module.
type source struct {
	path string // with slashes, from the root
	pkg  string // directory
	file *ast.File
	fset *token.FileSet
}

func sources(t *testing.T) []source {
	t.Helper()
	var all []source
	err := filepath.WalkDir(".", func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := d.Name()
		if d.IsDir() && p != "." && (strings.HasPrefix(name, ".") || name == "testdata" || name == "tools" || name == "node_modules" || name == "bin") {
			return filepath.SkipDir
		}
		if d.IsDir() || !strings.HasSuffix(name, ".go") {
			return nil
		}
		fset := token.NewFileSet()
		f, err := parser.ParseFile(fset, p, nil, parser.ParseComments)
		if err != nil {
			return err
		}
		p = filepath.ToSlash(p)
		all = append(all, source{p, path.Dir(p), f, fset})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(all) < 100 {
		t.Fatalf("only %d Go files found: run from the root of the module", len(all))
	}
	return all
}

func TestImports(t *testing.T) {
	all := rules(t)
	for _, s := range sources(t) {
		if strings.HasSuffix(s.path, "_test.go") {
			continue // a test may build what its package stands on
		}
		for _, i := range s.file.Imports {
			imported, _ := strconv.Unquote(i.Path.Value)
			to, ok := strings.CutPrefix(imported, module)
			if !ok {
				continue
			}
			from, ok := find(all, s.pkg)
			if !ok {
				t.Errorf("%s: the policy has no line for %s", s.path, s.pkg)
				break
			}
			if !may(all, from, to, map[string]bool{}) {
				t.Errorf("%s may not import %s", s.path, to)
			}
		}
	}
}

// The base and the languages are pure: they import little even of the standard library.
func TestPurity(t *testing.T) {
	banned := []string{"context", "os", "net", "net/http", "io/fs", "os/exec", "math/rand", "math/rand/v2", "log", "log/slog"}
	for _, s := range sources(t) {
		if !strings.HasPrefix(s.pkg, "internal/lang/") || strings.HasSuffix(s.path, "_test.go") {
			continue
		}
		for _, i := range s.file.Imports {
			if imported, _ := strconv.Unquote(i.Path.Value); slices.Contains(banned, imported) {
				t.Errorf("%s imports %s: languages have no clock, no context and no I/O", s.path, imported)
			}
		}
	}
}

func TestPackageComments(t *testing.T) {
	docs := map[string][]string{}
	for _, s := range sources(t) {
		if strings.HasSuffix(s.path, "_test.go") && s.pkg != "." {
			continue
		}
		if docs[s.pkg] == nil {
			docs[s.pkg] = []string{}
		}
		if s.file.Doc != nil && !strings.HasPrefix(s.file.Doc.Text(), "Code generated") {
			// Files of other systems repeat the comment: only one of them is ever built.
			if !strings.Contains(path.Base(s.path), "_other") && !strings.HasPrefix(path.Base(s.path), "other") {
				docs[s.pkg] = append(docs[s.pkg], s.path)
			}
		}
	}
	for _, pkg := range slices.Sorted(maps.Keys(docs)) {
		if n := len(docs[pkg]); n != 1 {
			t.Errorf("%s has %d package comments, want one: %v", pkg, n, docs[pkg])
		}
	}
}

// A file is one room. Generated ones are never read.
func TestFileLength(t *testing.T) {
	const most = 1200
	for _, s := range sources(t) {
		if ast.IsGenerated(s.file) {
			continue
		}
		if n := s.fset.File(s.file.Pos()).LineCount(); n > most {
			t.Errorf("%s has %d lines, at most %d are one room", s.path, n, most)
		}
	}
}

// Names that say nothing collect everything.
func TestNames(t *testing.T) {
	banned := []string{"util", "utils", "common", "helper", "helpers", "misc", "shared", "lib"}
	for _, s := range sources(t) {
		if slices.Contains(banned, path.Base(s.pkg)) || slices.Contains(banned, s.file.Name.Name) {
			t.Errorf("%s: name the package after what it provides", s.path)
		}
	}
}

// The server's dependencies are counted in the open: a new module shows up here.
func TestModules(t *testing.T) {
	b, err := os.ReadFile("go.mod")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		for _, banned := range []string{"github.com/pkg/errors", "gopkg.in/yaml.v3", "github.com/stretchr/testify"} {
			if strings.Contains(line, banned+" ") && !strings.Contains(line, "// indirect") {
				t.Errorf("go.mod requires %s: the standard library or a kept module does it", banned)
			}
		}
	}
}
