package api

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/dlreconcile/dlreconcile/engine"
	"github.com/dlreconcile/dlreconcile/engine/keyfile"
	"github.com/dlreconcile/dlreconcile/engine/provider"
	"github.com/dlreconcile/dlreconcile/engine/provider/providertest"
	"github.com/dlreconcile/dlreconcile/engine/store"
)

// roles is who may ask for what. Whoever adds a route decides it here again.
var roles = map[string]Role{
	"GET /v1/status":    RoleViewer,
	"GET /v1/observed":  RoleViewer,
	"GET /v1/plan":      RoleViewer,
	"POST /v1/plan":     RoleOperator,
	"GET /v1/nodes":     RoleViewer,
	"GET /v1/history":   RoleViewer,
	"GET /v1/drift":     RoleViewer,
	"GET /v1/explain":   RoleViewer,
	"GET /v1/events":    RoleViewer,
	"POST /v1/apply":    RoleOperator,
	"POST /v1/rollback": RoleOperator,
	"POST /v1/release":  RoleOperator,
	"POST /v1/confirm":  RoleOperator,
	"POST /v1/suspend":  RoleOperator,
	"POST /v1/resume":   RoleOperator,
	"POST /v1/poll":     RoleOperator,

	"GET /v1/artifacts":         RoleViewer,
	"GET /v1/overlays":          RoleViewer,
	"GET /v1/overlays/diff":     RoleViewer,
	"POST /v1/overlays/reset":   RoleAdmin,
	"POST /v1/overlays/promote": RoleOperator,

	"GET /v1/openapi.yaml": RoleViewer,
	"GET /metrics":         RoleViewer,
}

// Every route, asked by somebody of every role and by nobody.
func TestRoles(t *testing.T) {
	d := newDaemon(t, withToken(t, "viewer", RoleViewer), withToken(t, "operator", RoleOperator), withToken(t, "admin", RoleAdmin))
	d.served(1)
	n := d.onNetwork(nil)
	seen := map[string]bool{}
	for _, rt := range Routes() {
		what := rt.Method + " " + rt.Path
		seen[what] = true
		least, ok := roles[what]
		if !ok {
			t.Errorf("the table does not say who may ask for %s", what)
			continue
		}
		if rt.Changes != (rt.Method == http.MethodPost && rt.Path != "/v1/plan" && rt.Path != "/v1/poll") {
			t.Errorf("%s: Changes is %v", what, rt.Changes)
		}
		for role, name := range append([]string{""}, RoleNames()...) {
			token := ""
			if name != "" {
				token = tokenOf(name)
			}
			ctx, cancel := context.WithCancel(t.Context())
			u := n.as(token).base.JoinPath(rt.Path).String()
			req, err := http.NewRequestWithContext(ctx, rt.Method, u, nil)
			if err != nil {
				t.Fatal(err)
			}
			if token != "" {
				req.Header.Set("Authorization", "Bearer "+token)
			}
			req.Header.Set("If-Match", `"77"`) // nothing is changed here
			resp, err := n.as("").http.Do(req)
			if err != nil {
				t.Fatalf("%s as %q: %v", what, name, err)
			}
			resp.Body.Close()
			cancel()
			switch code := resp.StatusCode; {
			case name == "":
				ok = code == http.StatusUnauthorized
			case Role(role) < least:
				ok = code == http.StatusForbidden
			case rt.Changes:
				ok = code == http.StatusPreconditionFailed
			default:
				ok = code/100 == 2 || what == "GET /v1/explain" && code == http.StatusBadRequest // it names no machine
			}
			if !ok {
				t.Errorf("%s as %q: %s", what, name, resp.Status)
			}
		}
	}
	for what := range roles {
		if !seen[what] {
			t.Errorf("%s is in the table, and is no route", what)
		}
	}
	if s, _ := d.engine.Status(); s.Generation != 1 {
		t.Errorf("something was changed: %+v", s)
	}

	// Passing rules is more than applying.
	_, err := n.as(tokenOf("operator")).Change(t.Context(), "/v1/apply", ApplyRequest{Overrides: []string{"window"}}, nil)
	if f := new(engine.Failure); !errors.As(err, &f) || f.Reason != engine.ReasonDenied || !strings.Contains(f.Message, "takes the role admin") {
		t.Errorf("an operator passes a rule: %v", err)
	}
	if _, err := n.as(tokenOf("admin")).Change(t.Context(), "/v1/apply", ApplyRequest{Overrides: []string{"window"}}, nil); err != nil {
		t.Errorf("an admin does not: %v", err)
	}
}

