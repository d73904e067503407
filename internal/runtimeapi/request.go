package runtimeapi

import (
	"bytes"
	"errors"
	"io"
)

const (
	readBuffer   = 4 << 10 // bytes that a connection keeps for reading while it is idle
	maxHead      = 1 << 20 // bytes of a request line with its headers, and of a chunked body's trailers
	maxChunkLine = 4 << 10 // bytes of the line that announces a chunk
	exactBody    = 1 << 20 // a body announced up to this size gets its buffer at once
)

// Errors of reading a request. errMalformed costs the sender its connection, errTruncated tells that the connection ended
// inside a body.
var (
	errMalformed   = errors.New("malformed request")
	errHeadTooLong = errors.New("request head too long")
	errVersion     = errors.New("unsupported HTTP version")
	errTruncated   = errors.New("truncated request body")
	errTooLarge    = errors.New("request body too large")
)

// request is the head of a request: the few headers that the APIs know. The path points into the reader's buffer and is
// valid until the body is read.
type request struct {
	method method
	path   []byte
	close  bool // the connection ends after the reply

	contentType   string
	errorType     string // Lambda-Runtime-Function-Error-Type
	xrayCause     string // Lambda-Runtime-Function-XRay-Error-Cause
	responseMode  string // Lambda-Runtime-Function-Response-Mode
	extension     string // Lambda-Extension-Name
	features      string // Lambda-Extension-Accept-Feature
	identifier    string // Lambda-Extension-Identifier
	extensionType string // Lambda-Extension-Function-Error-Type

	length   int64 // Content-Length, -1 if there was none
	chunked  bool
	expect   bool // Expect: 100-continue
	minor    byte // HTTP/1.minor
	keep     bool // Connection: keep-alive
	encoding bool // there was a Transfer-Encoding
}

type method byte

const (
	methodOther method = iota
	methodGet
	methodPost
	methodPut
)

// reader reads requests from a connection through a buffer that grows with a long head and shrinks after it.
type reader struct {
	src        io.Reader
	buf        []byte
	start, end int // unread bytes are buf[start:end]
}

// fill reads more, growing the buffer up to limit unread bytes; errHeadTooLong says that they are reached.
func (r *reader) fill(limit int) error {
	if r.start == r.end {
		r.start, r.end = 0, 0
	}
	if r.end == len(r.buf) {
		switch {
		case r.end-r.start >= limit:
			return errHeadTooLong
		case r.start > 0:
			r.end = copy(r.buf, r.buf[r.start:r.end])
			r.start = 0
		case len(r.buf) == 0:
			r.buf = make([]byte, readBuffer)
		default:
			r.buf = append(r.buf, make([]byte, len(r.buf))...)
		}
	}
	for range 8 {
		n, err := r.src.Read(r.buf[r.end:])
		r.end += n
		if n > 0 {
			return nil
		}
		if err != nil {
			return err
		}
	}
	return io.ErrNoProgress
}

// shrink gives up a buffer that a long head made large, between requests.
func (r *reader) shrink() {
	if len(r.buf) > readBuffer && r.end-r.start <= readBuffer {
		small := make([]byte, readBuffer)
		r.end = copy(small, r.buf[r.start:r.end])
		r.start, r.buf = 0, small
	}
}

// head reads the head of the next request into q. io.EOF says that the connection ended between requests.
func (r *reader) head(q *request) error {
	*q = request{length: -1}
	for scanned := 0; ; {
		b := r.buf[r.start:r.end]
		if len(b) > 0 && (b[0] == '\r' || b[0] == '\n') { // empty lines before a request are allowed
			r.start++
			scanned = 0
			continue
		}
		if n := headEnd(b, scanned); n > 0 {
			if n > maxHead {
				return errHeadTooLong
			}
			r.start += n
			return q.parse(b[:n])
		}
		scanned = max(0, len(b)-3)
		if err := r.fill(maxHead); err != nil {
			if err == io.EOF && len(b) > 0 {
				return io.ErrUnexpectedEOF
			}
			return err
		}
	}
}

// headEnd returns the length of the head that b begins with, its empty line included, or 0 if it is not complete.
func headEnd(b []byte, from int) int {
	for {
		i := bytes.IndexByte(b[from:], '\n')
		if i < 0 {
			return 0
		}
		from += i + 1
		switch rest := b[from:]; {
		case len(rest) >= 1 && rest[0] == '\n':
			return from + 1
		case len(rest) >= 2 && rest[0] == '\r' && rest[1] == '\n':
			return from + 2
		}
	}
}

