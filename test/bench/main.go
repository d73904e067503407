// Command bench runs the benchmarks of this tree and prints what they say of Mayfly's aims: each figure beside that of its
// baseline, which ran on the same machine a moment before or after, and the ratio of the two. Figures of different runs do
// not compare.
//
// The exit status is 0 unless a benchmark could not be run: a missed aim is printed, and no failure.
package main

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"text/tabwriter"
)

// suites are the benchmarks, by package. Quiet ones come first.
var suites = []struct{ pkg, bench, time string }{
	{"./internal/server", "ColdStart|LanguageColdStart", "40x"},
	{"./internal/server", "Program", "5x"},
	{"./internal/server", "IdleEnvironment", "1x"},
	{"./internal/server", "StartsPerSecond", "300x"},
	{"./internal/server", "WarmInvoke", "20000x"},
	{"./internal/server", "Enforcement", "10000x"},
	{"./internal/server", "Accept|Drain", "5000x"},
	{"./internal/server", "FirstByte", "1000x"},
	{"./internal/server", "Throughput", "10x"},
	{"./internal/server", "Queue|FIFO|FanOut", "300x"},
	{"./internal/server", "EmptyPolls", "1x"},
	{"./internal/server", "IdleMappings", "1x"},
	{"./internal/server", "RecordLatency", "500x"},
	{"./internal/server", "EventSource", "50000x"},
	{"./internal/sandbox/linux", "ColdStart", "40x"},
	{"./internal/sandbox/linux", "IdleMemory", "1x"},
	{"./internal/runtimes", "ColdStart", "20x"},
	{"./internal/runtimeapi", "Invoke$|InvokeProcess", "3000x"},
	{"./internal/kv/pebblekv", "Commit", "3000x"},
	{"./internal/service/kinesis", "Put", "1000x"},
	{"./internal/service/kinesis", "Get|Wake", "1000x"},
	{"./internal/lang/iampolicy", "Evaluate", "20000x"},
	{"./internal/authorize", "AuthorizeInvoke", "20000x"},
}

// row is one line of the table: a figure, divided by its baseline if it has one, and what is aimed at.
type row struct {
	what         string
	figure, base string // "package Benchmark/sub unit"
	less         string // what is subtracted from figure, if anything
	aim          float64
	most         bool // the aim is an upper bound
	decimals     int
	unit         string
}

func main() {
	only := flag.String("run", "", "run the packages whose path contains this")
	flag.Parse()
	results := map[string]float64{}
	failed := false
	for _, s := range suites {
		if !strings.Contains(s.pkg, *only) {
			continue
		}
		fmt.Printf("%s %s\n", s.pkg, s.bench)
		cmd := exec.Command("go", "test", "-run", "^$", "-bench", "^Benchmark("+s.bench+")$", "-benchtime", s.time, "-benchmem", "-timeout", "10m", s.pkg)
		cmd.Stderr = os.Stderr
		out, err := cmd.Output()
		for line := range bytes.Lines(out) {
			if name, figures, ok := parse(string(line)); ok {
				fmt.Print("  ", string(line))
				for unit, f := range figures {
					results[s.pkg+" "+name+" "+unit] = f
				}
			}
		}
		if err != nil {
			failed = true
			fmt.Printf("  FAILED: %v\n%s", err, out)
		}
	}
	fmt.Println()
	table(results)
	if failed {
		os.Exit(1)
	}
}

// parse reads a line of go test's output: the benchmark's name, without "Benchmark" and the number of CPUs, and its figures
// by unit.
func parse(line string) (name string, figures map[string]float64, ok bool) {
	f := strings.Fields(line)
	if len(f) < 4 || !strings.HasPrefix(f[0], "Benchmark") {
		return "", nil, false
	}
	name = strings.TrimPrefix(f[0], "Benchmark")
	if i := strings.LastIndexByte(name, '-'); i > 0 {
		if _, err := strconv.Atoi(name[i+1:]); err == nil {
			name = name[:i]
		}
	}
	figures = map[string]float64{}
	for i := 2; i+1 < len(f); i += 2 {
		n, err := strconv.ParseFloat(f[i], 64)
		if err != nil {
			return "", nil, false
		}
		figures[f[i+1]] = n
	}
	return name, figures, true
}

