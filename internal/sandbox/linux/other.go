//go:build !linux

// Package linux is the sandbox driver of Linux; elsewhere its New says so.
package linux

import (
	"fmt"
	"log/slog"
	"runtime"

	"github.com/mayflyhq/mayfly/internal/sandbox"
)

// Config configures a driver on Linux.
type Config struct {
	Dir      string
	Prepared int
	Listen   []string
	TmpBytes int64
	Log      *slog.Logger
}

// MaybeInit does nothing here.
func MaybeInit() {}

// New gives an error that wraps sandbox.ErrUnsupported.
func New(Config) (sandbox.Driver, error) {
	return nil, fmt.Errorf("sandbox/linux: %w: this is %s", sandbox.ErrUnsupported, runtime.GOOS)
}
