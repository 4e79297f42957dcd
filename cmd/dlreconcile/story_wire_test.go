package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"

	"github.com/pin/tftp/v3"
	"github.com/rogpeppe/go-internal/testscript"

	"github.com/dlreconcile/dlreconcile/engine/provider"
)

func cmdDHCP(s *story, ts *testscript.TestScript, args []string) error {
	if len(args) != 1 {
		return errors.New("usage: dhcp MAC")
	}
	mac, err := provider.ParseMAC(args[0])
	if err != nil {
		return err
	}
	w := &walker{mac: mac, ports: s.ports}
	file, err := w.dhcp(s.ctx)
	if err != nil {
		return err
	}
	s.client = w
	fmt.Fprintln(ts.Stdout(), strings.TrimSpace(w.addr.String()+" "+file))
	return nil
}

// fileLimit is more than any file that a story prints.
const fileLimit = 16 << 20

func cmdHTTP(s *story, ts *testscript.TestScript, args []string) error {
	if len(args) != 2 || args[0] != "get" {
		return errors.New("usage: http get PATH")
	}
	d := &net.Dialer{Timeout: walkerTimeout}
	if s.client != nil {
		d.LocalAddr = &net.TCPAddr{IP: s.client.from()}
	}
	t := &http.Transport{DialContext: d.DialContext, DisableKeepAlives: true}
	url := fmt.Sprintf("http://127.0.0.1:%d/%s", s.ports[2], strings.TrimPrefix(args[1], "/"))
	return s.print(ts, t, url)
}

// print prints what is at a URL; anything but 200 is an error.
func (s *story) print(ts *testscript.TestScript, t *http.Transport, url string) error {
	req, err := http.NewRequestWithContext(s.ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	resp, err := t.RoundTrip(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", url, resp.Status)
	}
	_, err = io.Copy(ts.Stdout(), io.LimitReader(resp.Body, fileLimit))
	return err
}

func cmdTFTP(s *story, ts *testscript.TestScript, args []string) error {
	if len(args) != 2 || args[0] != "get" {
		return errors.New("usage: tftp get PATH")
	}
	c, err := tftp.NewClient(fmt.Sprintf("127.0.0.1:%d", s.ports[1]))
	if err != nil {
		return err
	}
	c.SetTimeout(walkerTimeout)
	c.SetRetries(1)
	from, err := c.Receive(args[1], "octet")
	if err != nil {
		return err
	}
	_, err = from.WriteTo(ts.Stdout())
	return err
}
