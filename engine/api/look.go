package api

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/dlreconcile/dlreconcile/engine/provider"
	"github.com/dlreconcile/dlreconcile/engine/store"
)

// status answers GET /v1/status. With ?wait=SEQ it waits until the status is
// newer than that, or half a minute has passed.
func (s *Server) status(w http.ResponseWriter, r *http.Request) {
	st, changed := s.Engine.Status()
	if q := r.URL.Query().Get("wait"); q != "" {
		seq, err := strconv.ParseUint(q, 10, 64)
		if err != nil {
			problem(w, http.StatusBadRequest, fmt.Errorf("wait=%q: want a number", q))
			return
		}
		limit := time.NewTimer(30 * time.Second)
		defer limit.Stop()
		for st.Seq <= seq {
			select {
			case <-changed:
				st, changed = s.Engine.Status()
				continue
			case <-limit.C:
			case <-r.Context().Done():
			}
			break
		}
	}
	w.Header().Set("ETag", etag(st.Generation))
	reply(w, st)
}

func (s *Server) observed(w http.ResponseWriter, r *http.Request) {
	o, err := s.Engine.Observed(r.Context())
	if err != nil {
		problem(w, http.StatusInternalServerError, err)
		return
	}
	reply(w, o)
}

// plan answers GET /v1/plan?revision=NAME: what applying it would do.
func (s *Server) plan(w http.ResponseWriter, r *http.Request) {
	s.inTurn(w, r, func() ([]byte, error) {
		p, err := s.Engine.Plan(r.Context(), r.URL.Query().Get("revision"))
		if err != nil {
			return nil, err
		}
		return encode(p)
	})
}

// savePlan answers POST /v1/plan: the plan of a revision, bound to what is so now and
// signed, in the bytes of its file.
func (s *Server) savePlan(w http.ResponseWriter, r *http.Request) {
	var req SavePlanRequest
	if !decode(w, r, &req, maxBody) {
		return
	}
	s.inTurn(w, r, func() ([]byte, error) {
		saved, err := s.Engine.SavePlan(r.Context(), req.Revision, req.WorkTree)
		if err != nil {
			return nil, err
		}
		return saved.Bytes()
	})
}

func (s *Server) nodes(w http.ResponseWriter, _ *http.Request) {
	reply(w, s.Nodes.Nodes())
}

func (s *Server) history(w http.ResponseWriter, _ *http.Request) {
	list, err := History(s.Store)
	if err != nil {
		problem(w, http.StatusInternalServerError, err)
		return
	}
	reply(w, list)
}

// metrics answers GET /metrics, in the text format of Prometheus.
func (s *Server) metrics(w http.ResponseWriter, r *http.Request) {
	if s.Metrics == nil {
		problem(w, http.StatusNotFound, errors.New("this daemon counts nothing"))
		return
	}
	s.Metrics.ServeHTTP(w, r)
}

// drift answers GET /v1/drift: what is not as it was published, found out now.
func (s *Server) drift(w http.ResponseWriter, r *http.Request) {
	list, err := s.Engine.Drift(r.Context())
	if err != nil {
		problem(w, http.StatusInternalServerError, err)
		return
	}
	if list == nil {
		list = []provider.Drift{}
	}
	reply(w, list)
}

// History lists the generations that st keeps, oldest first.
func History(st *store.Store) ([]HistoryEntry, error) {
	cur, ok, err := st.Current()
	if err != nil {
		return nil, err
	}
	list := []HistoryEntry{}
	for _, h := range st.List() {
		list = append(list, HistoryEntry{
			Generation: h.Number, Revision: h.Revision, Subject: h.Subject, Created: h.Created,
			Trigger: h.Trigger, RolledBackTo: h.RolledBackTo, Current: ok && h.Number == cur.Number,
		})
	}
	return list, nil
}

// events answers GET /v1/events?since=N: NDJSON, from the event after N on, until the
// client goes away; with &follow=false until there are no more. A client that reads
// slower than events come is told of the gap.
func (s *Server) events(w http.ResponseWriter, r *http.Request) {
	var since uint64
	if q := r.URL.Query().Get("since"); q != "" {
		n, err := strconv.ParseUint(q, 10, 64)
		if err != nil {
			problem(w, http.StatusBadRequest, fmt.Errorf("since=%q: want a number", q))
			return
		}
		since = n
	}
	follow := true
	if q := r.URL.Query().Get("follow"); q != "" {
		yes, err := strconv.ParseBool(q)
		if err != nil {
			problem(w, http.StatusBadRequest, fmt.Errorf("follow=%q: want true or false", q))
			return
		}
		follow = yes
	}
	w.Header().Set("Content-Type", "application/x-ndjson")
	w.WriteHeader(http.StatusOK)
	control := http.NewResponseController(w)
	enc := json.NewEncoder(w)
	for {
		list, more := s.Nodes.Events(since)
		for _, ev := range list {
			if enc.Encode(ev) != nil {
				return
			}
			since = ev.Seq
		}
		if control.Flush() != nil || !follow {
			return
		}
		select {
		case <-more:
		case <-r.Context().Done():
			return
		}
	}
}
