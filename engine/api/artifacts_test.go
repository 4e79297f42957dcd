package api

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/dlreconcile/dlreconcile/engine/plan"
	"github.com/dlreconcile/dlreconcile/engine/provider"
	"github.com/dlreconcile/dlreconcile/engine/store"
	"github.com/dlreconcile/dlreconcile/schema"
)

func TestWhoNeedsAnArtifact(t *testing.T) {
	host := schema.Addr{Kind: "host", Name: "ws01"}
	stored := func(digest string, generations ...uint64) store.Stored {
		return store.Stored{Artifact: provider.Artifact{Root: provider.Blob{Digest: digest, Size: 10}}, Generations: generations}
	}
	got := artifactEntries([]store.Stored{stored("sha256:1", 1, 2), stored("sha256:2", 1)}, 2, []plan.Observation{
		{Kind: plan.SawOverlay, MAC: "02", Export: "a@1", Artifact: "sha256:1"},
		{Kind: plan.SawConnection, MAC: "02", Export: "a@1", Artifact: "sha256:1"},
		{Kind: plan.SawConnection, MAC: "01", Host: host, Export: "b@1", Artifact: "sha256:1"},
		{Kind: plan.SawOverlay, Address: "10.0.0.9", Export: "a@2", Artifact: "sha256:2"},
		{Kind: plan.SawLease, MAC: "03", Artifact: "sha256:2"},
	})
	want := []ArtifactEntry{
		{Artifact: "sha256:1", Size: 10, Generations: []uint64{1, 2}, Current: true, Machines: []ArtifactUser{
			{Machine: "01", Host: host, Export: "b@1", Attached: true},
			{Machine: "02", Export: "a@1", Attached: true, Disk: true},
		}},
		{Artifact: "sha256:2", Size: 10, Generations: []uint64{1}, Machines: []ArtifactUser{{Machine: "10.0.0.9", Export: "a@2", Disk: true}}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}
