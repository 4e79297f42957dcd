package nbd

import (
	"testing"

	"github.com/pojntfx/go-nbd/pkg/backend"

	"github.com/dlreconcile/dlreconcile/providers/export/cow"
)

type backendOf = backend.Backend

type overlayRig struct{ overlay *cow.Overlay }

// openOverlays makes an overlay over a sealed file, with one MiB written at one MiB.
func openOverlays(t *testing.T, d sealedDisk) overlayRig {
	t.Helper()
	s, err := cow.OpenStore(t.TempDir(), cow.Config{})
	if err != nil {
		t.Fatal(err)
	}
	o, err := s.Open(cow.Key{Machine: "m", Instance: "boot-1", Export: "x"}, cow.Base{Digest: d.Digest, Size: d.Blob.Size}, d.File, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(o.Close)
	if _, err := o.WriteAt(make([]byte, 1<<20), 1<<20); err != nil {
		t.Fatal(err)
	}
	return overlayRig{o}
}
