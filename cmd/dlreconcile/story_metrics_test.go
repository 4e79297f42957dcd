package main

import (
	"context"
	"errors"
	"net"
	"net/http"
	"path/filepath"

	"github.com/rogpeppe/go-internal/testscript"
)

func cmdScrape(s *story, ts *testscript.TestScript, args []string) error {
	if len(args) != 1 || args[0] != "socket" && args[0] != "network" {
		return errors.New("usage: scrape socket|network")
	}
	t := &http.Transport{DisableKeepAlives: true}
	url := "http://127.0.0.1:" + ts.Getenv("METRICS_PORT") + "/metrics"
	if args[0] == "socket" {
		url = "http://localhost/metrics"
		t.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", filepath.Join(s.state, "api.sock"))
		}
	}
	return s.print(ts, t, url)
}