// Whose token it was is in the record of what was done.
func TestTokenIsTold(t *testing.T) {
	d := newDaemon(t, withToken(t, "carol", RoleOperator))
	d.served(1)
	n := d.onNetwork(nil)
	d.repo.commit(site("two"))
	if out, err := n.as(tokenOf("carol")).Change(t.Context(), "/v1/apply", nil, nil); err != nil || out.Generation != 2 {
		t.Fatalf("%+v, %v", out, err)
	}
	rec, err := d.store.Get(2)
	if err != nil || rec.By != (store.Actor{Via: store.ViaTCP, Name: "carol"}) {
		t.Errorf("%+v, %v", rec.By, err)
	}
}

// A token counts as long as its file holds it, and is closed to others.
func TestTokenFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "token")
	writeFile(t, path, []byte(tokenOf("old")), 0o600)
	d := newDaemon(t, Principal{Name: "dave", Role: RoleViewer, Token: keyfile.Secret(path, 20)})
	d.served(1)
	n := d.onNetwork(nil)
	try := func(when, token string, want bool) {
		t.Helper()
		if _, err := n.as(token).Status(t.Context(), 0); (err == nil) != want {
			t.Errorf("%s: %v", when, err)
		}
	}
	try("at first", tokenOf("old"), true)
	writeFile(t, path, []byte(tokenOf("new")+"\n"), 0o600)
	try("the old one, replaced", tokenOf("old"), false)
	try("the new one", tokenOf("new"), true)
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	try("the file is open to everybody", tokenOf("new"), false)
	writeFile(t, path, []byte("short"), 0o600)
	try("one that is guessed soon", "short", false)
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	try("no file", tokenOf("new"), false)
	try("nothing, as there is no file", "", false)
	writeFile(t, path, []byte(tokenOf("new")), 0o600)
	try("it is back", tokenOf("new"), true)
}

