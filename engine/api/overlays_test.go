package api

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/dlreconcile/dlreconcile/engine/provider"
	"github.com/dlreconcile/dlreconcile/engine/store"
	"github.com/dlreconcile/dlreconcile/schema"
)

// disks is a provider.Overlays with one that is attached, ws01's, and one that cannot be read.
type disks struct{}

func (disks) Overlays(q provider.OverlayQuery) []provider.Overlay {
	o := provider.Overlay{
		Machine: "52:54:00:00:00:01", Host: schema.Addr{Kind: "host", Name: "ws01"}, Export: "arch@0123456789ab", Keep: "host",
		Image: schema.Addr{Kind: "image", Name: "arch"}, Artifact: "sha256:01", Size: 1 << 30, Generation: 1,
		Created: time.Unix(1, 0).UTC(), Bytes: 8192, Limit: 1 << 20, Attached: []string{"10.0.0.21:1000"},
	}
	bad := provider.Overlay{ID: "m/static/arch", Export: "arch", Keep: "boot", Bytes: 4096, Unreadable: "meta.json: unexpected end of JSON input"}
	switch q.Unreadable {
	case "":
	case bad.ID:
		return []provider.Overlay{bad}
	default:
		return nil
	}
	if q.Machine != "" && !o.Is(q.Machine) {
		return nil
	}
	return []provider.Overlay{o}
}

func (d disks) of(q provider.OverlayQuery, attached bool) (provider.Overlay, error) {
	list := d.Overlays(q)
	switch {
	case len(list) == 0:
		return provider.Overlay{}, fmt.Errorf("%w: of %s", provider.ErrNoOverlay, q.Machine)
	case !attached && len(list[0].Attached) > 0:
		return provider.Overlay{}, fmt.Errorf("%w: by %s", provider.ErrAttached, q.Machine)
	}
	return list[0], nil
}

func (d disks) DiffOverlays(_ context.Context, q provider.OverlayQuery, files bool) ([]provider.OverlayDiff, error) {
	o, err := d.of(q, true)
	if err != nil {
		return nil, err
	}
	if o.Unreadable != "" {
		return []provider.OverlayDiff{{Overlay: o, Ranges: []provider.Range{}, RefusedAfter: true}}, nil
	}
	diff := provider.OverlayDiff{Overlay: o, Blocks: 3, Pieces: 1, Ranges: []provider.Range{{Offset: 4096, Length: 12288}}}
	if files {
		diff.Files = &provider.FilesDiff{All: 1, Changes: []provider.FileChange{{Action: "added", Path: "/a", Kind: "file", Size: 1}}}
	}
	return []provider.OverlayDiff{diff}, nil
}

func (d disks) ResetOverlays(ctx context.Context, q provider.OverlayQuery, force bool) ([]provider.Overlay, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	o, err := d.of(q, force)
	if err != nil {
		return nil, err
	}
	return []provider.Overlay{o}, nil
}

func (d disks) PromoteOverlay(ctx context.Context, q provider.OverlayQuery, live bool) (provider.Promoted, error) {
	if err := ctx.Err(); err != nil {
		return provider.Promoted{}, err
	}
	o, err := d.of(q, live)
	if err != nil {
		return provider.Promoted{}, err
	}
	return provider.Promoted{Overlay: o, Sealed: provider.Artifact{Root: provider.Blob{Digest: "sha256:02", Size: 1 << 30}, Filesystem: "ext4"}, Until: time.Unix(2, 0).UTC()}, nil
}

// What is done to a machine's disk stands in the audit log, and who did it; so does what
// was refused.
func TestOverlayOrdersAreAudited(t *testing.T) {
	d := newDaemon(t)
	d.served(1)
	if err := d.Order(t.Context(), "/v1/overlays/reset", ResetRequest{Machine: "ws01"}, new([]provider.Overlay)); err == nil || !strings.Contains(err.Error(), "attached") {
		t.Errorf("%v", err)
	}
	var list []provider.Overlay
	if err := d.Order(t.Context(), "/v1/overlays/reset", ResetRequest{Machine: "ws01", Force: true}, &list); err != nil || len(list) != 1 {
		t.Fatalf("%+v, %v", list, err)
	}
	if err := d.Order(t.Context(), "/v1/overlays/reset", ResetRequest{Unreadable: "m/static/arch"}, &list); err != nil || len(list) != 1 || list[0].ID != "m/static/arch" {
		t.Fatalf("%+v, %v", list, err)
	}
	var made provider.Promoted
	if err := d.Order(t.Context(), "/v1/overlays/promote", PromoteRequest{Machine: "ws01", Live: true}, &made); err != nil {
		t.Fatal(err)
	}
	var got []string
	b, err := os.ReadFile(filepath.Join(filepath.Dir(d.path), "audit.ndjson"))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		var e store.AuditEntry
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatal(err)
		}
		if e.Trigger == store.TriggerReset || e.Trigger == store.TriggerPromote {
			got = append(got, fmt.Sprintf("%s %s %v by %s: %s", e.Trigger, e.Result, e.Hosts, e.Who.Via, e.Message))
		}
	}
	want := []string{"reset refused [ws01] by socket: the overlay is attached: by ws01", "reset done [ws01] by socket: ", "reset done [m/static/arch] by socket: ", "promote done [ws01] by socket: sha256:02"}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// Whoever goes away while his order is carried out leaves a reset to its end, and a
// promotion given up: the command line says so.
func TestOrdersOfWhoGoesAway(t *testing.T) {
	d := newDaemon(t)
	d.served(1)
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	for path, want := range map[string]int{"/v1/overlays/reset": 200, "/v1/overlays/promote": 500} {
		body := `{"machine": "ws01", "force": true}`
		handle := d.server.resetOverlays
		if strings.HasSuffix(path, "promote") {
			body, handle = `{"machine": "ws01", "live": true}`, d.server.promoteOverlay
		}
		w := httptest.NewRecorder()
		handle(w, httptest.NewRequest("POST", path, strings.NewReader(body)).WithContext(gone))
		if w.Code != want {
			t.Errorf("%s: %d %s, want %d", path, w.Code, w.Body, want)
		}
	}
}
