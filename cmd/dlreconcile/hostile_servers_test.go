package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"sync/atomic"
	"testing"

	"github.com/dlreconcile/dlreconcile/engine/source/sourcetest"
)

// serverMode is what a server does.
type serverMode int32

const (
	serves  serverMode = iota
	away               // it ends connections
	endless            // it lists refs for ever
)

// gitServers are the kinds of servers that the table is held against. What each gives
// beside its URL changes what it does.
var gitServers = map[string]func(t *testing.T, root string) (url string, turn func(serverMode)){
	"http-backend": serveHTTPBackend, "git-daemon": serveGitDaemon, "folder": serveFolder,
}

func serveHTTPBackend(t *testing.T, root string) (string, func(serverMode)) {
	var mode atomic.Int32
	h := sourcetest.HTTP(t, root)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch serverMode(mode.Load()) {
		case away:
			panic(http.ErrAbortHandler)
		case endless:
			w.Header().Set("Content-Type", "application/x-git-upload-pack-advertisement")
			_, _ = io.WriteString(w, "001e# service=git-upload-pack\n0000")
			listForEver(w)
			return
		}
		h.ServeHTTP(w, r)
	}))
	t.Cleanup(srv.Close)
	return srv.URL, func(m serverMode) { mode.Store(int32(m)) }
}

func serveGitDaemon(t *testing.T, root string) (string, func(serverMode)) {
	var mode atomic.Int32
	url, _ := sourcetest.Daemon(t, root, func(conn net.Conn) bool {
		m := serverMode(mode.Load())
		if m == endless {
			listForEver(conn)
		}
		return m != serves
	})
	return url, func(m serverMode) { mode.Store(int32(m)) }
}

func serveFolder(t *testing.T, root string) (string, func(serverMode)) {
	moved := root + ".away"
	return root, func(m serverMode) {
		from, to := root, moved
		if m == serves {
			from, to = moved, root
		}
		if err := os.Rename(from, to); err != nil {
			t.Error(err)
		}
	}
}

// listForEver lists refs, another each time, until nobody listens.
func listForEver(w io.Writer) {
	const tip = "4f932c6fc4ed4f932c6fc4ed4f932c6fc4ed4f93"
	out := bufio.NewWriterSize(w, 64<<10)
	line := func(text string) error {
		_, err := fmt.Fprintf(out, "%04x%s", 4+len(text), text)
		return err
	}
	err := line(tip + " HEAD\x00side-band-64k\n")
	for i := 0; err == nil; i++ {
		err = line(fmt.Sprintf("%s refs/%d\n", tip, i))
	}
}