// cutLine returns the line that b begins with, without its end, and what follows. b holds complete lines.
func cutLine(b []byte) (line, rest []byte) {
	i := bytes.IndexByte(b, '\n')
	line, rest = b[:i], b[i+1:]
	if i > 0 && line[i-1] == '\r' {
		line = line[:i-1]
	}
	return line, rest
}

// parse reads a complete head.
func (q *request) parse(head []byte) error {
	line, rest := cutLine(head)
	if err := q.parseLine(line); err != nil {
		return err
	}
	for {
		line, rest = cutLine(rest)
		if len(line) == 0 {
			break
		}
		name, value, ok := cutHeader(line)
		if !ok {
			return errMalformed
		}
		if err := q.header(name, value); err != nil {
			return err
		}
	}
	if q.encoding && q.length >= 0 { // the two disagree about where the body ends
		return errMalformed
	}
	if q.minor == 0 {
		q.close = q.close || !q.keep
		if q.encoding {
			return errMalformed
		}
	}
	return nil
}

// parseLine reads the request line.
func (q *request) parseLine(line []byte) error {
	verb, rest, ok := bytes.Cut(line, []byte(" "))
	target, version, ok2 := bytes.Cut(rest, []byte(" "))
	if !ok || !ok2 || len(verb) == 0 || len(target) == 0 {
		return errMalformed
	}
	for _, c := range verb {
		if !isToken(c) {
			return errMalformed
		}
	}
	for _, c := range target {
		if c <= ' ' || c == 0x7f {
			return errMalformed
		}
	}
	switch string(version) {
	case "HTTP/1.1":
		q.minor = 1
	case "HTTP/1.0":
	default:
		if !bytes.HasPrefix(version, []byte("HTTP/")) {
			return errMalformed
		}
		return errVersion
	}
	switch string(verb) {
	case "GET":
		q.method = methodGet
	case "POST":
		q.method = methodPost
	case "PUT":
		q.method = methodPut
	}
	if target[0] != '/' { // the absolute form, as sent to a proxy
		_, after, ok := bytes.Cut(target, []byte("://"))
		if !ok {
			return errMalformed
		}
		i := bytes.IndexByte(after, '/')
		if i < 0 {
			return errMalformed
		}
		target = after[i:]
	}
	if i := bytes.IndexByte(target, '?'); i >= 0 {
		target = target[:i]
	}
	q.path = target
	return nil
}

// cutHeader splits a header line. Folded lines and blanks before the colon are malformed.
func cutHeader(line []byte) (name, value []byte, ok bool) {
	i := bytes.IndexByte(line, ':')
	if i <= 0 {
		return nil, nil, false
	}
	name, value = line[:i], trimBlanks(line[i+1:])
	for _, c := range name {
		if !isToken(c) {
			return nil, nil, false
		}
	}
	for _, c := range value {
		if c < ' ' && c != '\t' || c == 0x7f {
			return nil, nil, false
		}
	}
	return name, value, true
}

func trimBlanks(b []byte) []byte {
	for len(b) > 0 && (b[0] == ' ' || b[0] == '\t') {
		b = b[1:]
	}
	for len(b) > 0 && (b[len(b)-1] == ' ' || b[len(b)-1] == '\t') {
		b = b[:len(b)-1]
	}
	return b
}

// isToken reports whether c may stand in a method or a header's name.
func isToken(c byte) bool {
	switch {
	case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
		return true
	}
	switch c {
	case '!', '#', '$', '%', '&', '\'', '*', '+', '-', '.', '^', '_', '`', '|', '~':
		return true
	}
	return false
}

