package fleet

import (
	"bytes"
	"cmp"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"strings"
	"sync"
	"time"

	"github.com/mayflyhq/mayfly/internal/runtimeapi"
)

// tailSize is how much of an invocation's log a caller gets with LogType Tail.
const tailSize = 4 << 10

// journal writes the log of one environment: to its log stream, to subscribers of telemetry, and to the caller who
// wants the tail. Its methods may be called concurrently; those of one caller keep their order.
type journal struct {
	env    *environment
	stream *logStream
	json   bool
	system int // lowest level of system lines

	mu     sync.Mutex
	tail   []byte
	tailed bool
}

// open names the stream as Lambda does.
func (l *journal) open(e *environment, now time.Time) {
	var b [16]byte
	rand.Read(b[:])
	name := streamName(e.fn, now, hex.EncodeToString(b[:]))
	l.env = e
	l.stream = e.f.logs.open(e.fn.Account, e.fn.Region, e.fn.LogGroup, name)
	l.json = e.fn.LogFormat == "JSON"
	l.system = systemLevel(e.fn.SystemLogLevel)
}

// streamName is Lambda's name for a log stream. In groups that functions can share it tells the function too.
func streamName(fn *Function, now time.Time, id string) string {
	day := now.UTC().Format("2006/01/02/")
	if fn.LogGroup == "/aws/lambda/"+fn.Name {
		return day + "[" + fn.Version + "]" + id
	}
	return day + fn.Name + "[" + fn.Version + "][" + id + "]"
}

func (l *journal) close() {
	if l.stream != nil {
		l.stream.close()
	}
}

// beginTail starts to collect what the caller will get.
func (l *journal) beginTail() {
	l.mu.Lock()
	l.tail, l.tailed = nil, true
	l.mu.Unlock()
}

// endTail returns the end of what was written since beginTail.
func (l *journal) endTail() []byte {
	l.mu.Lock()
	defer l.mu.Unlock()
	t := l.tail
	l.tail, l.tailed = nil, false
	return t[max(0, len(t)-tailSize):]
}

// write adds one event. With wait it blocks while the store is behind.
func (l *journal) write(at time.Time, message string, wait bool) {
	l.mu.Lock()
	if l.tailed {
		l.tail = append(l.tail, message...)
		if !strings.HasSuffix(message, "\n") {
			l.tail = append(l.tail, '\n')
		}
		if n := len(l.tail); n > 4*tailSize {
			l.tail = append(l.tail[:0], l.tail[n-tailSize:]...)
		}
	}
	l.mu.Unlock()
	l.stream.append(at, message, wait)
}

// function takes a line that the runtime process printed. It blocks while the store is behind, and with it the function.
func (l *journal) function(at time.Time, message []byte) { l.application(at, "function", message) }

// extension takes a line that an extension printed.
func (l *journal) extension(at time.Time, message []byte) { l.application(at, "extension", message) }

func (l *journal) application(at time.Time, kind string, message []byte) {
	// AWS: events of the log keep the newline that ended the line, records of telemetry have none.
	var record any = string(bytes.TrimSuffix(message, []byte("\n")))
	if l.json {
		var object json.RawMessage
		if json.Unmarshal(message, &object) == nil && len(object) > 0 && object[0] == '{' {
			if !l.wanted(message) {
				return
			}
			record = object
		}
	}
	l.env.api.Emit(runtimeapi.Event{Time: at, Type: kind, Record: record})
	for text := string(message); text != ""; {
		piece := text[:min(len(text), maxEvent+1)] // a line with its newline
		text = text[len(piece):]
		l.write(at, piece, true)
	}
}

// wanted filters records of JSON by their level, as the platform does for runtimes that do not do it themselves.
func (l *journal) wanted(record []byte) bool {
	var r struct {
		Level    string
		LogLevel string `json:"log_level"` // what Python's client calls it in the errors of handlers
	}
	if json.Unmarshal(record, &r) != nil {
		return true
	}
	level := applicationLevel(cmp.Or(r.Level, r.LogLevel))
	if level < 0 {
		level = applicationLevel("INFO")
	}
	return level >= max(applicationLevel(l.env.fn.ApplicationLogLevel), 0)
}

func applicationLevel(name string) int {
	switch strings.ToUpper(name) {
	case "TRACE":
		return 0
	case "DEBUG":
		return 1
	case "INFO":
		return 2
	case "WARN", "WARNING":
		return 3
	case "ERROR":
		return 4
	case "FATAL", "CRITICAL":
		return 5
	}
	return -1
}

// platform records an event of the platform: for subscribers and in the log of a function that logs JSON as it is, in
// other logs as the line, if there is one.
func (l *journal) platform(at time.Time, kind string, level int, record any, line string) {
	l.env.api.Emit(runtimeapi.Event{Time: at, Type: kind, Record: record})
	l.systemLine(at, kind, level, record, line)
}

// notify takes an event that the Runtime API has told its subscribers itself. It never blocks.
func (l *journal) notify(ev runtimeapi.Event) {
	line := ""
	if x, ok := ev.Record.(runtimeapi.ExtensionRecord); ok {
		line = extensionLine(&x)
	}
	l.systemLine(ev.Time, ev.Type, levelInfo, ev.Record, line)
}

func (l *journal) systemLine(at time.Time, kind string, level int, record any, line string) {
	if !l.json {
		l.text(at, line)
		return
	}
	if level < l.system {
		return
	}
	b, err := json.Marshal(struct {
		Time   string `json:"time"`
		Type   string `json:"type"`
		Record any    `json:"record"`
	}{at.UTC().Format(lineTime), kind, record})
	if err == nil {
		l.write(at, string(b), false)
	}
}

// text writes a line that only logs of text have.
func (l *journal) text(at time.Time, line string) {
	if !l.json && line != "" {
		l.write(at, strings.TrimSuffix(line, "\n")+"\n", false)
	}
}