// Who guesses is slowed down, and told of in the log, without what he guessed.
func TestGuessing(t *testing.T) {
	d := newDaemon(t, withToken(t, "erin", RoleViewer))
	d.served(1)
	n := d.onNetwork(nil)
	codes := map[int]int{}
	for i := range 40 {
		req, err := http.NewRequest(http.MethodGet, n.url+"/v1/status", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", fmt.Sprintf("Bearer secret-guess-%d", i))
		resp, err := n.as("").http.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		codes[resp.StatusCode]++
	}
	if codes[401] < 10 || codes[401] > 12 || codes[429] != 40-codes[401] {
		t.Errorf("%v", codes)
	}
	text := n.log.String()
	if lines := strings.Count(text, "turned somebody away"); lines < 10 || lines > 15 || !strings.Contains(text, "address=127.0.0.1:") {
		t.Errorf("%d lines: %s", lines, text)
	}
	if strings.Contains(text, "secret-guess") {
		t.Errorf("the log has what was guessed: %s", text)
	}
}

func TestCertificates(t *testing.T) {
	mine, foreign := newAuthority(t, "clients"), newAuthority(t, "clients")
	d := newDaemon(t,
		Principal{Name: "frank", Role: RoleOperator, Certificate: "frank"},
		Principal{Name: "robot", Role: RoleViewer, Certificate: "spiffe://example.org/robot"},
	)
	d.served(1)
	n := d.onNetwork(mine)
	hour := time.Now().Add(time.Hour)
	pair := func(a *authority, name string, until time.Time, uris ...string) []string {
		c, k := a.issue(name, until, uris...)
		return []string{c, k}
	}
	for _, c := range []struct {
		what string
		pair []string
		want string // in the error; "" for none
	}{
		{"by common name", pair(mine, "frank", hour), ""},
		{"by URI", pair(mine, "whoever", hour, "spiffe://example.org/robot"), ""},
		{"none", nil, "does not let this client in"},
		{"of nobody", pair(mine, "mallory", hour), "no principal block"},
		{"of another authority, with the same names", pair(foreign, "frank", hour), "does not let this client in"},
		{"expired", pair(mine, "frank", time.Now().Add(-time.Minute)), "does not let this client in"},
	} {
		_, err := n.as("", c.pair...).Status(t.Context(), 0)
		switch f := new(engine.Failure); {
		case c.want == "" && err == nil:
		case c.want == "" || err == nil || !strings.Contains(err.Error(), c.want):
			t.Errorf("%s: %v", c.what, err)
		case !errors.As(err, &f) || f.Reason != engine.ReasonDenied:
			t.Errorf("%s: %T %v", c.what, err, err)
		}
	}
	if text := n.log.String(); !strings.Contains(text, "a connection to the API fails") || !strings.Contains(text, "mallory") {
		t.Errorf("the log does not tell: %s", text)
	}

	// The server's certificate is read again, and so is who signs those of clients.
	cert, key := n.ca.issue("server", time.Now().Add(30*time.Minute))
	for from, to := range map[string]string{cert: n.cert, key: n.key} {
		if err := os.Rename(from, to); err != nil {
			t.Fatal(err)
		}
	}
	conn, err := tls.Dial("tcp", n.addr, &tls.Config{RootCAs: n.ca.pool()})
	if err != nil {
		t.Fatal(err)
	}
	conn.Close()
	if until := conn.ConnectionState().PeerCertificates[0].NotAfter; time.Until(until) > 31*time.Minute {
		t.Errorf("the old certificate is still shown, until %v", until)
	}
	b, err := os.ReadFile(foreign.file)
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, mine.file, b, 0o644)
	if _, err := n.as("", pair(foreign, "frank", hour)...).Status(t.Context(), 0); err != nil {
		t.Errorf("a new authority: %v", err)
	}
	if _, err := n.as("", pair(mine, "frank", hour)...).Status(t.Context(), 0); err == nil {
		t.Error("the old authority still counts")
	}
}

// With tokens beside, a certificate may be left out, and a bad one is still refused.
func TestCertificatesAndTokens(t *testing.T) {
	mine, foreign := newAuthority(t, "clients"), newAuthority(t, "clients")
	d := newDaemon(t, Principal{Name: "grace", Role: RoleViewer, Certificate: "grace"}, withToken(t, "heidi", RoleViewer))
	d.served(1)
	n := d.onNetwork(mine)
	c, k := mine.issue("grace", time.Now().Add(time.Hour))
	fc, fk := foreign.issue("grace", time.Now().Add(time.Hour))
	for _, one := range []struct {
		what   string
		client *Client
		ok     bool
	}{
		{"token", n.as(tokenOf("heidi")), true},
		{"certificate", n.as("", c, k), true},
		{"both", n.as(tokenOf("heidi"), c, k), true},
		{"wrong token, right certificate", n.as("wrong", c, k), false},
		{"foreign certificate, right token", n.as(tokenOf("heidi"), fc, fk), false},
		{"neither", n.as(""), false},
	} {
		if _, err := one.client.Status(t.Context(), 0); (err == nil) != one.ok {
			t.Errorf("%s: %v", one.what, err)
		}
	}
}

