package server

import (
	"encoding/json"
	"net/http"
	"strconv"

	"github.com/mayflyhq/mayfly/internal/arn"
	"github.com/mayflyhq/mayfly/internal/authorize"
	"github.com/mayflyhq/mayfly/internal/call"
)

// refusals answers with the calls in the caller's account that were refused, newest first: at most last of them, and those of a principal.
func (s *Server) refusals(w http.ResponseWriter, r *http.Request) {
	last := 10
	if text := r.FormValue("last"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 {
			http.Error(w, "last is not a number of refusals", http.StatusBadRequest)
			return
		}
		last = n
	}
	answer(w, s.core.Load().authorizer.Refusals(call.From(r.Context()).Account, r.FormValue("principal"), last))
}

// proposal answers with the smallest policy for what a function, role or user did. What a function's log needs is part of it, since
// on AWS its role must allow that; here Mayfly stores the log itself.
func (s *Server) proposal(w http.ResponseWriter, r *http.Request) {
	account := call.From(r.Context()).Account
	subject, holder := r.FormValue("subject"), r.FormValue("holder")
	a, err := arn.Parse(subject)
	if h, err2 := arn.Parse(holder); err != nil || err2 != nil || a.Account != account || h.Account != account {
		http.Error(w, "subject and holder must be ARNs of the account", http.StatusBadRequest)
		return
	}
	var more []authorize.Use
	if group := r.FormValue("logGroup"); group != "" {
		group = arn.New("logs", a.Region, a.Account, "log-group:"+group).String()
		more = []authorize.Use{
			{Action: "logs:CreateLogGroup", Resource: group + ":*"},
			{Action: "logs:CreateLogStream", Resource: group + ":*"},
			{Action: "logs:PutLogEvents", Resource: group + ":*"},
		}
	}
	p, err := s.core.Load().authorizer.Propose(r.Context(), subject, holder, r.FormValue("denied") == "true", more...)
	if err != nil {
		s.log.Error("policy not proposed", "err", err)
		http.Error(w, "the policy cannot be made", http.StatusInternalServerError)
		return
	}
	answer(w, p)
}

func answer(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(v)
}
