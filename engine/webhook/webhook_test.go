package webhook

import (
	"bufio"
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// forge is a server on loopback, and how often it has the repo looked at.
type forge struct {
	*Server
	url    string
	addr   string
	pokes  atomic.Int64
	mu     sync.Mutex
	secret string
	broken error
	log    bytes.Buffer
}

const secret = "It's a Secret to Everybody"

func listen(t *testing.T, with func(*Config)) *forge {
	t.Helper()
	f := &forge{secret: secret}
	cfg := Config{
		Secret: func() ([]byte, error) {
			f.mu.Lock()
			defer f.mu.Unlock()
			return []byte(f.secret), f.broken
		},
		Poke: func() { f.pokes.Add(1) },
		Log:  slog.New(slog.NewTextHandler(&f.log, nil)),
	}
	if with != nil {
		with(&cfg)
	}
	f.Server = New(cfg)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f.addr = l.Addr().String()
	f.url = "http://" + f.addr + "/webhook"
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := f.Serve(ctx, l); err != nil {
			t.Error(err)
		}
	}()
	t.Cleanup(func() {
		cancel()
		<-done
	})
	return f
}

func sign(key, body string) string {
	m := hmac.New(sha256.New, []byte(key))
	m.Write([]byte(body))
	return hex.EncodeToString(m.Sum(nil))
}

// post sends a request on a connection of its own, and gives the answer's code.
func (f *forge) post(t *testing.T, body io.Reader, headers ...string) int {
	t.Helper()
	req, err := http.NewRequest(http.MethodPost, f.url, body)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	// As curl does with a large body: who is refused before has sent nothing.
	req.Header.Set("Expect", "100-continue")
	tr := &http.Transport{DisableKeepAlives: true, ExpectContinueTimeout: 10 * time.Second}
	resp, err := tr.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	return resp.StatusCode
}

// What forges document is accepted, as curl sends it.
func TestDocumentedExamples(t *testing.T) {
	if _, err := exec.LookPath("curl"); err != nil {
		t.Skip("curl is missing")
	}
	f := listen(t, nil)
	const hello, sum = "Hello, World!", "757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"
	for _, c := range []struct {
		what, secret, body string
		headers            []string
		code               string
	}{
		// https://docs.github.com/en/webhooks/using-webhooks/validating-webhook-deliveries
		{"GitHub", secret, hello, []string{"X-Hub-Signature-256: sha256=" + sum, "X-Hub-Signature: sha1=0", "X-GitHub-Event: push"}, "202"},
		{"GitHub, in capitals", secret, hello, []string{"X-Hub-Signature-256: sha256=" + strings.ToUpper(sum)}, "202"},
		{"Gitea", secret, hello, []string{"X-Gitea-Signature: " + sum}, "202"},
		{"Forgejo", secret, hello, []string{"X-Forgejo-Signature: " + sum, "X-Gitea-Signature: " + sum, "X-Hub-Signature-256: sha256=" + sum}, "202"},
		{"Gogs", secret, hello, []string{"X-Gogs-Signature: " + sum}, "202"},
		{"GitLab, secret token", secret, "{}", []string{"X-Gitlab-Token: " + secret, "X-Gitlab-Event: Push Hook"}, "202"},
		// The vector of the Standard Webhooks libraries.
		{"GitLab, signing token", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", `{"test": 2432232314}`, []string{
			"webhook-id: msg_p5jXN8AQM9LWM0D4loKWxJek", "webhook-timestamp: 1614265330",
			"webhook-signature: v1,AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA= v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
		}, "202"},

		{"GitHub, another body", secret, hello + "!", []string{"X-Hub-Signature-256: sha256=" + sum}, "403"},
		{"GitHub, another secret", secret + "!", hello, []string{"X-Hub-Signature-256: sha256=" + sum}, "403"},
		{"GitHub, without its prefix", secret, hello, []string{"X-Hub-Signature-256: " + sum}, "403"},
		{"GitHub, cut off", secret, hello, []string{"X-Hub-Signature-256: sha256=" + sum[:62]}, "403"},
		{"GitHub, SHA-1 alone", secret, hello, []string{"X-Hub-Signature: sha1=" + sum[:40]}, "403"},
		{"Gitea, not hex", secret, hello, []string{"X-Gitea-Signature: " + strings.Repeat("z", 64)}, "403"},
		{"GitLab, part of the token", secret, "{}", []string{"X-Gitlab-Token: " + secret[:10]}, "403"},
		{"GitLab, another id", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", `{"test": 2432232314}`, []string{
			"webhook-id: msg", "webhook-timestamp: 1614265330", "webhook-signature: v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
		}, "403"},
		{"not signed", secret, hello, nil, "403"},
	} {
		f.mu.Lock()
		f.secret = c.secret
		f.mu.Unlock()
		before := f.pokes.Load()
		args := []string{"-sS", "-o", os.DevNull, "-w", "%{http_code}", "--max-time", "20", "--data-binary", c.body}
		for _, h := range c.headers {
			args = append(args, "-H", h)
		}
		out, err := exec.CommandContext(t.Context(), "curl", append(args, f.url)...).CombinedOutput()
		if err != nil || string(out) != c.code {
			t.Errorf("%s: %s, %v, want %s", c.what, out, err, c.code)
		}
		if poked := f.pokes.Load() > before; poked != (c.code == "202") {
			t.Errorf("%s: the repo is looked at: %v", c.what, poked)
		}
	}
	if got := f.Counts(); got != (Counts{Accepted: 7, Forged: 9}) {
		t.Errorf("%+v", got)
	}
	if text := f.log.String(); strings.Contains(text, "Everybody") || strings.Contains(text, "Hello") || strings.Contains(text, "7571") || !strings.Contains(text, "forge=github") {
		t.Errorf("the log: %s", text)
	}
}

