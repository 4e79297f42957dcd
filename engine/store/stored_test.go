package store

import (
	"bytes"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/dlreconcile/dlreconcile/engine/provider"
	"github.com/dlreconcile/dlreconcile/schema"
)

func TestArtifacts(t *testing.T) {
	h := newShed(t)
	if list, err := h.Artifacts(); err != nil || list == nil || len(list) != 0 {
		t.Errorf("an empty store: %+v, %v", list, err)
	}
	h.serve("a")
	h.serve("a", "b")
	image := schema.Addr{Kind: "image", Name: "debian"}
	served := h.build("c")
	mustRecord(t, h.Store, &Record{Revision: "r", Trigger: TriggerCommit, Images: map[schema.Addr]provider.Artifact{image: served}})
	again := served // another recipe gave the same bytes, and was promoted
	again.Recipe, again.Promoted = recipe("again"), true
	promoted := h.build("d")
	promoted.Promoted = true
	sparse, err := h.Content().Put(t.Context(), bytes.NewReader(make([]byte, 64<<10)))
	if err != nil {
		t.Fatal(err)
	}
	promoted.Root = sparse
	lost := h.build("e")
	for _, a := range []provider.Artifact{again, promoted} {
		if err := h.Content().SetArtifact(a); err != nil {
			t.Fatal(err)
		}
	}
	if err := h.Content().Remove(lost.Root.Digest); err != nil {
		t.Fatal(err)
	}
	list, err := h.Artifacts()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]Stored{}
	for i, st := range list {
		got[st.Artifact.Root.Digest] = st
		if i > 0 && st.Built.After(list[i-1].Built) {
			t.Errorf("%s is newer than the one before it", st.Artifact.Root.Digest)
		}
		if st.Bytes == 0 || st.Built.IsZero() {
			t.Errorf("%+v", st)
		}
	}
	if len(list) != 4 || len(got) != 4 {
		t.Errorf("%d artifacts, want 4", len(list))
	}
	for name, c := range map[string]struct {
		root        provider.Blob
		generations []uint64
		images      []schema.Addr
		promoted    bool
	}{
		"a": {h.put("a root"), []uint64{1, 2}, nil, false},
		"b": {h.put("b root"), []uint64{2}, nil, false},
		"c": {served.Root, []uint64{3}, []schema.Addr{image}, false},
		"d": {sparse, nil, nil, true},
	} {
		st := got[c.root.Digest]
		if cmp.Diff(c.generations, st.Generations) != "" || cmp.Diff(c.images, st.Images) != "" || st.Artifact.Promoted != c.promoted ||
			st.Until.IsZero() == c.promoted || c.promoted && st.Until.Sub(st.Built) != KeepPromoted {
			t.Errorf("%s: %+v", name, st)
		}
	}
}
