package mayfly_test

import (
	"context"
	"flag"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/mayflyhq/mayfly/internal/server"
)

var update = flag.Bool("update", false, "rewrite docs/coverage.md")

const coverageFile = "docs/coverage.md"

// The table of what is served is made from the handlers themselves, so that it cannot promise anything else.
func TestCoverage(t *testing.T) {
	want := coverage(t)
	if *update {
		if err := os.WriteFile(coverageFile, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(coverageFile)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != want {
		t.Errorf("%s is stale: go test -run TestCoverage . -update", coverageFile)
	}
}

func coverage(t *testing.T) string {
	s, err := server.New(context.Background(), server.Config{Ephemeral: true, Listen: "127.0.0.1:0", Sandbox: "process"})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	var b, tables strings.Builder
	b.WriteString("# Operations served\n\n" +
		"Generated from the handlers: `go test -run TestCoverage . -update`. An operation without a handler answers\n" +
		"`NotImplemented`, status 501, with a message that names it. How what is served differs from AWS is in\n" +
		"[differences.md](differences.md).\n\n" +
		"| Service | Served | Known |\n|---|--:|--:|\n")
	for _, svc := range server.Services() {
		served, known := 0, 0
		fmt.Fprintf(&tables, "\n## %s\n\n| Operation | Served |\n|---|---|\n", svc.Name)
		for op, ok := range s.Mux().Coverage(svc) {
			mark := ""
			if ok {
				mark = "yes"
				served++
			}
			known++
			fmt.Fprintf(&tables, "| %s | %s |\n", op.Name, mark)
		}
		fmt.Fprintf(&b, "| [%s](#%[1]s) (%s, %s) | %d | %d |\n", svc.Name, svc.ID, svc.APIVersion, served, known)
	}
	return b.String() + tables.String()
}

// pages are the Markdown files of the tree, by their paths with slashes.
func pages(t *testing.T) map[string]string {
	all := map[string]string{}
	err := filepath.WalkDir(".", func(p string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && p != "." && (strings.HasPrefix(d.Name(), ".") || d.Name() == "testdata" || d.Name() == "node_modules" || d.Name() == "bin"):
			return filepath.SkipDir
		case d.IsDir() || filepath.Ext(p) != ".md":
			return nil
		}
		b, err := os.ReadFile(p)
		all[filepath.ToSlash(p)] = string(b)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

var (
	fenced  = regexp.MustCompile("(?ms)^```.*?^```")
	link    = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	heading = regexp.MustCompile(`(?m)^#+ +(.+)$`)
	unnamed = regexp.MustCompile(`[^\p{L}\p{N} _-]`)
	makeRun = regexp.MustCompile("(?m)(?:^(?:sudo )?|`(?:sudo )?)make ([a-z]+)")
	verb    = regexp.MustCompile(`(?m)^([a-z]+):`)
)

// anchors are the names by which a page's headings are linked to, as GitHub makes them.
func anchors(page string) map[string]bool {
	all := map[string]bool{}
	for _, m := range heading.FindAllStringSubmatch(fenced.ReplaceAllString(page, ""), -1) {
		all[strings.ReplaceAll(unnamed.ReplaceAllString(strings.ToLower(m[1]), ""), " ", "-")] = true
	}
	return all
}

func TestLinks(t *testing.T) {
	all := pages(t)
	if len(all) < 10 {
		t.Fatalf("only %d pages found: run from the root of the module", len(all))
	}
	for page, text := range all {
		for _, m := range link.FindAllStringSubmatch(fenced.ReplaceAllString(text, ""), -1) {
			u, err := url.Parse(m[1])
			if err != nil {
				t.Errorf("%s: link %s: %v", page, m[1], err)
				continue
			}
			if u.IsAbs() {
				continue
			}
			target := page
			if u.Path != "" {
				target = filepath.ToSlash(filepath.Join(filepath.Dir(page), u.Path))
			}
			if _, err := os.Stat(target); err != nil {
				t.Errorf("%s: link %s leads nowhere", page, m[1])
			} else if u.Fragment != "" && filepath.Ext(target) == ".md" && !anchors(all[target])[u.Fragment] {
				t.Errorf("%s: link %s: no such heading", page, m[1])
			}
		}
	}
}

// What a page tells people to type is there.
func TestVerbs(t *testing.T) {
	makefile, err := os.ReadFile("Makefile")
	if err != nil {
		t.Fatal(err)
	}
	known := map[string]bool{}
	for _, m := range verb.FindAllSubmatch(makefile, -1) {
		known[string(m[1])] = true
	}
	for page, text := range pages(t) {
		verbs := makeRun.FindAllStringSubmatch(text, -1)
		if page == "README.md" && len(verbs) < 2 {
			t.Errorf("README.md names %d verbs of the Makefile, want make run and make test", len(verbs))
		}
		for _, m := range verbs {
			if !known[m[1]] {
				t.Errorf("%s: the Makefile has no %q", page, m[1])
			}
		}
	}
}
