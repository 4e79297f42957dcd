package schema

import (
	"strings"
	"testing"
)

// TestRecipesStay pins the recipes of images as they were before the language had
// more than debootstrap and tar. A recipe that changes here builds every such image
// again, everywhere: if that is meant, RecipeVersion or BuildVersion goes up.
func TestRecipesStay(t *testing.T) {
	tree := files("a.hcl", `
image "least" {
  debootstrap {
    suite = "bookworm"
  }
  filesystem "squashfs" {}
}
image "most" {
  debootstrap {
    suite      = "bookworm"
    mirror     = "http://mirror.example/debian"
    components = ["main", "contrib"]
    packages   = ["linux-image-arm64", "udev"]
    variant    = "apt"
    keyring    = "keys.gpg"
    arch       = "arm64"
  }
  hostname = "a"
  timezone = "Europe/Berlin"
  locale   = "de_DE.UTF-8"
  keymap   = "de-latin1"
  mask     = ["b.service", "a.service"]
  file "/etc/motd" {
    content     = "hello\n"
    permissions = "0600"
    owner       = 1
    group       = 2
  }
  file "/etc/issue" {
    source = "issue"
  }
  file "/etc/link" {
    symlink = "issue"
  }
  initramfs {
    modules  = ["igb", "e1000e"]
    compress = "xz"
  }
  filesystem "btrfs" {
    size     = "8GiB"
    label    = "root"
    compress = "lzo"
  }
}
image "archive" {
  tar {
    path = "root.tar"
  }
  filesystem "ext4" {
    size = "1GiB"
  }
}
image "own" {
  tar {
    path   = "root.tar"
    sha256 = "`+strings.TrimPrefix(digestOfText("tar"), "sha256:")+`"
  }
  initramfs "none" {}
  filesystem "ext4" {
    size = "1GiB"
  }
}
`, "keys.gpg", "key", "issue", "hi\n", "root.tar", "tar")
	want := map[string][2]string{ // whole, base
		"archive": {"sha256:da55b8dbd36e6fe5634cd3cf5fde3149d5762b8754e1c0cddd5653c5fafeb4fc", "sha256:f0e3d265a9ce4ecf34b0ba28647223c756fd6d3dc50a53061ce4d0f685b21843"},
		"least":   {"sha256:c660fdddb2b69c94c4ce84beff18c18d29c1baccae083f643265801c0807c5ea", "sha256:e50934a70f664a469f80e6b5eb9ab39951ef697bc407ba55f077f926855e53d4"},
		"most":    {"sha256:083e5849fa5bb0730cd66114bba29db3b6abd65cc91971b88e63d60d16dbbd3b", "sha256:1abba26812229ea9b787527b59e63588848a385475d5569f6b10deeb7e6051d2"},
		"own":     {"sha256:20f424c4400b045a8d275c8fa72cf52c136822fc08c0b7670cfdc4041455d594", "sha256:f0e3d265a9ce4ecf34b0ba28647223c756fd6d3dc50a53061ce4d0f685b21843"},
	}
	for _, im := range mustLoad(t, tree, Options{}).Images {
		if got := [2]string{im.Recipe, im.BaseRecipe}; got != want[im.Addr.Name] {
			t.Errorf("%q: {%q, %q}", im.Addr.Name, got[0], got[1])
		}
	}
}