// curl, with both ways to say who it is, and with TLS 1.1 and without TLS.
func TestCurl(t *testing.T) {
	providertest.Need(t, "curl")
	clients := newAuthority(t, "clients")
	d := newDaemon(t, Principal{Name: "ivan", Role: RoleViewer, Certificate: "ivan"}, withToken(t, "judy", RoleOperator))
	d.served(1)
	n := d.onNetwork(clients)
	cert, key := clients.issue("ivan", time.Now().Add(time.Hour))
	curl := func(args ...string) (string, error) {
		b, err := exec.CommandContext(t.Context(), "curl", append([]string{"-sS", "--max-time", "20", "--cacert", n.ca.file}, args...)...).CombinedOutput()
		return string(b), err
	}
	if out, err := curl("-f", "--cert", cert, "--key", key, n.url+"/v1/status"); err != nil || !strings.Contains(out, `"generation": 1`) {
		t.Errorf("%s, %v", out, err)
	}
	bearer := "Authorization: Bearer " + tokenOf("judy")
	if out, err := curl("-i", "-H", bearer, n.url+"/v1/status"); err != nil || !strings.Contains(out, "Etag: \"1\"") {
		t.Errorf("%s, %v", out, err)
	}
	for _, c := range []struct{ match, want string }{{"", "428"}, {`"7"`, "412"}, {`W/"1"`, "412"}, {`"7", "1"`, "200"}, {"*", "200"}} {
		args := []string{"-o", "/dev/null", "-w", "%{http_code}", "-H", bearer, "-X", "POST", n.url + "/v1/release"}
		if c.match != "" {
			args = append(args, "-H", "If-Match: "+c.match)
		}
		if out, err := curl(args...); err != nil || out != c.want {
			t.Errorf("If-Match %q: %s, %v, want %s", c.match, out, err, c.want)
		}
	}
	if out, err := curl("--tls-max", "1.1", "--ciphers", "DEFAULT@SECLEVEL=0", "-H", bearer, n.url+"/v1/status"); err == nil {
		t.Errorf("TLS 1.1 is spoken: %s", out)
	}
	if out, err := curl("-f", "-H", bearer, "http://"+n.addr+"/v1/status"); err == nil {
		t.Errorf("an answer without TLS: %s", out)
	}
}

// A client that says nothing, says it slowly, or opens more connections than it may,
// takes nothing from the others.
func TestSilentClients(t *testing.T) {
	d := newDaemon(t, withToken(t, "kim", RoleViewer))
	d.served(1)
	n := d.onNetwork(nil)
	var held []net.Conn
	defer func() {
		for _, c := range held {
			c.Close()
		}
	}()
	refused := 0
	for range maxConnectionsEach + 20 {
		c, err := net.Dial("tcp", n.addr)
		if err != nil {
			t.Fatal(err)
		}
		held = append(held, c)
	}
	for _, c := range held[maxConnectionsEach:] {
		_ = c.SetReadDeadline(time.Now().Add(10 * time.Second))
		if _, err := c.Read(make([]byte, 1)); errors.Is(err, io.EOF) || errors.Is(err, errReset(err)) {
			refused++
		}
	}
	if refused != 20 {
		t.Errorf("%d connections too many are closed, want 20", refused)
	}
	for _, c := range held {
		c.Close()
	}
	// Room again, as soon as the server has seen that they are gone.
	for {
		if _, err := n.as(tokenOf("kim")).Status(t.Context(), 0); err == nil {
			break
		} else if t.Context().Err() != nil {
			t.Fatal(err)
		}
	}
}

// errReset gives err when it is a reset connection, so that errors.Is finds it.
func errReset(err error) error {
	if err != nil && strings.Contains(err.Error(), "reset") {
		return err
	}
	return errors.New("another one")
}

