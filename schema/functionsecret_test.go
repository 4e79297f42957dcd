package schema

import (
	"strings"
	"testing"

	"github.com/hashicorp/hcl/v2"
)

const secretSite = `
host "a" {
  mac     = "52:54:00:00:00:01"
  file "/root/key" {
    content = secret("root.age")
  }
}
`

func loadSecret(open func([]byte) ([]byte, error), sealed string) (*Desired, hcl.Diagnostics) {
	return Load(files("a.hcl", secretSite, "root.age", sealed), Options{Open: open})
}

func TestSecretIsSensitive(t *testing.T) {
	d, diags := loadSecret(unwrap, "sealed:hunter2")
	if diags.HasErrors() {
		t.Fatal(diags)
	}
	f := d.Hosts[0].Settings.Files[0]
	if f.Content != "hunter2" || !f.Sensitive {
		t.Errorf("content %q, sensitive %v", f.Content, f.Sensitive)
	}
	var kept []string
	for _, f := range d.Files {
		kept = append(kept, f.Path)
		if f.Path == "root.age" && !f.Config {
			t.Error("the encrypted file is not recorded, and the generation could not be read again")
		}
	}
	if strings.Join(kept, " ") != "a.hcl root.age" {
		t.Errorf("files %v", kept)
	}
}

// TestSecretWithoutIdentity: what changes can be seen by who cannot decrypt it.
func TestSecretWithoutIdentity(t *testing.T) {
	content := func(sealed string) string {
		d, diags := loadSecret(nil, sealed)
		if diags.HasErrors() {
			t.Fatal(diags)
		}
		return d.Hosts[0].Settings.Files[0].Content
	}
	one, again, other := content("sealed:hunter2"), content("sealed:hunter2"), content("sealed:hunter3")
	if one != again || one == other || strings.Contains(one, "hunter2") {
		t.Errorf("%q, %q, %q", one, again, other)
	}
}

func TestSecretRefused(t *testing.T) {
	for name, c := range map[string]struct {
		open   func([]byte) ([]byte, error)
		sealed string
		want   string
	}{
		"not opened": {unwrap, "hunter2", `Cannot decrypt "root.age"; There is no identity for it.`},
		"not text":   {unwrap, "sealed:\xff", `does not hold UTF-8 text`},
		"too much":   {unwrap, "sealed:" + strings.Repeat("x", maxSecretBytes+1), `holds too much`},
		"large":      {unwrap, "sealed:" + strings.Repeat("x", maxSealedBytes), `too large`},
	} {
		t.Run(name, func(t *testing.T) {
			_, diags := loadSecret(c.open, c.sealed)
			if !diags.HasErrors() || !strings.Contains(diags.Error(), c.want) {
				t.Fatalf("%v; want %q", diags, c.want)
			}
			if at := diags[0].Subject; at.Filename != "a.hcl" || at.Start.Line != 5 {
				t.Errorf("at %v", at)
			}
		})
	}
}

// TestSecretIsOpenedOnce: a thousand hosts may name the same file.
func TestSecretIsOpenedOnce(t *testing.T) {
	opened := 0
	open := func(sealed []byte) ([]byte, error) {
		opened++
		return unwrap(sealed)
	}
	site := `host "a" {
  for_each = { for i in range(200) : "h${i}" => i }
  mac      = format("52:54:00:00:00:%02x", each.value)
  file "/root/key" {
    content = secret("root.age")
  }
}
`
	if _, diags := Load(files("a.hcl", site, "root.age", "sealed:hunter2"), Options{Open: open}); diags.HasErrors() {
		t.Fatal(diags)
	}
	if opened != 1 {
		t.Errorf("decrypted %d times", opened)
	}
}
