package sigv4

import (
	"bytes"
	"cmp"
	"net/http"
	"slices"
	"strconv"
	"strings"
)

// A pathForm is one way to write the canonical path.
type pathForm int

const (
	pathTwice    pathForm = iota // the path as sent, encoded once more; dots and empty segments removed
	pathTwiceRaw                 // the same, with nothing removed: what several SDKs sign
	pathOnce                     // decoded and encoded once: S3, where keys may hold dots and empty segments
	pathAsSent
)

// pathForms returns the forms that a signature for the service may have used, the likeliest first.
func pathForms(service string) [2]pathForm {
	if isS3(service) {
		return [2]pathForm{pathOnce, pathAsSent}
	}
	return [2]pathForm{pathTwice, pathTwiceRaw}
}

// target splits the request target into its path and query exactly as sent. A client's request, which has no
// RequestURI, gives what will be sent.
func target(r *http.Request) (path, query string) {
	if r.RequestURI == "" {
		path, query = r.URL.EscapedPath(), r.URL.RawQuery
	} else {
		path, query, _ = strings.Cut(r.RequestURI, "?")
		if i := strings.Index(path, "://"); i > 0 && path[0] != '/' { // absolute form, as proxies are asked
			path = path[i+3:]
			if i = strings.IndexByte(path, '/'); i >= 0 {
				path = path[i:]
			} else {
				path = ""
			}
		}
	}
	if path == "" {
		path = "/"
	}
	return path, query
}

// appendCanonical appends the canonical request. It reports false for a list of signed headers that is not in strictly
// ascending order, which no signer writes and which could repeat a long header without end.
func appendCanonical(b []byte, r *http.Request, s *Signature, form pathForm, payloadHash []byte) ([]byte, bool) {
	path, query := target(r)
	b = append(b, r.Method...)
	b = append(b, '\n')
	b = appendPath(b, path, form)
	b = append(b, '\n')
	if query != "" {
		b = appendQuery(b, query, s.Presigned)
	}
	b = append(b, '\n')
	last := ""
	for list := s.signedHeaders; list != ""; {
		var name string
		name, list, _ = strings.Cut(list, ";")
		if name <= last {
			return b, false
		}
		last = name
		b = appendHeader(b, r, name)
	}
	b = append(b, '\n')
	b = append(b, s.signedHeaders...)
	b = append(b, '\n')
	b = append(b, payloadHash...)
	return b, true
}

func appendPath(b []byte, path string, form pathForm) []byte {
	switch form {
	case pathTwice:
		if strings.Contains(path, "//") || strings.Contains(path, "/.") {
			path = removeDots(path)
		}
		return appendEncoded(b, path, true)
	case pathTwiceRaw:
		return appendEncoded(b, path, true)
	case pathOnce:
		if strings.IndexByte(path, '%') >= 0 {
			path = decode(path, false)
		}
		return appendEncoded(b, path, true)
	}
	return append(b, path...)
}

// removeDots removes empty, "." and ".." segments and keeps a final slash.
func removeDots(path string) string {
	var out []string
	segments := strings.Split(path, "/")
	for i, s := range segments {
		switch s {
		case "", ".":
		case "..":
			out = out[:max(0, len(out)-1)]
		default:
			out = append(out, s)
			continue
		}
		if i == len(segments)-1 && len(out) > 0 {
			out = append(out, "")
		}
	}
	return "/" + strings.Join(out, "/")
}

// appendQuery appends the parameters sorted by name and value, each decoded and encoded anew, without the signature
// itself.
func appendQuery(b []byte, query string, presigned bool) []byte {
	type param struct{ name, value string } // encoded
	var few [16]param
	params := few[:0]
	for query != "" {
		var pair string
		pair, query, _ = strings.Cut(query, "&")
		if pair == "" {
			continue
		}
		name, value, _ := strings.Cut(pair, "=")
		name, value = reencode(name), reencode(value)
		if presigned && name == "X-Amz-Signature" {
			continue
		}
		params = append(params, param{name, value})
	}
	slices.SortFunc(params, func(x, y param) int {
		return cmp.Or(strings.Compare(x.name, y.name), strings.Compare(x.value, y.value))
	})
	for i, p := range params {
		if i > 0 {
			b = append(b, '&')
		}
		b = append(b, p.name...)
		b = append(b, '=')
		b = append(b, p.value...)
	}
	return b
}