// header takes in one header.
func (q *request) header(name, value []byte) error {
	switch len(name) {
	case len("Expect"):
		if equalFold(name, "Expect") {
			q.expect = equalFold(value, "100-continue")
		}
	case len("Connection"):
		if equalFold(name, "Connection") {
			for option := range bytes.SplitSeq(value, []byte(",")) {
				option = trimBlanks(option)
				q.close = q.close || equalFold(option, "close")
				q.keep = q.keep || equalFold(option, "keep-alive")
			}
		}
	case len("Content-Type"):
		if equalFold(name, "Content-Type") {
			q.contentType = mediaType(value)
		}
	case len("Content-Length"):
		if equalFold(name, "Content-Length") {
			n, ok := parseLength(value)
			if !ok || q.length >= 0 && q.length != n {
				return errMalformed
			}
			q.length = n
		}
	case len("Transfer-Encoding"):
		if equalFold(name, "Transfer-Encoding") {
			if q.encoding || !equalFold(value, "chunked") {
				return errMalformed
			}
			q.encoding, q.chunked = true, true
		}
	case len("Lambda-Extension-Name"):
		if equalFold(name, "Lambda-Extension-Name") {
			q.extension = string(value)
		}
	case len("Lambda-Extension-Identifier"):
		if equalFold(name, "Lambda-Extension-Identifier") {
			q.identifier = string(value)
		}
	case len("Lambda-Extension-Accept-Feature"):
		if equalFold(name, "Lambda-Extension-Accept-Feature") {
			q.features = string(value)
		}
	case len("Lambda-Runtime-Function-Error-Type"):
		if equalFold(name, "Lambda-Runtime-Function-Error-Type") {
			q.errorType = string(value)
		}
	case len("Lambda-Extension-Function-Error-Type"):
		if equalFold(name, "Lambda-Extension-Function-Error-Type") {
			q.extensionType = string(value)
		}
	case len("Lambda-Runtime-Function-Response-Mode"):
		if equalFold(name, "Lambda-Runtime-Function-Response-Mode") {
			q.responseMode = string(value)
		}
	case len("Lambda-Runtime-Function-XRay-Error-Cause"):
		if equalFold(name, "Lambda-Runtime-Function-XRay-Error-Cause") {
			q.xrayCause = string(value)
		}
	}
	return nil
}

// mediaType returns value as a string, without allocating for the usual ones.
func mediaType(value []byte) string {
	switch string(value) {
	case "application/json":
		return "application/json"
	case "application/octet-stream":
		return "application/octet-stream"
	}
	return string(value)
}

// equalFold compares ASCII without regard to case.
func equalFold(b []byte, s string) bool {
	if len(b) != len(s) {
		return false
	}
	for i := range b {
		x, y := b[i], s[i]
		if x != y && (x|0x20 != y|0x20 || x|0x20 < 'a' || x|0x20 > 'z') {
			return false
		}
	}
	return true
}

// parseLength reads a Content-Length: digits and nothing else.
func parseLength(b []byte) (int64, bool) {
	if len(b) == 0 || len(b) > 18 {
		return 0, false
	}
	var n int64
	for _, c := range b {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = n*10 + int64(c-'0')
	}
	return n, true
}

// body reads the body of one request. Its errors stay.
type body struct {
	r         *reader
	proceed   func() error // sends 100 Continue before the first read; nil if not asked for
	left      int64        // bytes left of the body, or of the chunk if chunked
	chunked   bool
	inChunk   bool // a chunk began, so that a line end must follow its bytes
	done      bool
	err       error
	errorType string // trailer Lambda-Runtime-Function-Error-Type
	errorBody string // trailer Lambda-Runtime-Function-Error-Body, base64
}

// begin makes b the body of q.
func (b *body) begin(r *reader, q *request) {
	*b = body{r: r, chunked: q.chunked, left: max(q.length, 0)}
	b.done = !b.chunked && b.left == 0
}

// Read reads bytes of the body. io.EOF comes after its last byte and its trailers.
func (b *body) Read(p []byte) (int, error) {
	if b.err != nil {
		return 0, b.err
	}
	if b.done {
		return 0, io.EOF
	}
	if b.proceed != nil {
		proceed := b.proceed
		b.proceed = nil
		if b.r.start == b.r.end { // it did not wait for us otherwise
			if err := proceed(); err != nil {
				return 0, b.failed(err)
			}
		}
	}
	if b.chunked && b.left == 0 {
		if err := b.nextChunk(); err != nil {
			return 0, b.failed(err)
		}
		if b.done {
			return 0, io.EOF
		}
	}
	if int64(len(p)) > b.left {
		p = p[:b.left]
	}
	var n int
	var err error
	if r := b.r; r.start < r.end {
		n = copy(p, r.buf[r.start:r.end])
		r.start += n
	} else if len(p) >= readBuffer || !b.chunked && int64(len(p)) == b.left {
		if n, err = r.src.Read(p); n > 0 {
			err = nil
		}
	} else if err = r.fill(maxHead); err == nil {
		n = copy(p, r.buf[r.start:r.end])
		r.start += n
	}
	if err != nil {
		return 0, b.failed(err)
	}
	b.left -= int64(n)
	b.done = !b.chunked && b.left == 0
	return n, nil
}

