package sigv4

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"hash"
	"io"
	"net/http"
	"strconv"
	"strings"
)

const (
	minChunk       = 8 << 10 // of signed chunks, the last excepted
	maxChunkHeader = 256     // one line before a chunk
	maxTrailers    = 16 << 10
)

// Body is a request body that is verified while it is read. What was read counts only once Read returned io.EOF: until
// then it may turn out to be forged, short or long, which Read reports as an *Error, and must be thrown away.
type Body struct {
	src     io.Reader
	closer  io.Closer
	trailer http.Header
}

// Read reads decoded content.
func (b *Body) Read(p []byte) (int, error) { return b.src.Read(p) }

// Close closes the request's own body.
func (b *Body) Close() error { return b.closer.Close() }

// Trailer returns the trailing headers of a chunked body, such as X-Amz-Checksum-Crc32. It is complete after io.EOF,
// and nil for bodies without.
func (b *Body) Trailer() http.Header { return b.trailer }

// Open checks the signature of a request whose body is a stream and returns the decoded body, which goes on verifying
// as it is read: against the digest that the request states, or chunk by chunk, and against x-amz-decoded-content-length.
// The error is an *Error, as Verify's.
func (v *Verifier) Open(r *http.Request, s *Signature, secret string) (*Body, error) {
	stated := s.ContentSHA256
	if stated == "" {
		if !s.Presigned {
			return nil, errorf(Unsupported, "Missing required header for this request: x-amz-content-sha256")
		}
		stated = UnsignedPayload
	}
	switch stated {
	case UnsignedPayload, StreamingPayload, StreamingPayloadTrailer, StreamingUnsignedTrailer:
	default:
		if len(stated) != 64 || strings.IndexFunc(stated, func(c rune) bool { return c >= 0x80 || !isHex(byte(c)) }) >= 0 {
			return nil, errorf(Unsupported, "x-amz-content-sha256 must be UNSIGNED-PAYLOAD, STREAMING-UNSIGNED-PAYLOAD-TRAILER, STREAMING-AWS4-HMAC-SHA256-PAYLOAD, STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER or a valid sha256 value.")
		}
	}
	key, err := v.verify(r, s, secret, []byte(stated))
	if err != nil {
		return nil, err
	}
	if r.Body == nil {
		r.Body = http.NoBody
	}
	body := r.Body
	if !strings.HasPrefix(stated, "STREAMING-") {
		if stated == UnsignedPayload {
			return &Body{src: body, closer: body}, nil
		}
		return &Body{src: &digestReader{src: body, sum: sha256.New(), stated: strings.ToLower(stated)}, closer: body}, nil
	}
	c, err := newChunkReader(r, stated)
	if err != nil {
		return nil, err
	}
	if stated != StreamingUnsignedTrailer {
		c.key, c.previous, c.sum = key, s.signature, sha256.New()
		c.prefix = "\n" + s.amzDate + "\n" + string(s.appendScope(nil)) + "\n"
	}
	return &Body{src: c, closer: body, trailer: c.trailer}, nil
}

// Decode returns the content of a Streaming body without verifying any signature, for a server that demands none.
func Decode(r *http.Request, s *Signature) (*Body, error) {
	c, err := newChunkReader(r, s.ContentSHA256)
	if err != nil {
		return nil, err
	}
	return &Body{src: c, closer: r.Body, trailer: c.trailer}, nil
}

func newChunkReader(r *http.Request, stated string) (*chunkReader, error) {
	length, err := strconv.ParseInt(r.Header.Get("X-Amz-Decoded-Content-Length"), 10, 64)
	if err != nil || length < 0 {
		return nil, errorf(IncompleteBody, "You must provide the Content-Length HTTP header.")
	}
	c := &chunkReader{src: bufio.NewReaderSize(r.Body, 4096), left: length}
	if stated != StreamingPayload {
		c.trailer = make(http.Header)
	}
	return c, nil
}

// digestReader compares the digest of all it read with the stated one at the end.
type digestReader struct {
	src    io.Reader
	sum    hash.Hash
	stated string
	err    error
}

func (d *digestReader) Read(p []byte) (int, error) {
	if d.err != nil {
		return 0, d.err
	}
	n, err := d.src.Read(p)
	d.sum.Write(p[:n])
	if err == io.EOF {
		var b [64]byte
		hex.Encode(b[:], d.sum.Sum(nil))
		if !equal(b[:], d.stated) {
			err = contentMismatch()
		}
	}
	d.err = err
	return n, err
}

// chunkReader decodes the aws-chunked encoding: hexadecimal size, in the signed forms ";chunk-signature=" and the
// signature, CRLF, content, CRLF, up to a chunk of size 0, and trailing headers in the forms that have them.
type chunkReader struct {
	src   *bufio.Reader
	left  int64 // decoded content still to come
	chunk int64 // of it in the current chunk
	begun bool  // a chunk is open
	err   error

	key      *signingKey // nil if chunks are not signed
	previous string      // signature of the request, then of each chunk
	stated   string      // signature of the current chunk
	prefix   string      // time and scope, as strings to sign have them
	sum      hash.Hash   // of the current chunk
	trailer  http.Header // nil in the form without
}

