package fleet

import (
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/mayflyhq/mayfly/internal/runtimeapi"
)

// The records of platform events, as the Telemetry API's schema of 2022-12-13 has them. The same values are the system
// lines of functions that log JSON; functions that log text get the lines of text.

type initStart struct {
	InitializationType string `json:"initializationType"`
	Phase              string `json:"phase"` // "init" or "invoke"
	RuntimeVersion     string `json:"runtimeVersion,omitempty"`
	RuntimeVersionARN  string `json:"runtimeVersionArn,omitempty"`
	FunctionName       string `json:"functionName"`
	FunctionVersion    string `json:"functionVersion"`
}

type initRuntimeDone struct {
	InitializationType string `json:"initializationType"`
	Phase              string `json:"phase"`
	Status             string `json:"status"`
	ErrorType          string `json:"errorType,omitempty"`
}

type initReport struct {
	InitializationType string      `json:"initializationType"`
	Phase              string      `json:"phase"`
	Status             string      `json:"status"`
	ErrorType          string      `json:"errorType,omitempty"`
	Metrics            initMetrics `json:"metrics"`
}

type initMetrics struct {
	DurationMs millis `json:"durationMs"`
}

type start struct {
	RequestID string   `json:"requestId"`
	Version   string   `json:"version"`
	Tracing   *tracing `json:"tracing,omitempty"`
}

type runtimeDone struct {
	RequestID string             `json:"requestId"`
	Status    string             `json:"status"`
	ErrorType string             `json:"errorType,omitempty"`
	Metrics   runtimeDoneMetrics `json:"metrics"`
	Spans     []span             `json:"spans,omitempty"`
	Tracing   *tracing           `json:"tracing,omitempty"`
}

type runtimeDoneMetrics struct {
	DurationMs    millis `json:"durationMs"`
	ProducedBytes int64  `json:"producedBytes"`
}

type report struct {
	RequestID string        `json:"requestId"`
	Status    string        `json:"status"`
	ErrorType string        `json:"errorType,omitempty"`
	Metrics   reportMetrics `json:"metrics"`
	Tracing   *tracing      `json:"tracing,omitempty"`

	// platform reports a failure of the environment rather than of the handler: only those appear in the line of text.
	platform bool
}

type reportMetrics struct {
	DurationMs       millis `json:"durationMs"`
	BilledDurationMs int64  `json:"billedDurationMs"`
	MemorySizeMB     int    `json:"memorySizeMB"`
	MaxMemoryUsedMB  int64  `json:"maxMemoryUsedMB"`
	InitDurationMs   millis `json:"initDurationMs,omitempty"`
}

type span struct {
	Name       string `json:"name"` // responseLatency, responseDuration, runtimeOverhead
	Start      string `json:"start"`
	DurationMs millis `json:"durationMs"`
}

type tracing struct {
	Type  string `json:"type"`
	Value string `json:"value"`
}

func traceOf(header string) *tracing {
	if header == "" {
		return nil
	}
	return &tracing{"X-Amzn-Trace-Id", header}
}

// millis is a duration that prints as milliseconds with at most three decimals.
type millis time.Duration

func (m millis) MarshalJSON() ([]byte, error) {
	return json.Marshal(math.Round(float64(m)/1e3) / 1e3)
}

// text is the form of log lines: two decimals.
func (m millis) text() string { return string(m.appendText(nil)) }

func (m millis) appendText(b []byte) []byte {
	return append(strconv.AppendFloat(b, float64(m)/1e6, 'f', 2, 64), " ms"...)
}

// billed rounds d up to whole milliseconds.
func billed(d time.Duration) int64 {
	return int64((d + time.Millisecond - 1) / time.Millisecond)
}

func (r *initStart) line() string {
	return "INIT_START Runtime Version: " + r.RuntimeVersion + "\tRuntime Version ARN: " + r.RuntimeVersionARN
}

func (r *initReport) line() string {
	s := "INIT_REPORT Init Duration: " + r.Metrics.DurationMs.text() + "\tPhase: " + r.Phase + "\tStatus: " + r.Status
	if r.ErrorType != "" && r.Status != "timeout" {
		s += "\tError Type: " + r.ErrorType
	}
	return s
}

func (r *start) line() string { return "START RequestId: " + r.RequestID + " Version: " + r.Version }

func (r *report) line() string {
	b := make([]byte, 0, 256)
	b = append(append(b, "REPORT RequestId: "...), r.RequestID...)
	b = append(r.Metrics.DurationMs.appendText(append(b, "\tDuration: "...)), '\t')
	b = append(strconv.AppendInt(append(b, "Billed Duration: "...), r.Metrics.BilledDurationMs, 10), " ms\t"...)
	b = append(strconv.AppendInt(append(b, "Memory Size: "...), int64(r.Metrics.MemorySizeMB), 10), " MB\t"...)
	b = append(strconv.AppendInt(append(b, "Max Memory Used: "...), r.Metrics.MaxMemoryUsedMB, 10), " MB\t"...)
	if r.Metrics.InitDurationMs > 0 {
		b = append(r.Metrics.InitDurationMs.appendText(append(b, "Init Duration: "...)), '\t')
	}
	if r.platform {
		b = append(append(b, "Status: "...), r.Status...)
		if r.ErrorType != "" && r.Status != "timeout" {
			b = append(append(b, "\tError Type: "...), r.ErrorType...)
		}
	}
	return string(b)
}

func extensionLine(x *runtimeapi.ExtensionRecord) string {
	return fmt.Sprintf("EXTENSION\tName: %s\tState: %s\tEvents: [%s]", x.Name, x.State, strings.Join(x.Events, ", "))
}

// System log levels, lowest first.
const (
	levelDebug = iota
	levelInfo
	levelWarn
)

func systemLevel(name string) int {
	switch name {
	case "DEBUG":
		return levelDebug
	case "WARN":
		return levelWarn
	}
	return levelInfo
}

// recorded reports whether anybody reads the records of platform events, and not only the lines of text.
func (l *journal) recorded() bool { return l.json || l.env.api.Subscribed() }
