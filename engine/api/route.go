package api

import (
	"fmt"
	"net/http"
)

// Route is one thing that the API answers to.
type Route struct {
	Method string
	Path   string
	// Role is the least that is needed. A handler may want more for some of what it
	// can be asked.
	Role Role
	// Changes says that it may change what is served: a request must say by If-Match
	// on which generation it was decided.
	Changes bool

	handle func(*Server, http.ResponseWriter, *http.Request)
}

// Routes lists everything that the API answers to.
func Routes() []Route {
	return []Route{
		{"GET", "/v1/status", RoleViewer, false, (*Server).status},
		{"GET", "/v1/observed", RoleViewer, false, (*Server).observed},
		{"GET", "/v1/plan", RoleViewer, false, (*Server).plan},
		{"POST", "/v1/plan", RoleOperator, false, (*Server).savePlan},
		{"GET", "/v1/nodes", RoleViewer, false, (*Server).nodes},
		{"GET", "/v1/history", RoleViewer, false, (*Server).history},
		{"GET", "/v1/drift", RoleViewer, false, (*Server).drift},
		{"GET", "/v1/explain", RoleViewer, false, (*Server).explain},
		{"GET", "/v1/events", RoleViewer, false, (*Server).events},
		{"POST", "/v1/apply", RoleOperator, true, (*Server).apply},
		{"POST", "/v1/rollback", RoleOperator, true, (*Server).rollback},
		{"POST", "/v1/release", RoleOperator, true, (*Server).release},
		{"POST", "/v1/confirm", RoleOperator, true, (*Server).confirm},
		{"POST", "/v1/suspend", RoleOperator, true, (*Server).suspend},
		{"POST", "/v1/resume", RoleOperator, true, (*Server).resume},
		{"GET", "/v1/artifacts", RoleViewer, false, (*Server).artifacts},
		{"GET", "/v1/overlays", RoleViewer, false, (*Server).overlays},
		{"GET", "/v1/overlays/diff", RoleViewer, false, (*Server).diffOverlays},
		{"POST", "/v1/overlays/reset", RoleAdmin, true, (*Server).resetOverlays},
		{"POST", "/v1/overlays/promote", RoleOperator, true, (*Server).promoteOverlay},
		{"POST", "/v1/poll", RoleOperator, false, (*Server).poll},
		{"GET", "/v1/openapi.yaml", RoleViewer, false, (*Server).openapi},
		{"GET", "/metrics", RoleViewer, false, (*Server).metrics},
	}
}

// routes answers whoever identify lets in.
func (s *Server) routes(identify func(http.ResponseWriter, *http.Request) (caller, bool)) http.Handler {
	mux := http.NewServeMux()
	for _, rt := range Routes() {
		mux.HandleFunc(rt.Method+" "+rt.Path, func(w http.ResponseWriter, r *http.Request) {
			if s.allowed(w, r, rt.Role, rt.Method+" "+rt.Path) && (!rt.Changes || s.matches(w, r)) {
				rt.handle(s, w, r)
			}
		})
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// Nobody learns what there is before he has said who he is.
		c, ok := identify(w, r)
		if !ok {
			return
		}
		if h, pattern := mux.Handler(r); pattern == "" {
			nothing(w, r, h)
			return
		}
		mux.ServeHTTP(w, r.WithContext(withCaller(r.Context(), c)))
	})
}

// nothing answers, as a Problem, what no route is for; h is how the mux would.
func nothing(w http.ResponseWriter, r *http.Request, h http.Handler) {
	said := &unsent{header: http.Header{}}
	h.ServeHTTP(said, r)
	if allow := said.header.Get("Allow"); allow != "" {
		w.Header().Set("Allow", allow)
	}
	problem(w, said.code, fmt.Errorf("%s %s: %d %s: GET /v1/openapi.yaml says what there is", r.Method, r.URL.Path, said.code, http.StatusText(said.code)))
}

// unsent is an answer that nobody gets.
type unsent struct {
	header http.Header
	code   int
}

func (u *unsent) Header() http.Header         { return u.header }
func (u *unsent) WriteHeader(code int)        { u.code = code }
func (u *unsent) Write(p []byte) (int, error) { return len(p), nil }

// allowed reports whether who asks has at least a role, and answers when not.
func (s *Server) allowed(w http.ResponseWriter, r *http.Request, least Role, what string) bool {
	c := callerOf(r.Context())
	if c.role >= least {
		return true
	}
	s.log().Warn("the API denies somebody something", "who", c.name(), "role", c.role.String(), "what", what)
	problem(w, http.StatusForbidden, fmt.Errorf("%s takes the role %s, and %s has the role %s: the daemon's settings say who has which", what, least, c.name(), c.role))
	return false
}