var errChunks = &Error{Kind: IncompleteBody, Message: "The request body is not encoded in chunks as x-amz-content-sha256 announces."}

func errShort() *Error {
	return errorf(IncompleteBody, "You did not provide the number of bytes specified by the Content-Length HTTP header")
}

func (c *chunkReader) Read(p []byte) (int, error) {
	if c.err != nil {
		return 0, c.err
	}
	if len(p) == 0 {
		return 0, nil
	}
	n, err := c.read(p)
	switch {
	case err == io.EOF:
	case errors.Is(err, io.ErrUnexpectedEOF):
		err = errShort()
	}
	c.err = err
	return n, err
}

func (c *chunkReader) read(p []byte) (int, error) {
	for c.chunk == 0 {
		if c.begun {
			if err := c.endChunk(); err != nil {
				return 0, err
			}
		}
		last, err := c.nextChunk()
		if err != nil {
			return 0, err
		}
		if last {
			return 0, c.end()
		}
	}
	n, err := c.src.Read(p[:min(int64(len(p)), c.chunk)])
	if c.sum != nil {
		c.sum.Write(p[:n])
	}
	c.chunk -= int64(n)
	c.left -= int64(n)
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

// line reads up to CRLF, which it leaves out.
func (c *chunkReader) line(limit int) (string, error) {
	b, err := c.src.ReadSlice('\n')
	if err == io.EOF {
		return "", io.ErrUnexpectedEOF
	}
	if err == bufio.ErrBufferFull || err == nil && len(b) > limit {
		return "", errChunks
	}
	if err != nil {
		return "", err
	}
	return string(bytes.TrimSuffix(b[:len(b)-1], []byte("\r"))), nil
}

// nextChunk reads the line before a chunk and reports whether it is the last, empty one, whose signature it checks.
func (c *chunkReader) nextChunk() (last bool, err error) {
	line, err := c.line(maxChunkHeader)
	if err != nil {
		return false, err
	}
	size, extension, _ := strings.Cut(line, ";")
	n, err := strconv.ParseInt(size, 16, 64)
	if err != nil || n < 0 {
		return false, errChunks
	}
	if c.key != nil {
		var ok bool
		if c.stated, ok = strings.CutPrefix(extension, "chunk-signature="); !ok {
			return false, errChunks
		}
		c.sum.Reset()
	}
	if n > c.left || n == 0 && c.left > 0 {
		return false, errShort()
	}
	if c.key != nil && n > 0 && n < minChunk && n < c.left {
		return false, errorf(IncompleteBody, "Only the last chunk is allowed to have a size less than 8192 bytes")
	}
	c.chunk, c.begun = n, true
	if n == 0 {
		return true, c.checkChunk()
	}
	return false, nil
}

// endChunk reads the CRLF after a chunk's content and checks its signature.
func (c *chunkReader) endChunk() error {
	if line, err := c.line(2); err != nil || line != "" {
		return orMalformed(err)
	}
	c.begun = false
	return c.checkChunk()
}

func orMalformed(err error) error {
	if err == nil {
		return errChunks
	}
	return err
}

func (c *chunkReader) checkChunk() error {
	if c.key == nil {
		return nil
	}
	b := make([]byte, 0, 512)
	b = append(b, "AWS4-HMAC-SHA256-PAYLOAD"...)
	b = append(b, c.prefix...)
	b = append(b, c.previous...)
	b = append(b, '\n')
	b = append(b, EmptyPayload...)
	b = append(b, '\n')
	b = hex.AppendEncode(b, c.sum.Sum(nil))
	if !c.key.matches(b, c.stated) {
		return &Error{Kind: Mismatch, Message: MessageMismatch, StringToSign: string(b)}
	}
	c.previous = c.stated
	return nil
}

// end reads what follows the last chunk: trailing headers, in the signed form with their signature, and an empty line.
func (c *chunkReader) end() error {
	var signed strings.Builder
	var signature string
	total := 0
	for {
		line, err := c.line(4096)
		if err == io.ErrUnexpectedEOF && c.trailer == nil {
			break // some clients leave out the last CRLF
		}
		if err != nil {
			return err
		}
		if line == "" {
			break
		}
		name, value, ok := strings.Cut(line, ":")
		if total += len(line); !ok || c.trailer == nil || total > maxTrailers {
			return errChunks
		}
		name, value = strings.ToLower(strings.TrimSpace(name)), strings.TrimSpace(value)
		if name == "x-amz-trailer-signature" {
			signature = value
			continue
		}
		signed.WriteString(name + ":" + value + "\n")
		c.trailer.Add(name, value)
	}
	if c.key != nil && c.trailer != nil {
		sum := sha256.Sum256([]byte(signed.String()))
		b := append([]byte("AWS4-HMAC-SHA256-TRAILER"), c.prefix+c.previous+"\n"...)
		b = hex.AppendEncode(b, sum[:])
		if !c.key.matches(b, signature) {
			return &Error{Kind: Mismatch, Message: MessageMismatch, StringToSign: string(b)}
		}
	}
	return io.EOF
}
