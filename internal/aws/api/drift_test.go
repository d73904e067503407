// Package api_test holds the contract packages to apimodels.
package api_test

import (
	"os/exec"
	"testing"
)

// TestGenerated fails when a contract is not what the generator makes of apimodels: someone edited one of them alone.
func TestGenerated(t *testing.T) {
	goTool, err := exec.LookPath("go")
	if err != nil {
		t.Skip("the go command is not in PATH")
	}
	if out, err := exec.Command(goTool, "-C", "../../../tools/apigen", "run", ".", "-C", "../..", "check").CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}
