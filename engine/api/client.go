package api

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"sync/atomic"
	"syscall"

	"github.com/dlreconcile/dlreconcile/engine"
)

// ErrNoDaemon says that nothing listens where a daemon was looked for.
var ErrNoDaemon = errors.New("no daemon listens")

// Client talks to a daemon, over its unix socket or TCP. The zero Client is not usable.
type Client struct {
	where string // for messages
	local bool   // on a unix socket
	base  *url.URL
	token string // "": none
	http  *http.Client
}

// NewClient makes a client for the socket at path. Nothing is dialled yet.
func NewClient(path string) *Client {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", path)
	}
	return &Client{where: path, local: true, base: &url.URL{Scheme: "http", Host: "dlreconcile"}, http: &http.Client{Transport: &http.Transport{DialContext: dial, DisableKeepAlives: true}}}
}

// UnansweredError says that the daemon was asked, and that there is no whole answer: only
// the daemon knows whether it did what it was asked for.
type UnansweredError struct{ Err error }

func (u *UnansweredError) Error() string { return u.Err.Error() }

// Unwrap gives what was in the way.
func (u *UnansweredError) Unwrap() error { return u.Err }

// do asks. A header may be nil. An error of a request that was sent, at least in part,
// and not answered is an *UnansweredError.
func (c *Client) do(ctx context.Context, method, path string, q url.Values, header http.Header, body any) (*http.Response, error) {
	var r io.Reader
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			return nil, err
		}
		r = bytes.NewReader(b)
	}
	u := c.base.JoinPath(path)
	u.RawQuery = q.Encode()
	req, err := http.NewRequestWithContext(ctx, method, u.String(), r)
	if err != nil {
		return nil, err
	}
	maps.Copy(req.Header, header)
	if c.token != "" {
		req.Header.Set("Authorization", "Bearer "+c.token)
	}
	var sent atomic.Bool
	req = req.WithContext(httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{WroteHeaders: func() { sent.Store(true) }}))
	resp, err := c.http.Do(req)
	if err != nil && sent.Load() {
		err = &UnansweredError{err}
	}
	if err != nil {
		if !c.local {
			return nil, c.unreached(ctx, err)
		}
		// Any other error of the dial, such as a lack of permission, says itself what
		// to do about it.
		if errors.Is(err, syscall.ENOENT) || errors.Is(err, syscall.ECONNREFUSED) {
			return nil, fmt.Errorf("%w on %s: start one with `dlreconcile serve`, or name its state directory with --state", ErrNoDaemon, c.where)
		}
		return nil, err
	}
	if resp.StatusCode/100 != 2 {
		defer resp.Body.Close()
		var p Problem
		if json.NewDecoder(io.LimitReader(resp.Body, maxBody)).Decode(&p) != nil || p.Error == "" {
			return nil, fmt.Errorf("the daemon answered %s", resp.Status)
		}
		f := &engine.Failure{Message: p.Error, Diagnostics: p.Diagnostics}
		switch {
		case resp.StatusCode == http.StatusPreconditionFailed:
			f.Reason = engine.ReasonStale
		case resp.StatusCode == http.StatusForbidden, resp.StatusCode == http.StatusUnauthorized:
			f.Reason = engine.ReasonDenied
		case len(p.Diagnostics) > 0:
			f.Reason = engine.ReasonInvalid
		default:
			return nil, errors.New(p.Error)
		}
		return nil, f
	}
	return resp, nil
}