func rows() []row {
	const server, sandbox, runtimes, kv = "./internal/server ", "./internal/sandbox/linux ", "./internal/runtimes ", "./internal/kv/pebblekv "
	var all []row
	for _, c := range []string{"1", "8", "32"} {
		warm := server + "WarmInvoke/c=" + c
		all = append(all, row{what: "warm invocations, " + c + " clients, to a reverse proxy", figure: warm + "/mayfly req/s", base: warm + "/proxy req/s", aim: 0.6, decimals: 2, unit: "x"})
	}
	warm := server + "WarmInvoke/c=8"
	all = append(all,
		row{what: "platform CPU of a warm invocation, 8 clients, client's share off", figure: warm + "/mayfly platform-us/op", less: warm + "/client platform-us/op", aim: 160, most: true, unit: "us"},
		row{what: "cold start, prepared, request to answer, to bare fork+exec", figure: server + "ColdStart/prepared p50-us", base: server + "ColdStart/bare p50-us", aim: 1.5, most: true, decimals: 2, unit: "x"},
		row{what: "cold start, unprepared, request to answer, to bare fork+exec", figure: server + "ColdStart/unprepared p50-us", base: server + "ColdStart/bare p50-us", aim: 2.5, most: true, decimals: 2, unit: "x"},
		row{what: "sandbox alone, prepared, to bare fork+exec", figure: sandbox + "ColdStart x-prepared", aim: 1.5, most: true, decimals: 2, unit: "x"},
		row{what: "sandbox alone, unprepared, to bare fork+exec", figure: sandbox + "ColdStart x-unprepared", aim: 2.5, most: true, decimals: 2, unit: "x"},
		row{what: "Python cold start, request to answer, to the bare interpreter", figure: server + "LanguageColdStart/python mayfly-ms", base: server + "LanguageColdStart/python bare-ms", aim: 0.1, most: true, decimals: 2, unit: "x"},
		row{what: "Node.js cold start, request to answer, to the bare interpreter", figure: server + "LanguageColdStart/node mayfly-ms", base: server + "LanguageColdStart/node bare-ms", aim: 0.2, most: true, decimals: 2, unit: "x"},
		row{what: "what the Python client adds to its interpreter's start", figure: runtimes + "ColdStart/python added-ms", most: true, decimals: 1, unit: "ms"},
		row{what: "what the Node.js client adds to its interpreter's start", figure: runtimes + "ColdStart/nodejs added-ms", most: true, decimals: 1, unit: "ms"},
		row{what: "cold starts per second, 8 clients, to bare fork+exec", figure: server + "StartsPerSecond/mayfly starts/s", base: server + "StartsPerSecond/bare starts/s", aim: 0.6, decimals: 2, unit: "x"},
		row{what: "cold starts per second, 8 clients", figure: server + "StartsPerSecond/mayfly starts/s", aim: 100, unit: "/s"},
		row{what: "memory of an idle environment besides the function's own", figure: server + "IdleEnvironment KiB/env", aim: 1024, most: true, unit: "KiB"},
		row{what: "server, start to ready", figure: server + "Program ready-ms", aim: 100, most: true, unit: "ms"},
		row{what: "server, idle memory (PSS)", figure: server + "Program MiB-pss-idle", aim: 40, most: true, decimals: 1, unit: "MiB"},
		row{what: "server, idle CPU", figure: server + "Program cpu-%-idle", aim: 0.5, most: true, decimals: 1, unit: "%"},
	)
	for _, round := range []string{"1", "2", "3"} {
		all = append(all, row{what: "warm invocations with policies enforced, to without, 8 clients, round " + round, figure: server + "Enforcement/enforced/" + round + " req/s", base: server + "Enforcement/open/" + round + " req/s", aim: 0.97, decimals: 2, unit: "x"})
	}
	for _, c := range []string{"1", "16", "128"} {
		accept := server + "Accept/c=" + c
		all = append(all, row{what: "asynchronous invocations accepted, " + c + " clients, to the same rows in the store alone", figure: accept + "/mayfly events/s", base: accept + "/kv events/s", decimals: 2, unit: "x"})
	}
	all = append(all, row{what: "asynchronous invocations accepted and run, 16 clients", figure: server + "Drain events/s", unit: "/s"})
	for _, by := range []struct{ name, what string }{{"url", "a function URL"}, {"api", "InvokeWithResponseStream"}} {
		all = append(all,
			row{what: "first byte of a stream, by " + by.what + ", to a reverse proxy", figure: server + "FirstByte/" + by.name + " p50-us", base: server + "FirstByte/proxy p50-us", most: true, decimals: 2, unit: "x"},
			row{what: "throughput of a stream of 100 MiB, by " + by.what + ", to a reverse proxy", figure: server + "Throughput/" + by.name + " MB/s", base: server + "Throughput/proxy MB/s", decimals: 2, unit: "x"},
		)
	}
	all = append(all, queueRows(server)...)
	all = append(all, mappingRows(server)...)
	for _, n := range []string{"16", "128"} {
		all = append(all, row{what: "durable commits, " + n + " writers, to raw Pebble", figure: kv + "Commit/kv/writers=" + n + " commits/s", base: kv + "Commit/raw/writers=" + n + " commits/s", aim: 0.7, decimals: 2, unit: "x"})
	}
	const kinesis = "./internal/service/kinesis "
	for _, n := range []string{"500", "1"} {
		for _, c := range []string{"1", "16", "128"} {
			put := "/records=" + n + "/clients=" + c + " commits/s"
			all = append(all, row{what: "Kinesis, puts of " + n + " records of 1 KiB, " + c + " clients, to raw Pebble", figure: kinesis + "Put/kinesis" + put, base: kinesis + "Put/raw" + put, aim: 0.7, decimals: 2, unit: "x"})
		}
	}
	all = append(all,
		row{what: "Kinesis, reads of 1,000 records of 1 KiB, to a scan of Pebble", figure: kinesis + "Get/kinesis records/s", base: kinesis + "Get/raw records/s", decimals: 2, unit: "x"},
		row{what: "Kinesis, from a put to a reader that waited, beside 1,000 that wait", figure: kinesis + "Wake us-late", most: true, decimals: 1, unit: "us"},
	)
	for _, c := range []string{"allowed", "conditions", "variables", "denied"} {
		all = append(all, row{what: "policy evaluation, 50 statements, " + c, figure: "./internal/lang/iampolicy Evaluate/" + c + " ns/op", aim: 20_000, most: true, unit: "ns"})
	}
	all = append(all, row{what: "authorization of an invocation, 50 statements", figure: "./internal/authorize AuthorizeInvoke/user/50_statements ns/op", aim: 20_000, most: true, unit: "ns"})
	return all
}

