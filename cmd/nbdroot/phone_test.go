package main

import (
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

func TestPhone(t *testing.T) {
	got := make(chan string, 9)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		got <- r.Method + " " + r.URL.Path + " " + r.Host + " " + string(body)
		if strings.HasSuffix(r.URL.Path, "/refused") {
			w.WriteHeader(http.StatusForbidden)
			return
		}
		w.WriteHeader(http.StatusNoContent)
	}))
	defer srv.Close()
	c := caller{attempts: 2, timeout: 2 * time.Second, pause: func() {}}
	host := strings.TrimPrefix(srv.URL, "http://")

	if err := phone(srv.URL, "initramfs", c); err != nil {
		t.Fatal(err)
	}
	if g := <-got; g != "POST /phone/initramfs "+host+" " {
		t.Errorf("sent %q", g)
	}
	if err := phone(srv.URL+"/below/", "root", c); err != nil {
		t.Fatal(err)
	}
	if g := <-got; g != "POST /below/phone/root "+host+" " {
		t.Errorf("sent %q", g)
	}
	if err := phone(srv.URL, "refused", c); err == nil || !strings.Contains(err.Error(), "403") {
		t.Errorf("got %v", err)
	}
	if n := len(got); n != 2 {
		t.Errorf("%d attempts, want 2", n)
	}
}

func TestPhoneRefusesNonsense(t *testing.T) {
	c := caller{attempts: 1, timeout: time.Second, pause: func() {}}
	for _, tt := range [][2]string{
		{"https://10.0.0.1", "root"}, {"10.0.0.1", "root"}, {"http://", "root"}, {"http://a b", "root"},
		{"http://a\r\nX: y", "root"}, {"http://127.0.0.1:1", "Root"}, {"http://127.0.0.1:1", ""},
		{"http://127.0.0.1:1", strings.Repeat("a", 33)},
	} {
		if err := phone(tt[0], tt[1], c); err == nil || !strings.Contains(err.Error(), "want") {
			t.Errorf("%q: %v", tt, err)
		}
	}
}

// A server that accepts and says nothing must not hold up a boot.
func TestPhoneSilentServer(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c := caller{attempts: 2, timeout: 50 * time.Millisecond, pause: func() {}}
	start := time.Now()
	if err := phone("http://"+l.Addr().String(), "root", c); err == nil {
		t.Fatal("no error")
	}
	if d := time.Since(start); d > 2*time.Second {
		t.Fatalf("took %s", d)
	}
	if err := run([]string{"phone", "http://127.0.0.1:1", "root"}, io.Discard); err != nil {
		t.Errorf("a failed call is not an error without --strict: %v", err)
	}
	if err := run([]string{"phone", "--strict", "http://127.0.0.1:1", "root"}, io.Discard); err == nil {
		t.Error("--strict swallowed the failure")
	}
}
