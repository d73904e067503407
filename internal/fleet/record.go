package fleet

import (
	"encoding/json"
	"fmt"
	"math"
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
func (m millis) text() string { return fmt.Sprintf("%.2f ms", float64(m)/1e6) }

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
	var b strings.Builder
	fmt.Fprintf(&b, "REPORT RequestId: %s\tDuration: %s\tBilled Duration: %d ms\tMemory Size: %d MB\tMax Memory Used: %d MB\t",
		r.RequestID, r.Metrics.DurationMs.text(), r.Metrics.BilledDurationMs, r.Metrics.MemorySizeMB, r.Metrics.MaxMemoryUsedMB)
	if r.Metrics.InitDurationMs > 0 {
		b.WriteString("Init Duration: " + r.Metrics.InitDurationMs.text() + "\t")
	}
	if r.platform {
		b.WriteString("Status: " + r.Status)
		if r.ErrorType != "" && r.Status != "timeout" {
			b.WriteString("\tError Type: " + r.ErrorType)
		}
	}
	return b.String()
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