// reencode decodes a part of a query and encodes it as SigV4 wants it; text that is so already is returned as it is.
func reencode(s string) string {
	plain := true
	for i := 0; i < len(s); i++ {
		if c := s[i]; c == '%' && i+2 < len(s) && isUpperHex(s[i+1]) && isUpperHex(s[i+2]) && !unreserved(unhex(s[i+1])<<4|unhex(s[i+2])) {
			i += 2
		} else if !unreserved(c) {
			plain = false
			break
		}
	}
	if plain {
		return s
	}
	return string(appendEncoded(nil, decode(s, true), false))
}

func isUpperHex(c byte) bool { return c >= '0' && c <= '9' || c >= 'A' && c <= 'F' }

// decode resolves %XX, and + as a space in a query. What is not an escape stays as it is.
func decode(s string, query bool) string {
	b := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '%' && i+2 < len(s) && isHex(s[i+1]) && isHex(s[i+2]):
			b = append(b, unhex(s[i+1])<<4|unhex(s[i+2]))
			i += 2
		case c == '+' && query:
			b = append(b, ' ')
		default:
			b = append(b, c)
		}
	}
	return string(b)
}

func isHex(c byte) bool { return isUpperHex(c) || c >= 'a' && c <= 'f' }

func unhex(c byte) byte {
	switch {
	case c <= '9':
		return c - '0'
	case c <= 'F':
		return c - 'A' + 10
	}
	return c - 'a' + 10
}

func unreserved(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' || c == '_' || c == '.' || c == '~'
}

func appendEncoded(b []byte, s string, keepSlash bool) []byte {
	const digits = "0123456789ABCDEF"
	for i := 0; i < len(s); i++ {
		if c := s[i]; unreserved(c) || c == '/' && keepSlash {
			b = append(b, c)
		} else {
			b = append(b, '%', digits[c>>4], digits[c&15])
		}
	}
	return b
}

// appendHeader appends "name:value\n", with the values of a repeated header joined by commas.
func appendHeader(b []byte, r *http.Request, name string) []byte {
	b = append(b, name...)
	b = append(b, ':')
	switch {
	case strings.EqualFold(name, "host") || name == ":authority":
		host := r.Host
		if host == "" && r.URL != nil {
			host = r.URL.Host
		}
		b = append(b, host...)
	case strings.EqualFold(name, "content-length"): // the server side keeps it in a field, the client side only there
		if r.ContentLength >= 0 {
			b = strconv.AppendInt(b, r.ContentLength, 10)
		}
	case strings.EqualFold(name, "transfer-encoding"):
		b = append(b, strings.Join(r.TransferEncoding, ",")...)
	default:
		var few [64]byte
		for i, v := range r.Header[string(appendHeaderKey(few[:0], name))] {
			if i > 0 {
				b = append(b, ',')
			}
			b = appendTrimmed(b, v)
		}
	}
	return append(b, '\n')
}

// appendHeaderKey writes name as net/http keeps it: Each-Word-In-Capitals.
func appendHeaderKey(b []byte, name string) []byte {
	up := true
	for i := 0; i < len(name); i++ {
		c := name[i]
		if up && c >= 'a' && c <= 'z' {
			c -= 'a' - 'A'
		} else if !up && c >= 'A' && c <= 'Z' {
			c += 'a' - 'A'
		}
		up = c == '-'
		b = append(b, c)
	}
	return b
}

// appendTrimmed appends v without spaces around it and with runs of spaces inside it made one.
func appendTrimmed(b []byte, v string) []byte {
	v = strings.Trim(v, " \t")
	start := len(b)
	for i := 0; i < len(v); i++ {
		if v[i] == ' ' && bytes.HasSuffix(b[start:], []byte(" ")) {
			continue
		}
		b = append(b, v[i])
	}
	return b
}
