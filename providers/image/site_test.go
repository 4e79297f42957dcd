package image

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"github.com/dlreconcile/dlreconcile/engine/provider"
	"github.com/dlreconcile/dlreconcile/engine/store"
	"github.com/dlreconcile/dlreconcile/schema"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// newContent opens a content store that ends with the test.
func newContent(t *testing.T) *store.Content {
	t.Helper()
	c, err := store.OpenContent(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func newProvider(t *testing.T, c Config) *Provider {
	t.Helper()
	if c.Content == nil {
		c.Content = newContent(t)
	}
	p, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// nbdroot builds the program of the initramfs.
func nbdroot(t *testing.T) []byte {
	t.Helper()
	file := filepath.Join(t.TempDir(), "nbdroot")
	cmd := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-o", file, "../../cmd/nbdroot")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func digest(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	h := sha256.Sum256(b)
	return "sha256:" + hex.EncodeToString(h[:])
}

// newImage gives an image as Load would, with the defaults of the language. The
// recipe is not Load's, but differs where Load's does.
func newImage(name string, edit func(*schema.Image)) *schema.Image {
	img := &schema.Image{
		Meta:       schema.Meta{Addr: schema.Addr{Kind: "image", Name: name}, Range: schema.Range{File: "site.hcl", Line: 1, Column: 1}},
		Hostname:   name,
		Initramfs:  schema.Initramfs{Generator: "initramfs-tools", Compress: "zstd"},
		Filesystem: schema.Filesystem{Type: "ext4", Size: 1 << 30, Compress: "zstd"},
	}
	edit(img)
	img.BaseRecipe = digest([]any{img.Source, img.Debootstrap, img.Tar})
	meta := img.Meta
	img.Meta = schema.Meta{}
	img.Recipe = digest(img)
	img.Meta = meta
	return img
}

// stages collects what a provider reports.
type stages struct {
	mu sync.Mutex
	m  map[string][]string
}

func (s *stages) report(p provider.Progress) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.m == nil {
		s.m = map[string][]string{}
	}
	s.m[p.Step] = append(s.m[p.Step], p.Text)
}

func (s *stages) count(step string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.m[step])
}

// noScratch fails when a build left something behind.
func noScratch(t *testing.T, c *store.Content) {
	t.Helper()
	one, err := c.Scratch("look")
	if err != nil {
		t.Fatal(err)
	}
	defer os.Remove(one)
	left, err := os.ReadDir(filepath.Dir(one))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range left {
		if e.Name() != filepath.Base(one) {
			t.Errorf("scratch %s is left", e.Name())
		}
	}
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(mounts), filepath.Dir(one)) {
		t.Error("something is still mounted below scratch")
	}
}

func sha(b []byte) string {
	h := sha256.Sum256(b)
	return "sha256:" + hex.EncodeToString(h[:])
}
