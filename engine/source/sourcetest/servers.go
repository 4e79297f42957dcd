// Package sourcetest serves Git repositories with Git's own servers, for tests of what
// follows them.
package sourcetest

import (
	"net"
	"net/http"
	"net/http/cgi"
	"os"
	"os/exec"
	"sync"
	"testing"

	"github.com/dlreconcile/dlreconcile/engine/provider/providertest"
)

const backend = "/usr/lib/git-core/git-http-backend"

// env is what Git needs to serve repositories of anybody's, also to a test that has taken
// git off its PATH.
func env() []string {
	return []string{"PATH=/usr/local/bin:/usr/bin:/bin", "GIT_CONFIG_COUNT=1", "GIT_CONFIG_KEY_0=safe.directory", "GIT_CONFIG_VALUE_0=*"}
}

// HTTP serves the repositories below root with git-http-backend(1). Without it the test
// is skipped.
func HTTP(t testing.TB, root string) http.Handler {
	t.Helper()
	providertest.NeedFile(t, backend, "git")
	return &cgi.Handler{Path: backend, Env: append(env(), "GIT_PROJECT_ROOT="+root, "GIT_HTTP_EXPORT_ALL=1")}
}

// Daemon serves the repositories below root with git-daemon(1), and gives the URL of the
// folder. Each connection is first shown to took, unless that is nil: one that it took
// care of is closed, and Git does not see it. stop ends the server and waits for its
// connections, which the end of the test does too.
func Daemon(t testing.TB, root string, took func(net.Conn) bool) (url string, stop func()) {
	t.Helper()
	providertest.Need(t, "git")
	git, err := exec.LookPath("git") // before the test takes it off PATH
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer conn.Close()
				if took == nil || !took(conn) {
					daemon(git, root, conn.(*net.TCPConn))
				}
			})
		}
	})
	stop = sync.OnceFunc(func() { l.Close(); wg.Wait() })
	t.Cleanup(stop)
	return "git://" + l.Addr().String(), stop
}

// daemon has git-daemon(1) serve one connection.
func daemon(git, root string, conn *net.TCPConn) {
	f, err := conn.File()
	if err != nil {
		return
	}
	defer f.Close()
	cmd := exec.Command(git, "daemon", "--inetd", "--export-all", "--base-path="+root, root)
	cmd.Env = append(os.Environ(), env()...)
	cmd.Stdin, cmd.Stdout = f, f
	_ = cmd.Run() // it fails when the client goes
}
