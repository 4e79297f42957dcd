package httpboot

import (
	"errors"
	"io"
	"io/fs"
	"net/http"
	"net/netip"
	"strings"
	"time"
)

const (
	maxName  = 255 // bytes of a file name
	maxStage = 32  // bytes of a stage
	maxPhone = 4 << 10
)

// route answers one request. It is no http.ServeMux, which redirects paths with a
// double slash: shim asks for such, and follows no redirect.
func (s *Server) route(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Server", "dlreconcile")
	client, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		plain(w, http.StatusInternalServerError)
		return
	}
	client = netip.AddrPortFrom(client.Addr().Unmap(), client.Port())
	name, ok := cleanName(r.URL.Path)
	if stage, is := strings.CutPrefix(name, "phone/"); is {
		s.phone(w, r, client, stage)
		return
	}
	switch {
	case r.Method != http.MethodGet && r.Method != http.MethodHead:
		w.Header().Set("Allow", "GET, HEAD")
		plain(w, http.StatusMethodNotAllowed)
	case !ok:
		plain(w, http.StatusNotFound)
	default:
		s.file(w, r, client, name)
	}
}

// phone answers POST /phone/<stage>. The body means nothing and is not read
// further than it takes to keep the connection.
func (s *Server) phone(w http.ResponseWriter, r *http.Request, client netip.AddrPort, stage string) {
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", "POST")
		plain(w, http.StatusMethodNotAllowed)
		return
	}
	if !validStage(stage) {
		plain(w, http.StatusBadRequest)
		return
	}
	http.NewResponseController(w).SetReadDeadline(time.Now().Add(10 * time.Second)) // of the real clock, like the socket's
	if _, err := io.Copy(io.Discard, http.MaxBytesReader(w, r.Body, maxPhone)); err != nil {
		code := http.StatusBadRequest
		if tooLarge := (*http.MaxBytesError)(nil); errors.As(err, &tooLarge) {
			code = http.StatusRequestEntityTooLarge
		}
		plain(w, code)
		return
	}
	s.cfg.Phone(client, stage)
	w.WriteHeader(http.StatusNoContent)
}

func validStage(s string) bool {
	for i := range len(s) {
		if c := s[i]; (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' {
			return false
		}
	}
	return s != "" && len(s) <= maxStage
}

// file answers GET and HEAD of a file.
func (s *Server) file(w http.ResponseWriter, r *http.Request, client netip.AddrPort, name string) {
	tr := Transfer{Client: client, Name: name}
	start := s.cfg.Now()
	f, err := s.cfg.Open(Request{Client: client, Name: name, Agent: r.UserAgent()})
	if err != nil {
		tr.Status, tr.Err = http.StatusInternalServerError, err
		switch {
		case errors.Is(err, fs.ErrNotExist):
			tr.Status = http.StatusNotFound
		case errors.Is(err, fs.ErrPermission):
			tr.Status = http.StatusForbidden
		}
		plain(w, tr.Status)
	} else {
		tr.File, tr.Size = f, f.Size()
		deliver(w, r, f, &tr)
		f.Release()
	}
	tr.Took = s.cfg.Now().Sub(start)
	// A HEAD, or an answer without the file in it (304, 416), delivers nothing.
	if r.Method == http.MethodGet && (tr.Err != nil || tr.Status == http.StatusOK || tr.Status == http.StatusPartialContent) {
		s.cfg.Done(tr)
	}
}

// plain answers with a status and a line of text: firmware shows neither, people
// with curl do.
func plain(w http.ResponseWriter, code int) {
	http.Error(w, strings.ToLower(http.StatusText(code)), code)
}

// cleanName folds slashes, and refuses what no boot file is called.
func cleanName(path string) (string, bool) {
	if len(path) > maxName+1 {
		return "", false
	}
	var b strings.Builder
	for part := range strings.SplitSeq(path, "/") {
		switch part {
		case "", ".":
			continue
		case "..":
			return "", false
		}
		if b.Len() > 0 {
			b.WriteByte('/')
		}
		b.WriteString(part)
	}
	name := b.String()
	for i := range len(name) {
		if name[i] < 0x20 || name[i] == 0x7f {
			return "", false
		}
	}
	return name, name != "" && len(name) <= maxName
}
