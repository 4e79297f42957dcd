package main

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Ctrl-C told of every order that the daemon goes on with it. A promotion it gives up, and
// a reset it does not.
func TestInterruptedOrdersOnDisks(t *testing.T) {
	dir, err := os.MkdirTemp("", "disk") // the path of a unix socket is short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	socket := filepath.Join(dir, "socket")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	ordered := make(chan string, 1)
	interrupt := make(chan context.CancelFunc, 1)
	daemon := httptest.NewUnstartedServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if _, err := io.Copy(io.Discard, r.Body); err != nil { // or the end of the connection is not seen
			t.Error(err)
		}
		ordered <- r.URL.Path
		(<-interrupt)()
		<-r.Context().Done()
	}))
	daemon.Listener.Close()
	daemon.Listener = l
	daemon.Start()
	defer daemon.Close()
	for order, means := range map[string]string{
		"reset":   "the daemon discards it all the same",
		"promote": "the daemon gives it up and removes what it copied",
	} {
		ctx, cancel := context.WithCancel(t.Context())
		interrupt <- cancel
		var out, errs bytes.Buffer
		code := run(ctx, streams{in: strings.NewReader(""), out: &out, err: &errs}, []string{"image", order, "ws01", "--socket", socket})
		if path := <-ordered; path != "/v1/overlays/"+order {
			t.Errorf("%s asked for %s", order, path)
		}
		if code == exitOK || !strings.Contains(errs.String(), "interrupted") || !strings.Contains(errs.String(), means) || strings.Contains(errs.String(), "goes on") {
			t.Errorf("%s: %d, %q, want %q", order, code, errs.String(), means)
		}
	}
}
