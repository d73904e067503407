//go:build linux

package linux_test

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/mayflyhq/mayfly/internal/sandbox"
	"github.com/mayflyhq/mayfly/internal/sandbox/linux"
	"github.com/mayflyhq/mayfly/internal/sandbox/sandboxtest"
)

const runtimeAddr = "127.0.0.1:9001"

var benchID atomic.Int64

// coldStart is the time from Create until the program has connected to the
// listener inside and its first byte has arrived.
func coldStart(tb testing.TB, d sandbox.Driver, task string) time.Duration {
	began := time.Now()
	in, err := d.Create(tb.Context(), sandbox.Spec{
		ID:          fmt.Sprintf("bench-%d", benchID.Add(1)),
		MemoryBytes: 128 << 20,
		Mounts:      []sandbox.Mount{{Source: task, Target: "/var/task"}},
	})
	if err != nil {
		tb.Fatal(err)
	}
	defer in.Close()
	ls, err := in.Listen(runtimeAddr)
	if err != nil {
		tb.Fatal(err)
	}
	if _, err := in.Start(sandbox.Process{Path: "/var/task/probe", Args: []string{"probe", "hello", runtimeAddr}, Dir: "/var/task"}); err != nil {
		tb.Fatal(err)
	}
	firstByte(tb, ls[0])
	return time.Since(began)
}

// bareStart is the same without a sandbox. In a session of its own, as whoever
// runs other people's programs starts them, the kernel schedules the program
// for itself; in ours it is carried by the time slice that the caller has just
// been given, which on a busy machine makes it several times faster.
func bareStart(tb testing.TB, l net.Listener, task string, ownSession bool) time.Duration {
	began := time.Now()
	cmd := exec.Command(filepath.Join(task, "probe"), "hello", l.Addr().String())
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: ownSession}
	if err := cmd.Start(); err != nil {
		tb.Fatal(err)
	}
	firstByte(tb, l)
	took := time.Since(began)
	cmd.Process.Kill()
	cmd.Wait()
	return took
}

func firstByte(tb testing.TB, l net.Listener) {
	c, err := l.Accept()
	if err != nil {
		tb.Fatal(err)
	}
	defer c.Close()
	if n, err := c.Read(make([]byte, 1)); n != 1 {
		tb.Fatal(err)
	}
}

func median(ts []time.Duration) time.Duration {
	slices.Sort(ts)
	return ts[len(ts)/2]
}

// BenchmarkColdStart interleaves the bare start with the sandboxed ones, each
// after a pause in which what the former left behind is cleared, and gives the
// medians and their ratios.
func BenchmarkColdStart(b *testing.B) {
	task := sandboxtest.Probe(b)
	unprepared := newDriver(b, linux.Config{})
	prepared := newDriver(b, linux.Config{Prepared: 2, Listen: []string{runtimeAddr}})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	var shared, bare, cold, ready []time.Duration
	coldStart(b, unprepared, task) // uses what New has made
	for b.Loop() {
		pause := func() { time.Sleep(15 * time.Millisecond) }
		pause()
		shared = append(shared, bareStart(b, l, task, false))
		pause()
		bare = append(bare, bareStart(b, l, task, true))
		pause()
		cold = append(cold, coldStart(b, unprepared, task))
		prepared.AwaitStock()
		pause()
		ready = append(ready, coldStart(b, prepared, task))
	}
	base := median(bare)
	b.ReportMetric(float64(median(shared).Microseconds())/1e3, "ms-bare-in-our-session")
	b.ReportMetric(float64(base.Microseconds())/1e3, "ms-bare")
	b.ReportMetric(float64(median(cold).Microseconds())/1e3, "ms-unprepared")
	b.ReportMetric(float64(median(ready).Microseconds())/1e3, "ms-prepared")
	b.ReportMetric(float64(median(cold))/float64(base), "x-unprepared")
	b.ReportMetric(float64(median(ready))/float64(base), "x-prepared")
}

// BenchmarkStartsPerSecond keeps eight complete lives going at once, from
// Create to Close, bare and sandboxed.
func BenchmarkStartsPerSecond(b *testing.B) {
	task := sandboxtest.Probe(b)
	const clients = 8
	rate := func(b *testing.B, one func()) {
		var wg sync.WaitGroup
		work := make(chan struct{})
		for range clients {
			wg.Go(func() {
				for range work {
					one()
				}
			})
		}
		for b.Loop() {
			work <- struct{}{}
		}
		close(work)
		wg.Wait()
		b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "starts/s")
	}
	b.Run("bare", func(b *testing.B) {
		rate(b, func() {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				b.Error(err)
				return
			}
			defer l.Close()
			bareStart(b, l, task, true)
		})
	})
	b.Run("sandboxed", func(b *testing.B) {
		d := newDriver(b, linux.Config{Prepared: clients, Listen: []string{runtimeAddr}})
		rate(b, func() { coldStart(b, d, task) })
	})
}

// BenchmarkIdleMemory gives what an idle sandbox adds to the function's own
// memory: the proportional share of its process 1.
func BenchmarkIdleMemory(b *testing.B) {
	task := sandboxtest.Probe(b)
	d := newDriver(b, linux.Config{})
	const n = 20
	for b.Loop() {
		before := available(b)
		var pids []int
		for range n {
			in, err := d.Create(b.Context(), sandbox.Spec{ID: fmt.Sprintf("idle-%d", benchID.Add(1)), MemoryBytes: 128 << 20,
				Mounts: []sandbox.Mount{{Source: task, Target: "/var/task"}}})
			if err != nil {
				b.Fatal(err)
			}
			defer in.Close()
			pids = append(pids, linux.InitPID(in))
		}
		var pss int64
		for _, pid := range pids {
			pss += pssOf(b, pid)
		}
		b.ReportMetric(float64(pss)/n/1024, "KiB-pss/sandbox")
		b.ReportMetric(float64(before-available(b))/n/1024, "KiB-machine/sandbox")
	}
}

func pssOf(tb testing.TB, pid int) int64 {
	return keyKB(tb, fmt.Sprintf("/proc/%d/smaps_rollup", pid), "Pss:")
}

func available(tb testing.TB) int64 { return keyKB(tb, "/proc/meminfo", "MemAvailable:") }

func keyKB(tb testing.TB, file, key string) int64 {
	tb.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		tb.Fatal(err)
	}
	for line := range bytes.Lines(text) {
		if rest, ok := strings.CutPrefix(string(line), key); ok {
			n, _ := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
			return n << 10
		}
	}
	tb.Fatalf("no %s in %s", key, file)
	return 0
}
