package runtimeapi

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
)

// extensionState is where an extension is between its requests. The names appear in replies.
type extensionState string

const (
	extensionRegistered extensionState = "Registered"
	extensionReady      extensionState = "Ready"
	extensionRunning    extensionState = "Running"
	extensionInitFailed extensionState = "InitError"
	extensionExitFailed extensionState = "ExitError"
)

// Error types of replies to extensions.
const (
	missingIdentifier    = "Extension.MissingExtensionIdentifier"
	invalidIdentifier    = "Extension.InvalidExtensionIdentifier"
	unknownIdentifier    = "Extension.UnknownExtensionIdentifier"
	invalidExtensionName = "Extension.InvalidExtensionName"
	registrationClosed   = "Extension.RegistrationClosed"
	invalidState         = "Extension.InvalidExtensionState"
	missingHeader        = "Extension.MissingHeader"
	tooManyExtensions    = "Extension.TooManyExtensions"
	invalidEventType     = "Extension.InvalidEventType"
	invalidRequestFormat = "InvalidRequestFormat"
)

// Failure types of extensions that come from here.
const (
	ErrorExtensionInit = "Extension.InitError"
	ErrorExtensionExit = "Extension.ExitError"
)

const (
	maxExtensionName = 256      // bytes of an extension's name and of its error type
	maxSmallBody     = 64 << 10 // bytes of a registration or subscription
)

// extension is one registered extension. Guarded by Server.mu.
type extension struct {
	name     string
	id       string
	external bool
	invoke   bool // subscribed to INVOKE
	shutdown bool // subscribed to SHUTDOWN
	state    extensionState
	poll     *conn            // its open GET /event/next
	pending  *extensionAnswer // an event that no poll was there for
	owes     *Running         // the invocation that waits for its next poll
}

// Extension is a registered extension as Extensions saw it.
type Extension struct {
	Name     string
	External bool
	Invoke   bool   // subscribed to INVOKE
	Shutdown bool   // subscribed to SHUTDOWN
	State    string // Registered, Ready, Running, InitError, ExitError
}

// eventNames returns the names of the event types subscribed to, never nil.
func (e *extension) eventNames() []string {
	names := []string{}
	if e.invoke {
		names = append(names, "INVOKE")
	}
	if e.shutdown {
		names = append(names, "SHUTDOWN")
	}
	return names
}

// answer gives the event to the open poll, or keeps it for the next one.
func (e *extension) answer(body []byte, id string) (extensionAnswer, bool) {
	a := extensionAnswer{conn: e.poll, id: id, body: body}
	if e.poll == nil {
		e.pending = &a
		return a, false
	}
	e.poll = nil
	return a, true
}

// Extensions returns the registered extensions in the order of their registration.
func (s *Server) Extensions() []Extension {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := make([]Extension, 0, len(s.extensions))
	for _, e := range s.extensions {
		list = append(list, Extension{Name: e.name, External: e.external, Invoke: e.invoke, Shutdown: e.shutdown, State: string(e.state)})
	}
	return list
}

// newID returns a random UUID.
func newID() string { return uuid.NewString() }

// register serves POST /extension/register.
func (s *Server) register(c *conn) {
	name, features := c.req.extension, c.req.features
	if name == "" {
		c.refuse(statusForbidden, invalidExtensionName, "Empty extension name")
		return
	}
	if len(name) > maxExtensionName {
		c.refuse(statusForbidden, invalidExtensionName, fmt.Sprintf("Extension name is longer than %d bytes", maxExtensionName))
		return
	}
	var in struct {
		Events            []string `json:"events"`
		ConfigurationKeys []string `json:"configurationKeys"`
	}
	body, err := c.body.readAll(maxSmallBody)
	if err == nil {
		err = json.Unmarshal(body, &in)
	}
	if err != nil {
		c.refuse(statusForbidden, invalidRequestFormat, err.Error())
		return
	}
	if len(in.ConfigurationKeys) != 0 {
		c.refuse(statusForbidden, invalidRequestFormat, "configurationKeys are no longer supported: use environment variables")
		return
	}
	e := &extension{name: name, id: newID(), external: slices.Contains(s.opt.Extensions, name), state: extensionRegistered}
	for _, event := range in.Events {
		switch {
		case event == "INVOKE":
			e.invoke = true
		case event == "SHUTDOWN" && e.external:
			e.shutdown = true
		case event == "SHUTDOWN":
			c.refuse(statusForbidden, invalidEventType, "SHUTDOWN: ShutdownEventNotSupportedForInternalExtension")
			return
		default:
			c.refuse(statusForbidden, invalidEventType, event+": ErrorInvalidEventType")
			return
		}
	}
	s.mu.Lock()
	if s.outdated(c) {
		s.mu.Unlock()
		return
	}
	if errorType, message := s.admit(e); errorType != "" {
		s.mu.Unlock()
		c.refuse(statusForbidden, errorType, message)
		return
	}
	s.mu.Unlock()

	out := struct {
		FunctionName    string `json:"functionName"`
		FunctionVersion string `json:"functionVersion"`
		Handler         string `json:"handler"`
		AccountID       string `json:"accountId,omitempty"`
	}{s.opt.FunctionName, s.opt.FunctionVersion, s.opt.Handler, ""}
	for feature := range strings.SplitSeq(features, ",") {
		if strings.TrimSpace(feature) == "accountId" {
			out.AccountID = s.opt.AccountID
		}
	}
	c.reply("200 OK", "\r\nLambda-Extension-Identifier: "+e.id, "application/json", string(encode(out)))
}

