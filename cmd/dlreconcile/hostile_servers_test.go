package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/cgi"
	"net/http/httptest"
	"os"
	"os/exec"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/dlreconcile/dlreconcile/engine/provider/providertest"
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

const httpBackend = "/usr/lib/git-core/git-http-backend"

// serverEnv is what git needs to serve repositories of anybody's.
var serverEnv = []string{"PATH=/usr/local/bin:/usr/bin:/bin", "GIT_CONFIG_COUNT=1", "GIT_CONFIG_KEY_0=safe.directory", "GIT_CONFIG_VALUE_0=*"}

func serveHTTPBackend(t *testing.T, root string) (string, func(serverMode)) {
	providertest.NeedFile(t, httpBackend, "git")
	var mode atomic.Int32
	h := &cgi.Handler{Path: httpBackend, Env: append([]string{"GIT_PROJECT_ROOT=" + root, "GIT_HTTP_EXPORT_ALL=1"}, serverEnv...)}
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
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var mode atomic.Int32
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer conn.Close()
				switch serverMode(mode.Load()) {
				case away:
					return
				case endless:
					listForEver(conn)
					return
				}
				f, err := conn.(*net.TCPConn).File()
				if err != nil {
					return
				}
				defer f.Close()
				cmd := exec.Command("git", "daemon", "--inetd", "--export-all", "--base-path="+root, root)
				cmd.Env = append(os.Environ(), serverEnv...)
				cmd.Stdin, cmd.Stdout = f, f
				_ = cmd.Run() // it fails when the client goes
			})
		}
	})
	t.Cleanup(func() { l.Close(); wg.Wait() })
	return "git://" + l.Addr().String(), func(m serverMode) { mode.Store(int32(m)) }
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