// failed makes err permanent. A connection that ends inside a body truncates it.
func (b *body) failed(err error) error {
	if err != errMalformed && err != errHeadTooLong {
		err = errTruncated
	}
	b.err = err
	return err
}

// line reads a line of a chunked body, at most limit bytes. It is valid until the next read.
func (b *body) line(limit int) ([]byte, error) {
	for scanned := 0; ; {
		r := b.r
		if i := bytes.IndexByte(r.buf[r.start+scanned:r.end], '\n'); i >= 0 {
			line, _ := cutLine(r.buf[r.start : r.start+scanned+i+1])
			r.start += scanned + i + 1
			return line, nil
		}
		if scanned = r.end - r.start; scanned > limit {
			return nil, errMalformed
		}
		if err := r.fill(maxHead); err != nil {
			return nil, err
		}
	}
}

// nextChunk reads the line that announces a chunk, and the trailers after the last one.
func (b *body) nextChunk() error {
	if b.inChunk {
		if line, err := b.line(2); err != nil {
			return err
		} else if len(line) != 0 {
			return errMalformed
		}
		b.inChunk = false
	}
	line, err := b.line(maxChunkLine)
	if err != nil {
		return err
	}
	size, digits := int64(0), 0
	for _, c := range line {
		var d byte
		switch {
		case '0' <= c && c <= '9':
			d = c - '0'
		case 'a' <= c|0x20 && c|0x20 <= 'f':
			d = c | 0x20 - 'a' + 10
		default:
			d = 16
		}
		if d == 16 {
			break
		}
		if digits++; digits > 15 {
			return errMalformed
		}
		size = size<<4 | int64(d)
	}
	if rest := trimBlanks(line[digits:]); digits == 0 || len(rest) > 0 && rest[0] != ';' {
		return errMalformed
	}
	if size > 0 {
		b.left, b.inChunk = size, true
		return nil
	}
	for total := 0; ; {
		line, err := b.line(maxHead)
		if err != nil {
			return err
		}
		if len(line) == 0 {
			b.done = true
			return nil
		}
		if total += len(line); total > maxHead {
			return errHeadTooLong
		}
		name, value, ok := cutHeader(line)
		switch {
		case !ok:
			return errMalformed
		case equalFold(name, "Lambda-Runtime-Function-Error-Type"):
			b.errorType = string(value)
		case equalFold(name, "Lambda-Runtime-Function-Error-Body"):
			b.errorBody = string(value)
		}
	}
}

// readAll reads the rest of the body into a buffer of its own. More than limit bytes give errTooLarge.
func (b *body) readAll(limit int64) ([]byte, error) {
	if !b.chunked && b.left > limit {
		return nil, errTooLarge
	}
	var buf []byte
	if !b.chunked && b.left <= exactBody {
		buf = make([]byte, 0, b.left)
	}
	for {
		if b.done {
			return buf, nil
		}
		if len(buf) == cap(buf) {
			grown := make([]byte, len(buf), min(max(512, 2*int64(cap(buf)), int64(len(buf))+min(b.left, 64<<10)), limit+1))
			copy(grown, buf)
			buf = grown
		}
		n, err := b.Read(buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		if int64(len(buf)) > limit {
			return nil, errTooLarge
		}
		if err != nil && err != io.EOF {
			return nil, err
		}
	}
}

// discard reads and drops up to limit bytes and reports whether the body ended within them.
func (b *body) discard(limit int64) bool {
	if b.done {
		return true
	}
	if b.err != nil || !b.chunked && b.left > limit {
		return false
	}
	var p [8 << 10]byte
	for limit >= 0 {
		n, err := b.Read(p[:])
		if limit -= int64(n); b.done {
			return true
		}
		if err != nil {
			return false
		}
	}
	return false
}
