package api

import (
	"cmp"
	"net/http"
	"slices"
	"time"

	"github.com/dlreconcile/dlreconcile/engine/plan"
	"github.com/dlreconcile/dlreconcile/engine/store"
	"github.com/dlreconcile/dlreconcile/schema"
)

// ArtifactEntry is an artifact in the daemon's store, and who needs it.
type ArtifactEntry struct {
	Artifact      string    `json:"artifact"` // sha256:…
	Filesystem    string    `json:"filesystem"`
	KernelVersion string    `json:"kernel_version,omitempty"`
	Size          int64     `json:"size"`  // of the disk that it is, in bytes
	Bytes         int64     `json:"bytes"` // that it takes in the store, without its holes
	Built         time.Time `json:"built"`
	Promoted      bool      `json:"promoted,omitempty"`  // made of what a machine wrote: nothing can build it again
	Until         time.Time `json:"kept_until,omitzero"` // of one that was promoted and that no generation names
	// Images that it was in the generations that are kept.
	Images      []schema.Addr  `json:"images,omitempty"`
	Generations []uint64       `json:"generations,omitempty"` // that are kept and name it
	Current     bool           `json:"current,omitempty"`     // the current one does
	Machines    []ArtifactUser `json:"machines,omitempty"`    // that have it attached, or a disk over it
}

// ArtifactUser is a machine that needs an artifact.
type ArtifactUser struct {
	Machine  string      `json:"machine"` // hardware address; IP address where only that is known
	Host     schema.Addr `json:"host,omitzero"`
	Export   string      `json:"export"`             // wire name
	Attached bool        `json:"attached,omitempty"` // now
	Disk     bool        `json:"disk,omitempty"`     // what it wrote over it is kept
}

// artifacts answers GET /v1/artifacts.
func (s *Server) artifacts(w http.ResponseWriter, r *http.Request) {
	list, err := s.Store.Artifacts()
	if err == nil {
		var obs []plan.Observation
		if obs, err = s.Engine.Observations(r.Context()); err == nil {
			reply(w, artifactEntries(list, s.Engine.Generation(), obs))
			return
		}
	}
	problem(w, http.StatusInternalServerError, err)
}

// artifactEntries says who needs what is stored.
func artifactEntries(list []store.Stored, current uint64, obs []plan.Observation) []ArtifactEntry {
	out := make([]ArtifactEntry, len(list))
	for i, st := range list {
		a := st.Artifact
		out[i] = ArtifactEntry{
			Artifact: a.Root.Digest, Filesystem: a.Filesystem, KernelVersion: a.KernelVersion, Size: a.Root.Size, Bytes: st.Bytes,
			Built: st.Built, Promoted: a.Promoted, Until: st.Until, Images: st.Images, Generations: st.Generations,
			Current: slices.Contains(st.Generations, current), Machines: usersOf(a.Root.Digest, obs),
		}
	}
	return out
}

func usersOf(artifact string, obs []plan.Observation) []ArtifactUser {
	var list []ArtifactUser
	for _, o := range obs {
		attached, disk := o.Kind == plan.SawConnection, o.Kind == plan.SawOverlay
		if o.Artifact != artifact || !attached && !disk {
			continue
		}
		u := ArtifactUser{Machine: cmp.Or(o.MAC, o.Address), Host: o.Host, Export: o.Export}
		i := slices.IndexFunc(list, func(x ArtifactUser) bool { return x.Machine == u.Machine && x.Export == u.Export })
		if i < 0 {
			i, list = len(list), append(list, u)
		}
		list[i].Attached, list[i].Disk = list[i].Attached || attached, list[i].Disk || disk
	}
	slices.SortFunc(list, func(a, b ArtifactUser) int {
		return cmp.Or(cmp.Compare(a.Machine, b.Machine), cmp.Compare(a.Export, b.Export))
	})
	return list
}
