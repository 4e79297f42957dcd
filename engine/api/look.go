package api

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"strconv"
	"time"

	"github.com/dlreconcile/dlreconcile/engine/explain"
	"github.com/dlreconcile/dlreconcile/engine/provider"
	"github.com/dlreconcile/dlreconcile/engine/store"
	"github.com/dlreconcile/dlreconcile/schema"
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
	p, err := s.Engine.Plan(r.Context(), r.URL.Query().Get("revision"))
	if err != nil {
		problem(w, http.StatusUnprocessableEntity, err)
		return
	}
	reply(w, p)
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

// explain answers GET /v1/explain?machine=MAC|HOST|ADDRESS&arch=N&class=iPXE.
func (s *Server) explain(w http.ResponseWriter, r *http.Request) {
	v := r.URL.Query()
	q, err := s.query(v.Get("machine"), v.Get("arch"), v.Get("class"))
	if err != nil {
		problem(w, http.StatusBadRequest, err)
		return
	}
	if g := v.Get("generation"); g != "" {
		if q.Generation, err = strconv.ParseUint(g, 10, 64); err != nil {
			problem(w, http.StatusBadRequest, fmt.Errorf("generation %q: want a number", g))
			return
		}
	}
	reply(w, explain.Walk(s.Engine.Answer, q))
}

// query finds out which machine is meant.
func (s *Server) query(machine, arch, class string) (provider.Query, error) {
	q := provider.Query{Class: class}
	if arch != "" {
		n, err := strconv.ParseUint(arch, 0, 16)
		if err != nil {
			return q, fmt.Errorf("arch %q: want a number of option 93, such as 0 (BIOS) or 7 (UEFI)", arch)
		}
		q.Arch = uint16(n)
	}
	d := s.Engine.Desired()
	if d == nil {
		return q, errors.New("nothing is applied yet: no machine gets an answer")
	}
	return Machine(d, machine, q, s.Nodes)
}

// Machine completes q with the machine that text names: a MAC, a host's name or
// address in the configuration, or an IP address.
func Machine(d *schema.Desired, text string, q provider.Query, clients provider.Clients) (provider.Query, error) {
	if text == "" {
		return q, errors.New("name a machine: a MAC, a host, or an address")
	}
	if mac, err := provider.ParseMAC(text); err == nil {
		q.MAC = mac
		for _, h := range d.Hosts {
			if h.MAC == mac.String() {
				return host(h, q)
			}
		}
		return q, nil
	}
	if addr, err := netip.ParseAddr(text); err == nil {
		for _, h := range d.Hosts {
			if h.Address == addr {
				return host(h, q)
			}
		}
		if clients != nil {
			if c, ok := clients.ByAddr(addr); ok {
				q.MAC, q.Host, q.Subnet, q.Address = c.MAC, c.Host, c.Subnet, addr
				return q, nil
			}
		}
		return q, fmt.Errorf("no machine has the address %s: neither a reservation nor a lease", addr)
	}
	for _, h := range d.Hosts {
		if h.Addr.String() == text || h.Hostname == text || (h.Addr.Key == "" && h.Addr.Name == text) || h.Addr.Key == text {
			return host(h, q)
		}
	}
	return q, fmt.Errorf("no host is called %q, and it is neither a MAC nor an address", text)
}

func host(h *schema.Host, q provider.Query) (provider.Query, error) {
	mac, err := provider.ParseMAC(h.MAC)
	if err != nil {
		return q, err
	}
	q.MAC, q.Host, q.Subnet = mac, h.Addr, h.Subnet
	return q, nil
}

// events answers GET /v1/events?since=N: NDJSON, from the event after N on,
// until the client goes away.
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
	w.Header().Set("Content-Type", "application/x-ndjson")
	w.WriteHeader(http.StatusOK)
	flusher, _ := w.(http.Flusher)
	enc := json.NewEncoder(w)
	for {
		list, more := s.Nodes.Events(since)
		for _, ev := range list {
			if enc.Encode(ev) != nil {
				return
			}
			since = ev.Seq
		}
		if flusher != nil {
			flusher.Flush()
		}
		select {
		case <-more:
		case <-r.Context().Done():
			return
		}
	}
}
