// Command mayfly runs functions behind the AWS APIs on your own machines.
package main

import (
	"os"

	"github.com/mayflyhq/mayfly/internal/cli"
	"github.com/mayflyhq/mayfly/internal/sandbox/linux"
)

func main() {
	linux.MaybeInit() // a sandbox's own process is this program, started anew
	os.Exit(cli.Main(os.Args[1:], os.Stdout, os.Stderr))
}