// admit adds e, or says why not. The caller holds mu.
func (s *Server) admit(e *extension) (errorType, message string) {
	for _, other := range s.extensions {
		switch {
		case other.name != e.name:
		case e.external:
			return invalidState, transitionMessage(other.state, extensionRegistered, e.name)
		default:
			return invalidState, "Extension with this name already registered"
		}
	}
	if s.state != started {
		return registrationClosed, "Extension registration closed already"
	}
	if len(s.extensions) >= MaxExtensions {
		return tooManyExtensions, fmt.Sprintf("Extension limit (%d) reached", MaxExtensions)
	}
	s.extensions = append(s.extensions, e)
	if e.external {
		n := 0
		for _, other := range s.extensions {
			if other.external {
				n++
			}
		}
		if n == len(s.opt.Extensions) {
			close(s.registered)
		}
	}
	return "", ""
}

func transitionMessage(from, to extensionState, extension string) string {
	return fmt.Sprintf("State transition from %s to %s failed for extension %s. Error: State transition is not allowed", from, to, extension)
}

// checkIdentifier refuses a request without a well-formed identifier.
func (c *conn) checkIdentifier() bool {
	switch id := c.req.identifier; {
	case id == "":
		c.refuse(statusForbidden, missingIdentifier, "Missing Lambda-Extension-Identifier header")
	case uuid.Validate(id) != nil:
		c.refuse(statusForbidden, invalidIdentifier, "Invalid Lambda-Extension-Identifier")
	default:
		return true
	}
	return false
}

// identified finds the extension of a request and runs f under mu, which returns what to reply with if it refuses. It
// reports whether f ran and accepted.
func (s *Server) identified(c *conn, f func(e *extension) (errorType, message string)) bool {
	s.mu.Lock()
	if s.outdated(c) {
		s.mu.Unlock()
		return false
	}
	errorType, message := unknownIdentifier, "Unknown extension "+c.req.identifier
	for _, e := range s.extensions {
		if e.id == c.req.identifier {
			errorType, message = f(e)
			break
		}
	}
	s.mu.Unlock()
	if errorType != "" {
		c.refuse(statusForbidden, errorType, message)
	}
	return errorType == ""
}

// extensionNext serves GET /extension/event/next: it opens the extension's long poll, or answers it if there is an event.
func (s *Server) extensionNext(c *conn) {
	if !c.checkIdentifier() {
		return
	}
	now := time.Now()
	var d delivery
	ok := s.identified(c, func(e *extension) (string, string) {
		if e.pending != nil {
			a := *e.pending
			a.conn, e.pending = c, nil
			c.polling = true
			d.extensions = []extensionAnswer{a}
			return "", ""
		}
		switch {
		case e.state == extensionRegistered || e.state == extensionRunning:
		case e.state == extensionReady && e.poll == nil: // the client gave up on its poll and tries again
		default:
			return invalidState, transitionMessage(e.state, extensionReady, e.id)
		}
		e.state = extensionReady
		e.poll = c
		c.polling = true
		if r := e.owes; r != nil {
			e.owes = nil
			if r == s.running {
				r.waiting--
				r.times.ExtensionNext = now
				r.checkDone()
			}
		}
		s.checkReady()
		d = s.deliver()
		return "", ""
	})
	if ok {
		d.send()
	}
}

