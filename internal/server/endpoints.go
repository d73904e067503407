package server

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/mayflyhq/mayfly/internal/blob"
	"github.com/mayflyhq/mayfly/internal/call"
	"github.com/mayflyhq/mayfly/internal/edge"
	"github.com/mayflyhq/mayfly/internal/meter"
	"github.com/mayflyhq/mayfly/internal/service/sns"
)

// downloadPath is where archives are downloaded from.
const downloadPath = "/_mayfly/code/"

// endpoints are Mayfly's own, beside the APIs.
func (s *Server) endpoints() map[string]edge.Internal {
	return map[string]edge.Internal{
		"GET " + downloadPath + "{digest}":      {Access: edge.Presigned, Handler: http.HandlerFunc(s.download)},
		"GET " + sns.CertificatePath + "{file}": {Access: edge.Open, Handler: http.HandlerFunc(s.certificate)},
		"GET /_mayfly/queues":                   {Access: edge.RootOnly, Handler: http.HandlerFunc(s.queues)},
		"GET /_mayfly/usage":                    {Access: edge.RootOnly, Handler: http.HandlerFunc(s.usage)},
		"GET /_mayfly/refusals":                 {Access: edge.RootOnly, Handler: http.HandlerFunc(s.refusals)},
		"GET /_mayfly/deliveries":               {Access: edge.RootOnly, Handler: http.HandlerFunc(s.deliveries)},
		"GET /_mayfly/mappings":                 {Access: edge.RootOnly, Handler: http.HandlerFunc(s.listMappings)},
		"GET /_mayfly/policy":                   {Access: edge.RootOnly, Handler: http.HandlerFunc(s.proposal)},
		"GET /_mayfly/streams":                  {Access: edge.RootOnly, Handler: http.HandlerFunc(s.streams)},
	}
}

// downloads makes the URLs in Code.Location.
type downloads struct{ server *Server }

// URL implements lambda.Downloads.
func (d downloads) URL(ctx context.Context, digest blob.Digest, valid time.Duration) (string, error) {
	return d.server.presigner.URL(ctx, downloadPath+digest.String(), valid)
}

// download gives an archive to whoever has its URL.
func (s *Server) download(w http.ResponseWriter, r *http.Request) {
	digest, err := blob.ParseDigest(r.PathValue("digest"))
	if err != nil {
		http.NotFound(w, r)
		return
	}
	f, err := s.core.Load().blobs.Open(r.Context(), digest)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		http.NotFound(w, r)
		return
	case err != nil:
		s.log.Error("archive not read", "digest", digest, "err", err)
		http.Error(w, "the archive cannot be read", http.StatusInternalServerError)
		return
	}
	defer f.Close()
	w.Header().Set("Content-Type", "application/zip")
	http.ServeContent(w, r, "", time.Time{}, f)
}

// certificate gives the certificate that SNS's messages are signed with to whoever asks.
func (s *Server) certificate(w http.ResponseWriter, r *http.Request) {
	b, err := s.core.Load().sns.Certificate(r.Context(), r.PathValue("file"))
	switch {
	case err != nil:
		s.log.Error("certificate not read", "err", err)
		http.Error(w, "the certificate cannot be read", http.StatusInternalServerError)
	case b == nil:
		http.NotFound(w, r)
	default:
		w.Header().Set("Content-Type", "application/x-pem-file")
		w.Write(b)
	}
}

// streams answers with what the streams of the caller's account hold and who reads them.
func (s *Server) streams(w http.ResponseWriter, r *http.Request) {
	all, err := s.core.Load().kinesis.Stats(r.Context(), call.From(r.Context()).Account)
	if err != nil {
		s.log.Error("streams not read", "err", err)
		http.Error(w, "the streams cannot be read", http.StatusInternalServerError)
		return
	}
	answer(w, all)
}

// url is where the server is reached, as far as it can tell.
func (s *Server) url() string {
	if s.config.URL != "" {
		return strings.TrimSuffix(s.config.URL, "/")
	}
	addr := s.config.Listen
	if s.ln != nil {
		addr = s.ln.Addr().String()
	}
	host, port, err := net.SplitHostPort(addr)
	if ip := net.ParseIP(host); err == nil && (host == "" || ip != nil && ip.IsUnspecified()) {
		addr = net.JoinHostPort("localhost", port)
	}
	return "http://" + addr
}

// queues answers with the queues of the caller's account.
func (s *Server) queues(w http.ResponseWriter, r *http.Request) {
	all, err := s.core.Load().sqs.Overviews(r.Context(), call.From(r.Context()).Account)
	if err != nil {
		s.log.Error("queues not read", "err", err)
		http.Error(w, "the queues cannot be read", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(all)
}

// usage answers with the bill of the caller's account; from and to are days.
func (s *Server) usage(w http.ResponseWriter, r *http.Request) {
	lines, err := s.core.Load().meter.Read(r.Context(), call.From(r.Context()).Account, r.FormValue("from"), r.FormValue("to"))
	if err != nil {
		s.log.Error("usage not read", "err", err)
		http.Error(w, "the usage cannot be read", http.StatusInternalServerError)
		return
	}
	if lines == nil {
		lines = []meter.Line{}
	}
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(lines)
}