// Get asks for path and decodes the answer into v.
func (c *Client) Get(ctx context.Context, path string, q url.Values, v any) error {
	resp, err := c.do(ctx, http.MethodGet, path, q, nil, nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(resp.Body).Decode(v); err != nil {
		return fmt.Errorf("the daemon's answer to %s: %w", path, err)
	}
	return nil
}

// Order posts body to path, whatever generation is served, and decodes the answer into v.
func (c *Client) Order(ctx context.Context, path string, body, v any) error {
	resp, err := c.do(ctx, http.MethodPost, path, nil, http.Header{"If-Match": {"*"}}, body)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(resp.Body).Decode(v); err != nil {
		return &UnansweredError{fmt.Errorf("the daemon's answer to %s: %w", path, err)}
	}
	return nil
}

// SavePlan has the daemon plan a revision, and gives the bytes of the saved plan's
// file.
func (c *Client) SavePlan(ctx context.Context, req SavePlanRequest) ([]byte, error) {
	resp, err := c.do(ctx, http.MethodPost, "/v1/plan", nil, nil, req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, engine.MaxSavedPlan+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("the daemon's plan: %w", err)
	case len(b) > engine.MaxSavedPlan:
		return nil, fmt.Errorf("the daemon's plan has more than %d bytes", engine.MaxSavedPlan)
	}
	return b, nil
}

// Status asks for the status; newer than seq when seq is not 0 (it waits).
func (c *Client) Status(ctx context.Context, seq uint64) (engine.Status, error) {
	q := url.Values{}
	if seq != 0 {
		q.Set("wait", fmt.Sprint(seq))
	}
	var s engine.Status
	return s, c.Get(ctx, "/v1/status", q, &s)
}

// Change posts body to path and follows the work: each status goes to progress,
// which may be nil. It is done whatever generation is served. A daemon that dies in the
// middle gives an error.
func (c *Client) Change(ctx context.Context, path string, body any, progress func(engine.Status)) (engine.Outcome, error) {
	return c.change(ctx, "*", path, body, progress)
}

// ChangeOf is Change for what somebody decided on a generation: when another one is
// served nothing is done, and the error is an *engine.Failure with the reason stale.
func (c *Client) ChangeOf(ctx context.Context, generation uint64, path string, body any, progress func(engine.Status)) (engine.Outcome, error) {
	return c.change(ctx, etag(generation), path, body, progress)
}

func (c *Client) change(ctx context.Context, match, path string, body any, progress func(engine.Status)) (engine.Outcome, error) {
	resp, err := c.do(ctx, http.MethodPost, path, nil, http.Header{"If-Match": {match}}, body)
	if err != nil {
		return engine.Outcome{}, err
	}
	defer resp.Body.Close()
	sc := bufio.NewScanner(resp.Body)
	sc.Buffer(nil, 64<<20) // a plan for 10,000 hosts is one line
	for sc.Scan() {
		var l Line
		if err := json.Unmarshal(sc.Bytes(), &l); err != nil {
			return engine.Outcome{}, fmt.Errorf("the daemon's answer: %w", err)
		}
		switch {
		case l.Error != "":
			return engine.Outcome{}, errors.New(l.Error)
		case l.Outcome != nil:
			return *l.Outcome, nil
		case l.Status != nil && progress != nil:
			progress(*l.Status)
		}
	}
	if err := sc.Err(); err != nil {
		return engine.Outcome{}, &UnansweredError{fmt.Errorf("the daemon's answer: %w", err)}
	}
	return engine.Outcome{}, errors.New("the daemon ended before the work did: see its log, and `dlreconcile status`")
}

// Events calls f for every event line after since, as raw JSON, until ctx ends,
// the daemon does, or f returns an error.
func (c *Client) Events(ctx context.Context, since uint64, f func(json.RawMessage) error) error {
	return c.Lines(ctx, "/v1/events", url.Values{"since": {fmt.Sprint(since)}}, f)
}

// maxLine bounds a line of NDJSON: an explained boot holds a script for each of its
// menu's entries.
const maxLine = 16 << 20

// Lines calls f with each line of path's answer, which is NDJSON, until ctx ends, the
// daemon does, or f returns an error. f may keep what it is given.
func (c *Client) Lines(ctx context.Context, path string, q url.Values, f func(json.RawMessage) error) error {
	resp, err := c.do(ctx, http.MethodGet, path, q, nil, nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	sc := bufio.NewScanner(resp.Body)
	sc.Buffer(nil, maxLine)
	for sc.Scan() {
		if err := f(append(json.RawMessage(nil), sc.Bytes()...)); err != nil {
			return err
		}
	}
	return sc.Err()
}