// Every client is gone when the server is: one in the middle of its handshake, one in
// the middle of its request, one that reads no events.
func TestStopsWithSlowClients(t *testing.T) {
	d := newDaemon(t, withToken(t, "leo", RoleViewer))
	d.served(1)
	n := d.onNetwork(nil)
	half, err := net.Dial("tcp", n.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer half.Close()
	if _, err := half.Write([]byte{22, 3, 1}); err != nil {
		t.Fatal(err)
	}
	loris, err := tls.Dial("tcp", n.addr, &tls.Config{RootCAs: n.ca.pool()})
	if err != nil {
		t.Fatal(err)
	}
	defer loris.Close()
	if _, err := io.WriteString(loris, "GET /v1/status HTTP/1.1\r\nX: "); err != nil {
		t.Fatal(err)
	}
	deaf, err := tls.Dial("tcp", n.addr, &tls.Config{RootCAs: n.ca.pool()})
	if err != nil {
		t.Fatal(err)
	}
	defer deaf.Close()
	if _, err := io.WriteString(deaf, "GET /v1/events HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer "+tokenOf("leo")+"\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(deaf).ReadString('\n'); err != nil || !strings.Contains(line, "200") {
		t.Fatalf("%q, %v", line, err)
	}
	// The end of the test waits for the server: see onNetwork, and goleak.
}

// Who takes too long is cut off: for the handshake, for the header, for the body.
func TestSlowClients(t *testing.T) {
	d := newDaemon(t, withToken(t, "mike", RoleOperator))
	d.served(1)
	d.server.patience = patience{header: 2 * time.Second, body: 300 * time.Millisecond}
	n := d.onNetwork(nil)
	open := func() net.Conn {
		c, err := net.Dial("tcp", n.addr)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		return c
	}
	tlsOpen := func() net.Conn { return tls.Client(open(), &tls.Config{RootCAs: n.ca.pool(), ServerName: "127.0.0.1"}) }
	for _, c := range []struct {
		what string
		open func() net.Conn
		text string
		want string // the answer, if any
	}{
		{"nothing", open, "", ""},
		{"half a handshake", open, "\x16\x03\x01", ""},
		{"half a header", tlsOpen, "GET /v1/status HTTP/1.1\r\nX: ", ""},
		{"half a body", tlsOpen, "POST /v1/rollback HTTP/1.1\r\nHost: x\r\nIf-Match: *\r\nAuthorization: Bearer " + tokenOf("mike") + "\r\nContent-Length: 20\r\n\r\n{", "400 Bad Request"},
	} {
		t.Run(c.what, func(t *testing.T) {
			t.Parallel()
			conn := c.open()
			if _, err := io.WriteString(conn, c.text); err != nil {
				t.Fatal(err)
			}
			_ = conn.SetReadDeadline(time.Now().Add(20 * time.Second))
			b, err := io.ReadAll(conn)
			if errors.Is(err, os.ErrDeadlineExceeded) || !strings.Contains(string(b), c.want) {
				t.Errorf("%q, %v", b, err)
			}
		})
	}
}

// A stream goes on for longer than anything may take, with the client listening.
func TestStreamOutlivesTimeouts(t *testing.T) {
	d := newDaemon(t, withToken(t, "nora", RoleOperator))
	d.served(1)
	d.server.patience = patience{header: 5 * time.Second, body: 300 * time.Millisecond, write: 300 * time.Millisecond}
	n := d.onNetwork(nil)
	d.repo.commit(site("two"))
	d.provider.set(func(ctx context.Context, _ provider.Input) error {
		late := time.NewTimer(time.Second)
		defer late.Stop()
		<-late.C
		return nil
	})
	if out, err := n.as(tokenOf("nora")).Change(t.Context(), "/v1/apply", ApplyRequest{}, nil); err != nil || out.Generation != 2 {
		t.Errorf("%+v, %v", out, err)
	}
}

// Who asks for much and reads nothing of it is cut off.
func TestDeafClient(t *testing.T) {
	d := newDaemon(t, withToken(t, "olga", RoleViewer))
	d.served(1)
	ended := make(chan error, 1)
	d.server.patience = patience{write: 300 * time.Millisecond}
	d.server.Metrics = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		b := make([]byte, 64<<10)
		for {
			if _, err := w.Write(b); err != nil {
				ended <- err
				return
			}
		}
	})
	n := d.onNetwork(nil)
	deaf, err := tls.Dial("tcp", n.addr, &tls.Config{RootCAs: n.ca.pool()})
	if err != nil {
		t.Fatal(err)
	}
	defer deaf.Close()
	if _, err := io.WriteString(deaf, "GET /metrics HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer "+tokenOf("olga")+"\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-ended:
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Error(err)
		}
	case <-time.After(20 * time.Second):
		t.Error("it is still written to")
	}
}

// Of two principals with one token it is the first one's, however often it is asked.
func TestOneTokenTwice(t *testing.T) {
	first, second := withToken(t, "peggy", RoleViewer), withToken(t, "peggy", RoleAdmin)
	second.Name = "peggy too"
	if p := NewPrincipals([]Principal{first, second}).ofToken(tokenOf("peggy")); p == nil || p.Role != RoleViewer {
		t.Errorf("%+v", p)
	}
}
