package httpboot

import (
	"strings"
	"testing"
)

func FuzzCleanName(f *testing.F) {
	for _, s := range []string{"/b/id/boot.ipxe", "//b//id", "/../x", "/a/./b", "/a\x00b", "phone/root", ""} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, path string) {
		name, ok := cleanName(path)
		if !ok {
			return
		}
		if name == "" || len(name) > maxName || strings.HasPrefix(name, "/") || strings.Contains(name, "//") ||
			strings.Contains("/"+name+"/", "/../") || strings.ContainsAny(name, "\x00\r\n") {
			t.Fatalf("%q became %q", path, name)
		}
		if again, ok := cleanName("/" + name); !ok || again != name {
			t.Fatalf("%q became %q", name, again)
		}
	})
}

func TestStages(t *testing.T) {
	for s, want := range map[string]bool{
		"initramfs": true, "root": true, "a-1": true, strings.Repeat("a", 32): true,
		"": false, "A": false, "a b": false, "a/b": false, "ü": false, strings.Repeat("a", 33): false,
	} {
		if validStage(s) != want {
			t.Errorf("%q: %v", s, !want)
		}
	}
}
