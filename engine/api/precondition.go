package api

import (
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
)

// etag is the entity tag of a generation: what an order was decided on.
func etag(generation uint64) string { return fmt.Sprintf("\"%d\"", generation) }

// decidedOn gives the one generation that the request's If-Match names; nil: it leaves
// it open.
func decidedOn(r *http.Request) *uint64 {
	given := r.Header.Values("If-Match")
	if len(given) != 1 {
		return nil
	}
	n, err := strconv.ParseUint(strings.Trim(given[0], `"`), 10, 64)
	if err != nil || etag(n) != given[0] {
		return nil
	}
	return &n
}

// matches reports whether the request's If-Match names the generation that is served
// (RFC 9110, Section 13.1.1), and answers when not: 428 (RFC 6585, Section 3) when it
// names none, 412 when it names others.
func (s *Server) matches(w http.ResponseWriter, r *http.Request) bool {
	given := r.Header.Values("If-Match")
	have := s.Engine.Generation()
	if len(given) == 0 {
		problem(w, http.StatusPreconditionRequired, fmt.Errorf("say what this was decided on: If-Match: %s is the generation that is served now (the ETag of GET /v1/status is always that), and If-Match: * is any", etag(have)))
		return false
	}
	text := strings.Join(given, ", ")
	for tag := range strings.SplitSeq(text, ",") {
		switch strings.TrimSpace(tag) {
		case "*", etag(have):
			return true
		}
	}
	// Read to its end, or the client finds a closed socket before it looks for an answer.
	_, _ = io.Copy(io.Discard, http.MaxBytesReader(w, r.Body, maxApply))
	w.Header().Set("ETag", etag(have))
	problem(w, http.StatusPreconditionFailed, fmt.Errorf("generation %d is served now, and this was decided on %s: look at what has changed (status, history), and decide again", have, text))
	return false
}
