package api

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/dlreconcile/dlreconcile/engine/provider"
	"github.com/dlreconcile/dlreconcile/engine/store"
)

// ResetRequest is the body of POST /v1/overlays/reset.
type ResetRequest struct {
	// Machine whose overlays are discarded, those that are Unreadable too: hardware address,
	// address, or name. Either this or Unreadable must be said.
	Machine string `json:"machine,omitempty"`
	// Unreadable is the ID of the one overlay that is discarded, and that cannot be read.
	Unreadable string `json:"unreadable,omitempty"`
	// Export, by its name without digest; "" means those of all.
	Export string `json:"export,omitempty"`
	// Force drops the connections of those that are attached first.
	Force bool `json:"force,omitempty"`
}

// PromoteRequest is the body of POST /v1/overlays/promote.
type PromoteRequest struct {
	// Machine and Export as in ResetRequest; the machine must have one such overlay.
	Machine string `json:"machine"`
	Export  string `json:"export,omitempty"`
	// Live makes the artifact of what the disk is at one moment while it is in use.
	Live bool `json:"live,omitempty"`
}

// overlays answers GET /v1/overlays?machine=NAME&export=NAME&unreadable=ID.
func (s *Server) overlays(w http.ResponseWriter, r *http.Request) {
	list := []provider.Overlay{}
	if s.Overlays != nil {
		list = append(list, s.Overlays.Overlays(overlayQuery(r))...)
	}
	reply(w, list)
}

func overlayQuery(r *http.Request) provider.OverlayQuery {
	v := r.URL.Query()
	return provider.OverlayQuery{Machine: v.Get("machine"), Export: v.Get("export"), Unreadable: v.Get("unreadable")}
}

// diffOverlays answers GET /v1/overlays/diff?machine=NAME&export=NAME&unreadable=ID&files=BOOL. The names of a
// machine's files are not for everybody.
func (s *Server) diffOverlays(w http.ResponseWriter, r *http.Request) {
	files, err := strconv.ParseBool(r.URL.Query().Get("files"))
	if err != nil && r.URL.Query().Get("files") != "" {
		problem(w, http.StatusBadRequest, fmt.Errorf("files: want true or false"))
		return
	}
	if files && !s.allowed(w, r, RoleOperator, "the files of "+r.URL.Query().Get("machine")) {
		return
	}
	if s.Overlays == nil {
		overlayProblem(w, provider.ErrNoOverlay)
		return
	}
	if files { // which copies images
		if !s.copies.TryLock() {
			problem(w, http.StatusServiceUnavailable, errCopying)
			return
		}
		defer s.copies.Unlock()
	}
	list, err := s.Overlays.DiffOverlays(r.Context(), overlayQuery(r), files)
	if err != nil {
		overlayProblem(w, err)
		return
	}
	reply(w, list)
}

func (s *Server) resetOverlays(w http.ResponseWriter, r *http.Request) {
	var req ResetRequest
	if !decode(w, r, &req, maxBody) {
		return
	}
	if req.Machine != "" && req.Unreadable != "" {
		problem(w, http.StatusBadRequest, errors.New("machine, unreadable: say one of them"))
		return
	}
	whose := cmp.Or(req.Machine, req.Unreadable)
	if !s.named(w, whose) {
		return
	}
	q := provider.OverlayQuery{Machine: req.Machine, Export: req.Export, Unreadable: req.Unreadable}
	// It is not left half done because whoever ordered it does not wait.
	ctx, cancel := context.WithTimeoutCause(context.WithoutCancel(r.Context()), resetWait, errors.New("the machine's last requests take too long"))
	defer cancel()
	list, err := s.Overlays.ResetOverlays(ctx, q, req.Force)
	if len(list) > 0 || err != nil {
		s.Engine.Ordered(store.TriggerReset, actor(r.Context()), []string{whose}, "", err)
	}
	if err != nil {
		overlayProblem(w, err)
		return
	}
	reply(w, append([]provider.Overlay{}, list...))
}

func (s *Server) promoteOverlay(w http.ResponseWriter, r *http.Request) {
	var req PromoteRequest
	if !decode(w, r, &req, maxBody) || !s.named(w, req.Machine) {
		return
	}
	if !s.copies.TryLock() {
		problem(w, http.StatusServiceUnavailable, errCopying)
		return
	}
	defer s.copies.Unlock()
	q := provider.OverlayQuery{Machine: req.Machine, Export: req.Export}
	// Who goes away gives it up: what was copied is removed.
	made, err := s.Overlays.PromoteOverlay(r.Context(), q, req.Live)
	s.Engine.Ordered(store.TriggerPromote, actor(r.Context()), []string{req.Machine}, made.Sealed.Root.Digest, err)
	if err != nil {
		overlayProblem(w, err)
		return
	}
	reply(w, made)
}

// resetWait is how long a reset waits for the end of connections that it dropped: what
// they were doing is a few requests to the disk.
const resetWait = 10 * time.Second

var errCopying = errors.New("a disk is being copied for another order: try again when that is done")

// named reports whether an order says whose overlay it is about, and answers when not.
func (s *Server) named(w http.ResponseWriter, machine string) bool {
	switch {
	case machine == "":
		problem(w, http.StatusBadRequest, errors.New("machine: say whose overlay is meant"))
	case s.Overlays == nil:
		overlayProblem(w, provider.ErrNoOverlay)
	default:
		return true
	}
	return false
}

func overlayProblem(w http.ResponseWriter, err error) {
	code := http.StatusInternalServerError
	switch {
	case errors.Is(err, provider.ErrNoOverlay):
		code = http.StatusNotFound
	case errors.Is(err, provider.ErrAttached), errors.Is(err, provider.ErrWhich), errors.Is(err, provider.ErrUnclean):
		code = http.StatusConflict
	}
	problem(w, code, err)
}
