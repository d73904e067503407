//go:build unix && !linux

package process

import (
	"syscall"
	"time"
)

// measures says that memory and CPU of running processes can be read.
const measures = false

func sysProcAttr() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setsid: true} }

// awaitExit cannot wait without reaping here; the caller reaps at once.
func awaitExit(int) bool { return false }

func limitFiles(int, int) {}

type measured struct {
	cpu            time.Duration
	resident, peak int64
	processes      int
}

func measure(int) measured { return measured{processes: 1} }

func peakOf(int) int64 { return 0 }

func resetPeak(int) {}

func maxResident(u *syscall.Rusage) int64 { return u.Maxrss }
