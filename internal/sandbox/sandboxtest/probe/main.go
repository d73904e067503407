//go:build unix

// Command probe is the program that the sandbox tests run inside a sandbox:
// its first argument names what to do.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"
)

func main() {
	if len(os.Args) < 2 {
		fatal("usage: probe WHAT [ARG...]")
	}
	if os.Args[1] == "wait" { // started ahead: is told its arguments, environment and directory later
		wait()
	}
	args := os.Args[2:]
	switch os.Args[1] {
	case "echo": // words to stdout, then "err" to stderr
		fmt.Println(strings.Join(args, " "))
		fmt.Fprintln(os.Stderr, "err")
	case "env":
		for _, e := range os.Environ() {
			fmt.Println(e)
		}
		wd, err := os.Getwd()
		if err != nil {
			fatal("%v", err)
		}
		fmt.Println("cwd=" + wd)
	case "exit":
		n, _ := strconv.Atoi(args[0])
		os.Exit(n)
	case "sleep": // says "ready", then sleeps for ever
		fmt.Println("ready")
		forever()
	case "term": // exits with 7 at SIGTERM
		c := make(chan os.Signal, 1)
		signal.Notify(c, syscall.SIGTERM)
		fmt.Println("ready")
		<-c
		os.Exit(7)
	case "spin": // burns CPU
		fmt.Println("ready")
		for {
		}
	case "family": // starts children that outlive their parent, one in a session of its own
		for i := range 3 {
			p, err := os.StartProcess(self(), []string{"probe", "sleep"}, &os.ProcAttr{
				Files: []*os.File{nil, os.Stdout, os.Stderr},
				Sys:   &syscall.SysProcAttr{Setsid: i == 0 && len(args) > 0},
			})
			if err != nil {
				fatal("%v", err)
			}
			p.Release()
		}
		fmt.Println("family")
		if len(args) == 0 {
			forever()
		}
	case "write": // FILE TEXT
		if err := os.WriteFile(args[0], []byte(args[1]), 0o600); err != nil {
			fatal("%v", err)
		}
	case "read":
		b, err := os.ReadFile(args[0])
		if err != nil {
			fatal("%v", err)
		}
		os.Stdout.Write(b)
	case "flood": // N bytes to stdout
		n, _ := strconv.Atoi(args[0])
		io.CopyN(os.Stdout, zeros{}, int64(n))
	case "connect": // ADDR: prints what it is sent
		c, err := net.DialTimeout("tcp", args[0], 5*time.Second)
		if err != nil {
			fatal("%v", err)
		}
		io.Copy(os.Stdout, c)
	case "hello": // ADDR: connects, sends one byte, waits: what the cold start benchmark times
		c, err := net.Dial("tcp", args[0])
		if err != nil {
			fatal("%v", err)
		}
		c.Write([]byte{'!'})
		forever()
	case "serve": // ADDR: answers "served" to each connection
		l, err := net.Listen("tcp", args[0])
		if err != nil {
			fatal("%v", err)
		}
		fmt.Println("ready " + l.Addr().String())
		for {
			c, err := l.Accept()
			if err != nil {
				fatal("%v", err)
			}
			io.WriteString(c, "served")
			c.Close()
		}
	case "memory": // MIB: touches that much, says "ready", keeps it
		n, _ := strconv.Atoi(args[0])
		b := make([]byte, n<<20)
		for i := 0; i < len(b); i += 4096 {
			b[i] = 1
		}
		fmt.Println("ready")
		if len(args) > 1 {
			return
		}
		for {
			time.Sleep(time.Hour)
			b[0]++
		}
	default:
		probe(os.Args[1], args)
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { return len(p), nil }

// forever sleeps; a bare select would count as a deadlock.
func forever() {
	for {
		time.Sleep(time.Hour)
	}
}

func self() string {
	p, err := os.Executable()
	if err != nil {
		fatal("%v", err)
	}
	return p
}

func fatal(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "probe: "+format+"\n", args...)
	os.Exit(100)
}

// wait makes the process what it is told to be.
func wait() {
	const descriptor = 3
	syscall.CloseOnExec(descriptor)
	f := os.NewFile(descriptor, "told")
	fmt.Fprintln(f, "ready")
	var told struct {
		Args, Env []string
		Dir       string
	}
	err := json.NewDecoder(f).Decode(&told)
	if errors.Is(err, io.EOF) {
		os.Exit(0)
	}
	if err == nil {
		err = errors.Join(f.Close(), os.Chdir(told.Dir))
	}
	if err != nil {
		fatal("%v", err)
	}
	os.Args = told.Args
	os.Clearenv()
	for _, e := range told.Env {
		name, value, _ := strings.Cut(e, "=")
		os.Setenv(name, value)
	}
}
