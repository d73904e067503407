package edge

import (
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/mayflyhq/mayfly/internal/aws/api/lambdaapi"
)

// crossOrigin says what a page of another origin may do with a function URL.
type crossOrigin struct {
	cors      *lambdaapi.Cors
	origin    string
	foreign   bool // the request is from a page
	allowed   bool
	preflight bool
}

func newCrossOrigin(cors *lambdaapi.Cors, r *http.Request) *crossOrigin {
	c := &crossOrigin{cors: cors, origin: r.Header.Get("Origin")}
	site := r.Header.Get("Sec-Fetch-Site")
	c.foreign = c.origin != "" || site != "" && site != "none"
	c.preflight = r.Method == http.MethodOptions && c.origin != "" && r.Header.Get("Access-Control-Request-Method") != ""
	if cors != nil && c.origin != "" {
		c.allowed = slices.ContainsFunc(cors.AllowOrigins, func(pattern string) bool { return matchOrigin(pattern, c.origin) })
	}
	return c
}

// matchOrigin compares an origin with a pattern that may have a * in it.
func matchOrigin(pattern, origin string) bool {
	before, after, any := strings.Cut(pattern, "*")
	if !any {
		return strings.EqualFold(pattern, origin)
	}
	origin, before, after = strings.ToLower(origin), strings.ToLower(before), strings.ToLower(after)
	return len(origin) >= len(before)+len(after) && strings.HasPrefix(origin, before) && strings.HasSuffix(origin, after)
}

// mark sets the headers of an actual response. They go before the function's own.
func (c *crossOrigin) mark(h http.Header) {
	if c.cors == nil {
		return
	}
	if !slices.Contains(h.Values("Vary"), "Origin") {
		h.Add("Vary", "Origin")
	}
	if !c.allowed {
		return
	}
	credentials := c.cors.AllowCredentials != nil && *c.cors.AllowCredentials
	if slices.Contains(c.cors.AllowOrigins, "*") && !credentials {
		h.Set("Access-Control-Allow-Origin", "*")
	} else {
		h.Set("Access-Control-Allow-Origin", c.origin)
	}
	if credentials {
		h.Set("Access-Control-Allow-Credentials", "true")
	}
	if len(c.cors.ExposeHeaders) > 0 {
		h.Set("Access-Control-Expose-Headers", strings.Join(c.cors.ExposeHeaders, ","))
	}
}

// answer sets the headers of the answer to a preflight.
func (c *crossOrigin) answer(h http.Header) {
	c.mark(h)
	if !c.allowed {
		return
	}
	h.Del("Access-Control-Expose-Headers")
	if len(c.cors.AllowMethods) > 0 {
		h.Set("Access-Control-Allow-Methods", strings.Join(c.cors.AllowMethods, ","))
	}
	if len(c.cors.AllowHeaders) > 0 {
		h.Set("Access-Control-Allow-Headers", strings.Join(c.cors.AllowHeaders, ","))
	}
	if c.cors.MaxAge != nil {
		h.Set("Access-Control-Max-Age", strconv.Itoa(int(*c.cors.MaxAge)))
	}
}
