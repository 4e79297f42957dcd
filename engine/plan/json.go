package plan

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// JSON gives the plan as indented JSON with sorted keys and a newline at its end.
// The same plan is the same bytes. Lists and objects are never null; revision is,
// for a dirty work tree.
func (p *Plan) JSON() ([]byte, error) {
	q := *p // one of an older record has not all of the lists
	q.Changes, q.Warnings = notNil(p.Changes), notNil(p.Warnings)
	q.Denied, q.Waits = notNil(p.Denied), notNil(p.Waits)
	raw, err := json.Marshal(&q)
	if err != nil {
		return nil, fmt.Errorf("plan: %w", err)
	}
	// Through a generic value: objects become maps, which are written sorted, and
	// numbers stay as they are spelled.
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber()
	var v any
	if err := dec.Decode(&v); err != nil {
		return nil, fmt.Errorf("plan: %w", err)
	}
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(v); err != nil {
		return nil, fmt.Errorf("plan: %w", err)
	}
	return out.Bytes(), nil
}

func notNil[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}

// Limits of what is read from a file of observations.
const (
	maxObservedBytes = 64 << 20
	maxObservations  = 500_000
	maxObservedText  = 1024 // bytes of any one string
)

// ReadObserved reads observations from JSON: either a list of them, or an object
// whose member "observations" is one, as a daemon reports it. Other members of the
// object are not looked at. Unknown fields, kinds and states, more than 64 MiB, or
// anything after the value are errors.
func ReadObserved(r io.Reader) ([]Observation, error) {
	raw, err := io.ReadAll(io.LimitReader(r, maxObservedBytes+1))
	if err != nil {
		return nil, fmt.Errorf("observations: %w", err)
	}
	if len(raw) > maxObservedBytes {
		return nil, fmt.Errorf("observations: more than %d bytes", maxObservedBytes)
	}
	list := json.RawMessage(raw)
	if first := bytes.TrimLeft(raw, " \t\r\n"); len(first) > 0 && first[0] == '{' {
		var o struct {
			Observations json.RawMessage `json:"observations"`
		}
		if err := json.Unmarshal(raw, &o); err != nil {
			return nil, fmt.Errorf("observations: %w", err)
		}
		if list = o.Observations; list == nil {
			return []Observation{}, nil
		}
	}
	dec := json.NewDecoder(bytes.NewReader(list))
	dec.DisallowUnknownFields()
	obs := []Observation{}
	if err := dec.Decode(&obs); err != nil {
		return nil, fmt.Errorf("observations: %w", err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("observations: something follows the list")
	}
	if len(obs) > maxObservations {
		return nil, fmt.Errorf("observations: more than %d", maxObservations)
	}
	for n := range obs {
		if err := obs[n].check(); err != nil {
			return nil, fmt.Errorf("observation %d: %w", n+1, err)
		}
	}
	if obs == nil { // the JSON null
		obs = []Observation{}
	}
	return obs, nil
}

func (o *Observation) check() error {
	switch o.Kind {
	case SawNode, SawConnection, SawOverlay, SawLease, SawSuspended:
	default:
		return fmt.Errorf("unknown kind %q", o.Kind)
	}
	switch o.State {
	case "", "booting", "up", "gone":
	default:
		return fmt.Errorf("unknown state %q", o.State)
	}
	for _, s := range []string{o.Host.String(), o.MAC, o.Address, o.Subnet.String(), o.Image.String(), o.Export, o.Artifact, o.Tree} {
		if len(s) > maxObservedText {
			return fmt.Errorf("a value has more than %d bytes", maxObservedText)
		}
	}
	if o.Bytes < 0 {
		return errors.New("bytes is negative")
	}
	return nil
}
