package server

import (
	"errors"
	"path/filepath"

	"github.com/mayflyhq/mayfly/internal/fleet"
	"github.com/mayflyhq/mayfly/internal/sandbox"
	"github.com/mayflyhq/mayfly/internal/sandbox/linux"
	"github.com/mayflyhq/mayfly/internal/sandbox/process"
)

// defaultPrepared is how many sandboxes are made ahead of need.
const defaultPrepared = 8

// openDriver opens the sandbox driver that was asked for, else the best that works here.
func openDriver(config Config) (sandbox.Driver, error) {
	why := ""
	if config.Sandbox != "process" {
		prepared := config.Prepared
		switch {
		case prepared == 0:
			prepared = defaultPrepared
		case prepared < 0:
			prepared = 0
		}
		d, err := linux.New(linux.Config{
			Dir:      filepath.Join(config.DataDir, "tmp"),
			Prepared: prepared,
			Listen:   fleet.Addresses(),
			Log:      config.Log,
		})
		if err == nil {
			return d, nil
		}
		if config.Sandbox == "linux" || !errors.Is(err, sandbox.ErrUnsupported) {
			return nil, err
		}
		why = err.Error()
	}
	return process.New(process.Config{Dir: filepath.Join(config.DataDir, "tmp"), Why: why})
}