// queueRows are those of queues and topics. Messages have 1 KiB.
func queueRows(server string) (all []row) {
	levels := []struct{ name, what string }{{"gate", "in-process"}, {"http", "over HTTP"}}
	for _, by := range []struct{ n, what string }{{"1", "one by one"}, {"10", "by ten"}} {
		for _, c := range []string{"1", "16", "128"} {
			clients := c + " clients"
			if c == "1" {
				clients = "1 client"
			}
			at := server + "Queue/c=" + c + "/by=" + by.n + "/"
			for _, level := range levels {
				for _, operation := range []struct{ name, what, base string }{
					{"send", "messages sent", "send"}, {"receive", "messages received", "send"}, {"delete", "messages deleted", "send"}, {"cycle", "messages sent, received and deleted", "cycle"},
				} {
					r := row{what: operation.what + ", " + by.what + ", " + clients + ", " + level.what + ", to commits of raw Pebble", decimals: 2, unit: "x",
						figure: at + level.name + "/" + operation.name + " msgs/s", base: at + "raw/" + operation.base + " msgs/s"}
					if operation.name == "send" && c != "1" {
						r.aim = 0.7
					}
					all = append(all, r)
				}
			}
			for _, operation := range []struct{ name, what string }{{"send", "sent"}, {"receive", "received"}, {"delete", "deleted"}, {"cycle", "sent, received and deleted"}} {
				all = append(all, row{what: "messages " + operation.what + ", " + by.what + ", " + clients + ", to moto_server", aim: 10, decimals: 1, unit: "x",
					figure: at + "http/" + operation.name + " msgs/s", base: at + "moto/" + operation.name + " msgs/s"})
			}
		}
		for _, groups := range []struct{ n, what string }{{"1", "one group"}, {"1000", "1,000 groups"}} {
			for _, level := range levels {
				at, raw := server+"FIFO/groups="+groups.n+"/by="+by.n+"/"+level.name, server+"Queue/c=16/by="+by.n+"/raw/"
				all = append(all,
					row{what: "FIFO messages sent, " + by.what + ", 16 clients, " + groups.what + ", " + level.what + ", to commits of raw Pebble", decimals: 2, unit: "x", figure: at + "/send msgs/s", base: raw + "send msgs/s"},
					row{what: "FIFO messages received and deleted by ten, 16 clients, " + groups.what + ", " + level.what + ", sent " + by.what, unit: "/s", figure: at + "/drain msgs/s"})
			}
		}
	}
	return append(all,
		row{what: "deliveries of a topic to ten queues, 16 clients, to commits of raw Pebble by ten", decimals: 2, unit: "x", figure: server + "FanOut/mayfly msgs/s", base: server + "FanOut/raw msgs/s"},
		row{what: "deliveries of a topic to ten queues, 16 clients, to moto_server", aim: 10, decimals: 1, unit: "x", figure: server + "FanOut/mayfly msgs/s", base: server + "FanOut/moto msgs/s"},
		row{what: "CPU seconds in 20 s of 1,000 clients that wait for a message, the idle server's off", aim: 0.2, most: true, decimals: 2, unit: "s", figure: server + "EmptyPolls cpu-s/20s", less: server + "EmptyPolls idle-cpu-s/20s"},
	)
}

