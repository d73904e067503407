package edge

import (
	"net/http"
	"slices"

	"github.com/mayflyhq/mayfly/internal/aws/apierr"
)

// cors says what browsers may do. It reports false if it has answered: a preflight, or a request that a page which may
// not sends with nobody's knowledge. Where signatures are verified such a page can do no harm; in development mode it
// could run code.
func (e *Edge) cors(w http.ResponseWriter, r *http.Request) bool {
	origin := r.Header.Get("Origin")
	site := r.Header.Get("Sec-Fetch-Site")
	if origin == "" && (site == "" || site == "none") { // not from a page
		return true
	}
	allowed := slices.Contains(e.opts.Origins, "*") || origin != "" && slices.Contains(e.opts.Origins, origin)
	if !allowed {
		if e.opts.Dev {
			e.refuse(w, r, apierr.New("AccessDeniedException", http.StatusForbidden, "Pages in a browser may not call this server. Allow the origin %q if this one should.", origin))
			return false
		}
		return true
	}
	h := w.Header()
	if origin != "" {
		h.Set("Access-Control-Allow-Origin", origin)
		h.Add("Vary", "Origin")
		h.Set("Access-Control-Expose-Headers", "*, Date, X-Amzn-Requestid, X-Amzn-Errortype, X-Amz-Function-Error, X-Amz-Log-Result, X-Amz-Executed-Version, ETag")
	}
	if r.Method != http.MethodOptions || r.Header.Get("Access-Control-Request-Method") == "" {
		return true
	}
	h.Set("Access-Control-Allow-Methods", "GET, HEAD, POST, PUT, PATCH, DELETE")
	if want := r.Header.Get("Access-Control-Request-Headers"); want != "" {
		h.Set("Access-Control-Allow-Headers", want)
	}
	h.Set("Access-Control-Max-Age", "7200")
	w.WriteHeader(http.StatusNoContent)
	return false
}
