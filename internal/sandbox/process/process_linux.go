package process

import (
	"bytes"
	"os"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// measures says that memory and CPU of running processes can be read.
const measures = true

func sysProcAttr() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setsid: true, Pdeathsig: syscall.SIGKILL}
}

// awaitExit returns when the process ended and is a zombie, and true.
func awaitExit(pid int) bool {
	for {
		err := unix.Waitid(unix.P_PID, pid, nil, unix.WEXITED|unix.WNOWAIT, nil)
		if err != unix.EINTR {
			return err == nil
		}
	}
}

// limitFiles sets the limits that need no cooperation of the process. It may
// fail only for a process that has already ended.
func limitFiles(pid, files int) {
	var have unix.Rlimit
	if unix.Prlimit(pid, unix.RLIMIT_NOFILE, nil, &have) == nil {
		n := min(uint64(files), have.Max)
		unix.Prlimit(pid, unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: n, Max: n}, nil)
	}
	unix.Prlimit(pid, unix.RLIMIT_CORE, &unix.Rlimit{}, nil)
}

type measured struct {
	cpu            time.Duration
	resident, peak int64
	processes      int
}

// measure sums over the processes of a session.
func measure(session int) (m measured) {
	dirs, err := os.ReadDir("/proc")
	if err != nil {
		return m
	}
	for _, d := range dirs {
		pid, err := strconv.Atoi(d.Name())
		if err != nil {
			continue
		}
		stat, err := os.ReadFile("/proc/" + d.Name() + "/stat")
		if err != nil {
			continue
		}
		// The name is in parentheses and may hold anything; the fields after
		// it are state ppid pgrp session ... utime (12th) stime (13th).
		_, rest, ok := bytes.Cut(stat[max(0, bytes.LastIndexByte(stat, ')')):], []byte(" "))
		f := bytes.Fields(rest)
		if !ok || len(f) < 13 || atoi(f[3]) != int64(session) {
			continue
		}
		const ticks = 100 // USER_HZ is 100 on every architecture Go runs on
		m.cpu += time.Duration(atoi(f[11])+atoi(f[12])) * time.Second / ticks
		if f[0][0] != 'Z' {
			m.processes++
		}
		rss, hwm := statusMemory(pid)
		m.resident += rss
		m.peak += hwm
	}
	return m
}

func statusMemory(pid int) (rss, hwm int64) {
	status, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/status")
	if err != nil {
		return 0, 0
	}
	for line := range bytes.Lines(status) {
		f := bytes.Fields(line)
		if len(f) < 2 {
			continue
		}
		switch string(f[0]) {
		case "VmRSS:":
			rss = atoi(f[1]) << 10
		case "VmHWM:":
			hwm = atoi(f[1]) << 10
		}
	}
	return rss, hwm
}

// peakOf is the most resident memory of one process.
func peakOf(pid int) int64 {
	_, hwm := statusMemory(pid)
	return hwm
}

func resetPeak(pid int) {
	os.WriteFile("/proc/"+strconv.Itoa(pid)+"/clear_refs", []byte("5"), 0)
}

func maxResident(u *syscall.Rusage) int64 { return u.Maxrss << 10 }

func atoi(b []byte) int64 {
	n, _ := strconv.ParseInt(string(b), 10, 64)
	return n
}