// mappingRows are those of event source mappings. Records have 100 bytes.
func mappingRows(server string) (all []row) {
	sources := []struct{ name, what, base string }{{"kinesis", "a shard", "kinesis"}, {"fanout", "a shard with enhanced fan-out", "kinesis"}, {"sqs", "a queue", "sqs"}}
	for _, s := range sources {
		for _, batch := range []struct{ n, what string }{{"1", "one by one"}, {"10", "by 10"}, {"100", "by 100"}, {"10000", "by 10,000"}} {
			at := server + "EventSource/" + s.name + "/batch=" + batch.n
			r := row{what: "records of " + s.what + " through a function, " + batch.what + ", to reading them alone", decimals: 2, unit: "x",
				figure: at + " records/s", base: server + "EventSource/" + s.base + "/source records/s"}
			if batch.n == "100" || batch.n == "10000" {
				r.aim = 0.8
			}
			all = append(all, r, row{what: "CPU of a record of " + s.what + " through a function, " + batch.what + ", the function's included", decimals: 1, unit: "us", figure: at + " cpu-us/record"})
		}
	}
	for _, s := range sources {
		at := server + "RecordLatency/" + s.name
		all = append(all,
			row{what: "a record of " + s.what + ", from before it is put to the warm function's start, median", figure: at + " p50-us", aim: 5000, most: true, unit: "us"},
			row{what: "the same, the 99th percentile", figure: at + " p99-us", unit: "us"},
			row{what: "the same, median, to that of an invocation", figure: at + " p50-us", base: server + "RecordLatency/invoke p50-us", decimals: 2, unit: "x"})
	}
	return append(all,
		row{what: "memory of 1,000 idle event source mappings", figure: server + "IdleMappings MiB", aim: 20, most: true, decimals: 1, unit: "MiB"},
		row{what: "CPU of 1,000 idle event source mappings, in a second", figure: server + "IdleMappings cpu-ms/s", aim: 2, most: true, decimals: 1, unit: "ms"},
		row{what: "the latest of 40 of them to have its record at its function", figure: server + "IdleMappings latest-wake-ms", aim: 50, most: true, decimals: 1, unit: "ms"},
	)
}

func table(results map[string]float64) {
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "what\tfigure\tbaseline\tresult\taim\t")
	for _, r := range rows() {
		figure, ok := results[r.figure]
		if !ok {
			continue
		}
		base, result := "", figure
		if r.less != "" {
			less, ok := results[r.less]
			if !ok {
				continue
			}
			base, result = "-"+strconv.FormatFloat(less, 'f', 1, 64), figure-less
		}
		if r.base != "" {
			b, ok := results[r.base]
			if !ok || b == 0 {
				continue
			}
			base, result = strconv.FormatFloat(b, 'f', 1, 64), figure/b
		}
		aim, verdict := "", ""
		if r.aim != 0 {
			sign, met := "at least", result >= r.aim
			if r.most {
				sign, met = "at most", result <= r.aim
			}
			aim = fmt.Sprintf("%s %v%s", sign, r.aim, r.unit)
			if !met {
				verdict = "missed"
			}
		}
		fmt.Fprintf(w, "%s\t%.1f\t%s\t%.*f%s\t%s\t%s\n", r.what, figure, base, r.decimals, result, r.unit, aim, verdict)
	}
	w.Flush()
}