// extensionInitError serves POST /extension/init/error.
func (s *Server) extensionInitError(c *conn) {
	s.extensionError(c, extensionInitFailed, ErrorExtensionInit)
}

// extensionExitError serves POST /extension/exit/error.
func (s *Server) extensionExitError(c *conn) {
	s.extensionError(c, extensionExitFailed, ErrorExtensionExit)
}

func (s *Server) extensionError(c *conn, to extensionState, failure string) {
	if !c.checkIdentifier() {
		return
	}
	detail := c.req.extensionType
	if detail == "" {
		c.refuse(statusForbidden, missingHeader, "Lambda-Extension-Function-Error-Type not found")
		return
	}
	body, err := c.body.readAll(s.opt.MaxResponse)
	if err != nil {
		body = nil
	}
	if s.identified(c, func(e *extension) (string, string) {
		switch {
		case e.state == to:
			return "", "" // said before
		case e.state == extensionRegistered:
		case to == extensionExitFailed && (e.state == extensionReady || e.state == extensionRunning):
		default:
			return invalidState, transitionMessage(e.state, to, e.id)
		}
		e.state = to
		if e.poll != nil {
			e.poll.close()
		}
		s.fail(Failure{Source: e.name, Type: failure, Detail: strings.ToValidUTF8(detail[:min(len(detail), maxExtensionName)], ""),
			Body: body, ContentType: c.req.contentType, At: time.Now()})
		return "", ""
	}) {
		c.accepted()
	}
}

// invokeEvent is the INVOKE event for extensions.
func invokeEvent(inv *Invocation) []byte {
	type tracing struct {
		Type  string `json:"type"`
		Value string `json:"value"`
	}
	event := struct {
		EventType          string   `json:"eventType"`
		DeadlineMs         int64    `json:"deadlineMs"`
		RequestID          string   `json:"requestId"`
		InvokedFunctionARN string   `json:"invokedFunctionArn"`
		Tracing            *tracing `json:"tracing,omitempty"`
	}{"INVOKE", inv.Deadline.UnixMilli(), inv.RequestID, inv.InvokedARN, nil}
	if inv.TraceID != "" {
		event.Tracing = &tracing{"X-Amzn-Trace-Id", inv.TraceID}
	}
	return encode(event)
}

// answerEvent answers an extension's poll.
func (c *conn) answerEvent(id string, body []byte) {
	b := append(c.out[:0], "HTTP/1.1 200 OK\r\nContent-Type: application/json"...)
	b = appendHeader(b, "Lambda-Extension-Event-Identifier", id)
	c.out = fmt.Appendf(b, "\r\nContent-Length: %d\r\n\r\n", len(body))
	c.answer(body)
}

// Reasons for Shutdown.
const (
	ShutdownSpindown = "SPINDOWN"
	ShutdownTimeout  = "TIMEOUT"
	ShutdownFailure  = "FAILURE"
)

// Shutdown sends the SHUTDOWN event to the external extensions that subscribed to it, now or when they next ask, and
// returns them. The owner has ended the invocation, kills at once the processes of all others, and at the deadline, or as
// they end, those of the ones returned. Nothing is invoked until Reset.
func (s *Server) Shutdown(reason string, deadline time.Time) []Extension {
	body := encode(struct {
		EventType      string `json:"eventType"`
		DeadlineMs     int64  `json:"deadlineMs"`
		ShutdownReason string `json:"shutdownReason"`
	}{"SHUTDOWN", deadline.UnixMilli(), reason})
	var d delivery
	var told []Extension
	s.mu.Lock()
	if s.closed || s.stopping {
		s.mu.Unlock()
		return nil
	}
	s.stopping = true
	for _, e := range s.extensions {
		if !e.shutdown || e.state == extensionInitFailed || e.state == extensionExitFailed {
			continue
		}
		told = append(told, Extension{Name: e.name, External: true, Invoke: e.invoke, Shutdown: true, State: string(e.state)})
		e.state = extensionRunning
		if a, ok := e.answer(body, ""); ok {
			d.extensions = append(d.extensions, a)
		}
	}
	s.wg.Add(1) // for the goroutines of send
	s.mu.Unlock()
	d.send()
	s.wg.Done()
	return told
}
