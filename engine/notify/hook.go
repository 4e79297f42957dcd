package notify

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"path"

	"golang.org/x/sync/errgroup"

	"github.com/dlreconcile/dlreconcile/engine/node"
	"github.com/dlreconcile/dlreconcile/engine/provider"
)

// HookConfig says who is told what happens.
type HookConfig struct {
	URL string
	// Secret signs what is sent; nil: it is not signed.
	Secret func() ([]byte, error)
	// Events are patterns of kinds, as of path.Match. None: every note of the engine's.
	Events []string
	Server string       // name of the server block, for who hears several daemons
	Log    *slog.Logger // nil: silent
}

// Headers of what a Hook sends.
const (
	HeaderEvent     = "X-Dlreconcile-Event"         // kind
	HeaderDelivery  = "X-Dlreconcile-Delivery"      // number of the event: the same for each try
	HeaderSignature = "X-Dlreconcile-Signature-256" // "sha256=" and the HMAC-SHA256 of the body in hex
)

// Notice is the body of what a Hook sends.
type Notice struct {
	FormatVersion int         `json:"format_version"` // 1
	Server        string      `json:"server,omitempty"`
	Event         node.Logged `json:"event"` // as /v1/events has it
}

// Hook posts events to a URL. Make one with NewHook.
type Hook struct {
	cfg    HookConfig
	client *http.Client
	box    *outbox
}

// mostEvents bounds the events that wait; of more the oldest are dropped.
const mostEvents = 256

// NewHook checks the settings. Nothing is sent before Run.
func NewHook(cfg HookConfig) (*Hook, error) {
	if err := CheckURL(cfg.URL); err != nil {
		return nil, err
	}
	if cfg.Events != nil && len(cfg.Events) == 0 {
		return nil, errors.New("events: an empty list asks for nothing: name the kinds, such as \"applied\", or leave events out for all of the daemon's own")
	}
	for _, e := range cfg.Events {
		if err := provider.CheckEventPattern(e); err != nil {
			return nil, fmt.Errorf("events: %w", err)
		}
	}
	h := &Hook{cfg: cfg, client: newClient()}
	// Who hears events hears them in their order. A refused one is refused for good; a 404
	// is mended there.
	h.box = newOutbox(cfg.Log, delivery{most: mostEvents, ordered: true, send: h.send, tries: func(code int) int {
		if code != http.StatusNotFound && refusal(code) {
			return 1
		}
		return 0
	}})
	return h, nil
}

// wants reports whether an event is to be sent.
func (h *Hook) wants(l *node.Logged) bool {
	if len(h.cfg.Events) == 0 {
		return l.Note != nil
	}
	for _, pattern := range h.cfg.Events {
		if ok, _ := path.Match(pattern, string(l.Kind)); ok {
			return true
		}
	}
	return false
}

// Events is where events come from. *node.Tracker is one.
type Events interface {
	Subscribe(ctx context.Context, since uint64, f func(node.Logged) error) error
}

// Run sends what happens from now on until ctx ends. It returns when both of its
// goroutines have.
func (h *Hook) Run(ctx context.Context, events Events) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		h.box.run(ctx)
		return nil
	})
	g.Go(func() error {
		return events.Subscribe(ctx, 0, func(l node.Logged) error {
			if h.wants(&l) {
				h.box.put(message{what: fmt.Sprintf("event %d, %s", l.Seq, l.Kind), body: &l})
			}
			return nil
		})
	})
	defer h.client.CloseIdleConnections()
	return g.Wait()
}

func (h *Hook) send(ctx context.Context, m message) error {
	l := m.body.(*node.Logged)
	body, err := json.Marshal(Notice{FormatVersion: 1, Server: h.cfg.Server, Event: *l})
	if err != nil {
		return answerError{error: err}
	}
	header := http.Header{HeaderEvent: {string(l.Kind)}, HeaderDelivery: {fmt.Sprint(l.Seq)}}
	if h.cfg.Secret != nil {
		secret, err := h.cfg.Secret()
		if err != nil {
			return fmt.Errorf("the secret: %w", err) // nobody gets what he cannot check
		}
		mac := hmac.New(sha256.New, secret)
		mac.Write(body)
		header.Set(HeaderSignature, "sha256="+hex.EncodeToString(mac.Sum(nil)))
	}
	_, err = post(ctx, h.client, h.cfg.URL, header, body)
	return err
}

// Counts says what became of the messages so far.
func (h *Hook) Counts() Counts { return h.box.Counts() }
