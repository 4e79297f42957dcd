package image

import (
	"bytes"
	"compress/gzip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestKernelVersion(t *testing.T) {
	arm := strings.Repeat("\x00", 1<<20-5) + "Linux version %s (%s)\x00Linux version 6.1.0-9-arm64 (debian-kernel@lists.debian.org) #1 SMP\n" + strings.Repeat("\x01", 9000)
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	z.Write([]byte(arm))
	z.Close()
	tests := []struct{ name, image, want, refused string }{
		{"bzImage", fakeKernel("6.1.0-56-cloud-amd64"), "6.1.0-56-cloud-amd64", ""},
		{"Image", arm, "6.1.0-9-arm64", ""},
		{"Image.gz", packed.String(), "6.1.0-9-arm64", ""},
		{"short", "MZ", "", "too short"},
		{"no version", strings.Repeat("x", 1<<21), "", "carries no version"},
		{"header leads nowhere", fakeKernel("x")[:0x2ff], "", "leads nowhere"},
		{"version with a path", fakeKernel("6.1/../../x"), "", "not one"},
		{"version without digits", fakeKernel("evil"), "", "carries no version"},
	}
	for _, tt := range tests {
		got, err := kernelVersion(strings.NewReader(tt.image))
		if tt.refused == "" && (err != nil || got != tt.want) || tt.refused != "" && (err == nil || !strings.Contains(err.Error(), tt.refused)) {
			t.Errorf("%s: %q, %v", tt.name, got, err)
		}
	}
}

func FuzzKernelVersion(f *testing.F) {
	f.Add([]byte(fakeKernel("6.1.0-56-cloud-amd64")))
	f.Add([]byte(strings.Repeat("x", 0x210) + "Linux version 6.1.0 (x)"))
	f.Fuzz(func(t *testing.T, b []byte) {
		v, err := kernelVersion(bytes.NewReader(b))
		if err == nil && (v == "" || strings.ContainsAny(v, "/ \x00\n")) {
			t.Fatalf("%q", v)
		}
	})
}

func TestCompareVersions(t *testing.T) {
	sorted := []string{"5.10.0-30-amd64", "6.1.0-9-amd64", "6.1.0-10-amd64", "6.1.0-10-cloud-amd64", "6.1.0-010-d", "6.10.1", "6.10.1+deb", "06.11"}
	shuffled := slices.Clone(sorted)
	slices.Reverse(shuffled)
	slices.SortFunc(shuffled, compareVersions)
	if diff := cmp.Diff(sorted, shuffled); diff != "" {
		t.Error(diff)
	}
}
