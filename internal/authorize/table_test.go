package authorize

import (
	"slices"
	"strings"
	"testing"

	"github.com/mayflyhq/mayfly/internal/aws/api/iamapi"
	"github.com/mayflyhq/mayfly/internal/aws/api/kinesisapi"
	"github.com/mayflyhq/mayfly/internal/aws/api/lambdaapi"
	"github.com/mayflyhq/mayfly/internal/aws/api/logsapi"
	"github.com/mayflyhq/mayfly/internal/aws/api/snsapi"
	"github.com/mayflyhq/mayfly/internal/aws/api/sqsapi"
	"github.com/mayflyhq/mayfly/internal/aws/api/stsapi"
	"github.com/mayflyhq/mayfly/internal/aws/smithy"
)

var contracts = []*smithy.Service{lambdaapi.Service, logsapi.Service, iamapi.Service, kinesisapi.Service, snsapi.Service, sqsapi.Service, stsapi.Service}

// Every operation of a contract has one line, and every line is of an operation; New fails on a member that does not exist.
func TestTables(t *testing.T) {
	if _, err := New(Deps{Services: contracts}); err != nil {
		t.Fatal(err)
	}
	known := map[string]bool{}
	for _, svc := range contracts {
		known[svc.Name] = true
		var want []string
		for i := range svc.Ops {
			want = append(want, svc.Ops[i].Name)
		}
		slices.Sort(want)
		if got := lines(svc); !slices.Equal(got, want) {
			for _, name := range want {
				if !slices.Contains(got, name) {
					t.Errorf("%s.txt has no line for %s", svc.Name, name)
				}
			}
			if !slices.IsSorted(got) {
				t.Errorf("%s.txt is not sorted", svc.Name)
			}
			for i, name := range got {
				if i > 0 && got[i-1] == name {
					t.Errorf("%s.txt has two lines for %s", svc.Name, name)
				}
			}
		}
	}
	files, _ := tables.ReadDir(".")
	for _, f := range files {
		if !known[strings.TrimSuffix(f.Name(), ".txt")] {
			t.Errorf("%s is of no contract", f.Name())
		}
	}
}

func TestCompileErrors(t *testing.T) {
	for _, line := range []string{
		"function(Nobody)", "functional(FunctionName)", "function(FunctionName) lambda:Layer=Nobody", "", "+ lambda:X function(FunctionName)",
		"function(FunctionName) if", "function(FunctionName) if Nobody", "what", "function(FunctionName) + iam:PassRole",
	} {
		if _, err := compileRule(lambdaapi.Invoke.Info, strings.Fields(line)); err == nil {
			t.Errorf("%q is taken", line)
		}
	}
}
