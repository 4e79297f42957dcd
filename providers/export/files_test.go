package export

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Names of 255 bytes, or folders deep below folders, took many times what as many short
// ones take, and only these were counted.
func TestDiffCountsTheBytesOfPaths(t *testing.T) {
	make := func(paths ...string) string {
		dir := t.TempDir()
		for _, p := range paths {
			p = filepath.Join(dir, p)
			if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(p, []byte("x"), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		return dir
	}
	var short, long []string
	for i := range 3 * perRead {
		short = append(short, fmt.Sprintf("%d", i))
	}
	for i := range 400 {
		long = append(long, fmt.Sprintf("%0255d", i))
	}
	deep := strings.Repeat(strings.Repeat("d", 250)+"/", 12) + "file"
	for name, c := range map[string]struct {
		dir     string
		entries int
		bytes   int64 // of all paths
	}{
		"short": {make(short...), 3*perRead + 1, int64(len(strings.Join(short, "")))},
		"long":  {make(long...), 401, 400 * 255},
		"deep":  {make(deep), 14, 12*250 + 11*12*251/2 + int64(len(deep))},
	} {
		need := c.bytes + int64(c.entries-1)*perEntry
		all, err := walk(t.Context(), c.dir, &budget{need})
		if err != nil || len(all) != c.entries {
			t.Errorf("%s: %d entries, %v", name, len(all), err)
		}
		if _, err := walk(t.Context(), c.dir, &budget{need - 1}); !errors.Is(err, errMuch) {
			t.Errorf("%s, with a byte less: %v", name, err)
		}
	}
	if err := (&budget{1 << 20}).take(strings.Repeat("d/", mostPath)); err == nil || !strings.Contains(err.Error(), "d/d/d/") {
		t.Errorf("%v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := walk(ctx, t.TempDir(), &budget{1 << 20}); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}

// The list is for people, and goes over the API: it is bounded in bytes too.
func TestDiffListsSoMuch(t *testing.T) {
	after := map[string]entry{}
	for i := range mostChanges - 1 {
		after[fmt.Sprintf("%04000d", i)] = entry{size: 1}
	}
	d := compareEntries(nil, after)
	if want := mostListed / 4000; d.All != mostChanges-1 || len(d.Changes) != want {
		t.Errorf("%d of %d listed, want %d", len(d.Changes), d.All, want)
	}
}
