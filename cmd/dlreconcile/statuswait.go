package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/dlreconcile/dlreconcile/engine"
	"github.com/dlreconcile/dlreconcile/engine/api"
)

// waitFor is the value of status --wait: a condition, and what it is to be. The zero
// waitFor waits for nothing.
type waitFor struct {
	kind  string
	want  bool
	limit time.Duration
}

// waitable are the conditions that a status has.
var waitable = [...]string{engine.ConditionReady, engine.ConditionSynced, engine.ConditionSourceReachable, engine.ConditionTrusted, engine.ConditionHealthy}

func (w *waitFor) Type() string { return "CONDITION" }

func (w *waitFor) String() string {
	switch {
	case w.kind == "":
		return ""
	case w.want:
		return w.kind
	}
	return w.kind + "=false"
}

func (w *waitFor) Set(text string) error {
	kind, value, given := strings.Cut(text, "=")
	w.want = true
	if given {
		switch strings.ToLower(value) {
		case "true":
		case "false":
			w.want = false
		default:
			return fmt.Errorf("%q is neither true nor false", value)
		}
	}
	for _, known := range waitable {
		if strings.EqualFold(kind, known) {
			w.kind = known
			return nil
		}
	}
	return fmt.Errorf("there is no condition %q: want %s", kind, strings.Join(waitable[:], ", "))
}

// status asks for the status, and again until the condition is as wanted. reached is
// false when the time was over before; then it is the last status that was seen.
func (w *waitFor) status(ctx context.Context, client *api.Client) (s engine.Status, reached bool, err error) {
	s, err = client.Status(ctx, 0)
	if err != nil || w.kind == "" {
		return s, true, err
	}
	ctx, cancel := context.WithTimeout(ctx, w.limit)
	defer cancel()
	for {
		if c, ok := s.Condition(w.kind); ok && c.Status == w.want {
			return s, true, nil
		}
		next, err := client.Status(ctx, s.Seq)
		if err != nil {
			if errors.Is(ctx.Err(), context.DeadlineExceeded) {
				return s, false, nil
			}
			return s, false, err
		}
		s = next
	}
}