func TestRefused(t *testing.T) {
	f := listen(t, func(c *Config) { c.readTimeout = time.Second })
	body := strings.Repeat("x", maxBody)
	good := []string{"X-Gitea-Signature", sign(secret, body)}
	if code := f.post(t, strings.NewReader(body), good...); code != 202 {
		t.Errorf("the largest body: %d", code)
	}
	body += "x"
	good[1] = sign(secret, body)
	if code := f.post(t, strings.NewReader(body), good...); code != 413 {
		t.Errorf("one byte more: %d", code)
	}
	// Of a length that is not told: it is read until it is too much, and the client may
	// see that it is cut off before it sees why.
	req := must(http.NewRequest(http.MethodPost, f.url, io.MultiReader(strings.NewReader(body))))
	req.Header.Set(good[0], good[1])
	if resp, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(req); err == nil {
		resp.Body.Close()
		if resp.StatusCode != 413 {
			t.Errorf("one byte more, of a length that is not told: %s", resp.Status)
		}
	}
	resp, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(must(http.NewRequest(http.MethodGet, f.url, nil)))
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != 405 || resp.Header.Get("Allow") != "POST" {
		t.Errorf("GET: %s, %v", resp.Status, resp.Header)
	}
	if code := f.post(t, nil, "X-Fill", strings.Repeat("x", maxHeader+8<<10)); code != 431 {
		t.Errorf("a large header: %d", code)
	}
	f.mu.Lock()
	f.broken = errors.New("no such file")
	f.mu.Unlock()
	if code := f.post(t, nil, "X-Gitlab-Token", ""); code != 503 {
		t.Errorf("no secret: %d", code)
	}
	f.mu.Lock()
	f.broken, f.secret = nil, ""
	f.mu.Unlock()
	if code := f.post(t, nil, "X-Gitea-Signature", sign("", "")); code != 503 {
		t.Errorf("an empty secret: %d", code)
	}
	f.mu.Lock()
	f.secret = secret
	f.mu.Unlock()

	// A body that never comes ends with the time, and one that breaks off at once.
	for _, send := range []string{"x", ""} {
		c, err := net.Dial("tcp", f.addr)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		_, _ = io.WriteString(c, "POST / HTTP/1.1\r\nHost: x\r\nX-Gitea-Signature: "+sign(secret, "")+"\r\nContent-Length: 9\r\n\r\n"+send)
		if send == "" {
			_ = c.(*net.TCPConn).CloseWrite()
		}
		_ = c.SetReadDeadline(time.Now().Add(20 * time.Second))
		line, err := bufio.NewReader(c).ReadString('\n')
		if errors.Is(err, os.ErrDeadlineExceeded) || err == nil && !strings.Contains(line, "400") {
			t.Errorf("%q: %q, %v", send, line, err)
		}
	}
	if n := f.pokes.Load(); n != 1 {
		t.Errorf("%d looks", n)
	}
}

func must(r *http.Request, err error) *http.Request {
	if err != nil {
		panic(err)
	}
	return r
}

// A good request that is sent again and again, as somebody who overheard it could, has
// the repo looked at no more often than a forge may, and then not at all.
func TestReplayed(t *testing.T) {
	stopped := time.Unix(1e9, 0)
	f := listen(t, func(c *Config) { c.Now = func() time.Time { return stopped } })
	codes := map[int]int{}
	for range 100 {
		codes[f.post(t, strings.NewReader("push"), "X-Gitea-Signature", sign(secret, "push"))]++
	}
	if codes[202] != limits.EachBurst || codes[429] != 100-limits.EachBurst || f.pokes.Load() != int64(limits.EachBurst) {
		t.Errorf("%v, %d looks", codes, f.pokes.Load())
	}
}

// A flood of large forged requests, all at once, costs neither memory nor goroutines.
func TestFlooded(t *testing.T) {
	f := listen(t, nil)
	body := strings.Repeat("x", maxBody)
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	var wg sync.WaitGroup
	var codes sync.Map
	for range 20 {
		wg.Go(func() {
			for range 50 {
				req := must(http.NewRequest(http.MethodPost, f.url, strings.NewReader(body)))
				req.Header.Set("X-Hub-Signature-256", "sha256="+sign("guess", "x"))
				resp, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(req)
				if err != nil {
					continue // cut off before it had sent all: not worth an answer
				}
				resp.Body.Close()
				codes.Store(resp.StatusCode, true)
			}
		})
	}
	wg.Wait()
	runtime.GC()
	runtime.ReadMemStats(&after)
	got := f.Counts()
	if f.pokes.Load() != 0 || got.Accepted != 0 || got.Flooded < 500 || got.Forged == 0 || got.Forged > 200 {
		t.Errorf("%+v, %d looks", got, f.pokes.Load())
	}
	if grown := int64(after.HeapAlloc) - int64(before.HeapAlloc); grown > 8<<20 {
		t.Errorf("%d bytes of memory", grown)
	}
	for _, want := range []int{403, 429} {
		if _, ok := codes.Load(want); !ok {
			t.Errorf("nobody was told %d", want)
		}
	}
	if lines := strings.Count(f.log.String(), "\n"); lines > 40 {
		t.Errorf("%d lines in the log", lines)
	}
}
