package main

import (
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

// gitServers are the kinds of servers that the table is held against.
var gitServers = map[string]func(t *testing.T, root string) (url string, down func(bool)){
	"http-backend": serveHTTPBackend, "git-daemon": serveGitDaemon, "folder": serveFolder,
}

const httpBackend = "/usr/lib/git-core/git-http-backend"

// serverEnv is what git needs to serve repositories of anybody's.
var serverEnv = []string{"PATH=/usr/local/bin:/usr/bin:/bin", "GIT_CONFIG_COUNT=1", "GIT_CONFIG_KEY_0=safe.directory", "GIT_CONFIG_VALUE_0=*"}

func serveHTTPBackend(t *testing.T, root string) (string, func(bool)) {
	providertest.NeedFile(t, httpBackend, "git")
	var away atomic.Bool
	h := &cgi.Handler{Path: httpBackend, Env: append([]string{"GIT_PROJECT_ROOT=" + root, "GIT_HTTP_EXPORT_ALL=1"}, serverEnv...)}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if away.Load() {
			panic(http.ErrAbortHandler)
		}
		h.ServeHTTP(w, r)
	}))
	t.Cleanup(srv.Close)
	return srv.URL, away.Store
}

func serveGitDaemon(t *testing.T, root string) (string, func(bool)) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var away atomic.Bool
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer conn.Close()
				f, err := conn.(*net.TCPConn).File()
				if err != nil || away.Load() {
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
	return "git://" + l.Addr().String(), away.Store
}

func serveFolder(t *testing.T, root string) (string, func(bool)) {
	moved := root + ".away"
	return root, func(away bool) {
		from, to := root, moved
		if !away {
			from, to = moved, root
		}
		if err := os.Rename(from, to); err != nil {
			t.Error(err)
		}
	}
}
