package main

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// A port that somebody holds is had as soon as he lets go of it, and one that failed is
// opened again; the log tells each reason once.
func TestListenersAreTriedAgain(t *testing.T) {
	holder, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := holder.Addr().String()
	var log bytes.Buffer
	tries := 0
	serve := func(ctx context.Context, l net.Listener) error {
		l.Close()
		if tries++; tries < 3 {
			return errors.New("broken")
		}
		return context.Cause(ctx)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- keepListening(ctx, slog.New(slog.NewTextHandler(&log, nil)), address, time.Millisecond, func(ctx context.Context, l net.Listener) error {
			err := serve(ctx, l)
			if tries == 3 {
				cancel()
			}
			return err
		})
	}()
	holder.Close()
	if err := <-done; err != nil || tries != 3 {
		t.Errorf("%d tries, %v", tries, err)
	}
	if n := strings.Count(log.String(), "broken"); n == 0 || n > 2 {
		t.Errorf("%d lines: %s", n, log.String())
	}
}

func TestChangedSettings(t *testing.T) {
	const old = "repo = \"a\" # where\nvars = {\n  a = 1\n}\nnotify \"x\" {\n  url = \"u\"\n  events = [\"a\"]\n}\napi {\n listen = \"a\"\n}\n"
	for _, c := range []struct {
		what, now string
		want      []string
	}{
		{"the same", old, nil},
		{"other order, spaces and comments", "api {\n  # here\n  listen = \"a\"\n}\nnotify \"x\" {\n  events = [ \"a\" ]\n  url = \"u\"\n}\nvars = { a = 1 }\nrepo = \"a\"\n", nil},
		{"one of each", strings.NewReplacer(`"a" #`, `"b" #`, `"u"`, `"v"`).Replace(old), []string{`notify x`, "repo"}},
		{"one that is gone, and a new one", strings.Replace(old, "api {", "metrics {", 1), []string{"api", "metrics"}},
		{"nothing", "", []string{"api", "notify x", "repo", "vars"}},
	} {
		if diff := cmp.Diff(c.want, changedSettings([]byte(old), []byte(c.now))); diff != "" {
			t.Errorf("%s: %s", c.what, diff)
		}
	}
}
