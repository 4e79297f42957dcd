package schema

func imageDoc() BlockDoc {
	rebuild := []Effect{EffectRebuild}
	return BlockDoc{
		Name: "image",
		Text: "A root file system, its kernel and its initrd, built once and sealed. Every attribute is part of the *recipe*; another recipe is another " +
			"artifact, and machines get it at their next boot. What has been built for a recipe is not built again. It has exactly one source, and a " +
			"`filesystem`.\n\n" +
			"An image has no identity: machine-id, random seed and ssh host keys are left out. A machine's machine-id follows from its hardware address; " +
			"ssh host keys it makes at boot, unless `file` blocks bring them. `state \"/etc/ssh\"` does not keep them over boots: today no root outlives one.",
		Attrs: []AttrDoc{
			{Name: "hostname", Type: "string", Otherwise: "none is written", Effects: rebuild,
				Text: "`/etc/hostname`, at most 64 characters; machines with a `host` block are told their own by DHCP"},
			{Name: "timezone", Type: "string", Otherwise: "the source's", Effects: rebuild, Text: "such as `\"Europe/Berlin\"`"},
			{Name: "locale", Type: "string", Otherwise: "the source's", Effects: rebuild, Text: "such as `\"en_US.UTF-8\"`"},
			{Name: "keymap", Type: "string", Otherwise: "the source's", Effects: rebuild, Text: "such as `\"de-latin1\"`"},
			{Name: "mask", Type: "set of strings", Otherwise: "none", Effects: rebuild, Text: "systemd units that must not start: `\"e2scrub_reap.service\"`"},
		},
		Blocks: append(sourceDocs(), fileDoc(), initramfsDoc(), filesystemDoc()),
		Example: `image "debian" {
  debootstrap {
    suite    = "bookworm"
    packages = ["linux-image-amd64", "systemd-sysv"]
  }
  file "/etc/motd" {
    content = "Booted from Git.\n"
  }
  initramfs {
    modules = ["e1000e"]
  }
  filesystem "btrfs" {
    size     = "8GiB"
    compress = "lzo"
  }
}`,
	}
}

// sourceDocs documents what images are made from.
func sourceDocs() []BlockDoc {
	rebuild := []Effect{EffectRebuild}
	return []BlockDoc{
		{
			Name: "debootstrap",
			Text: "A Debian made by mmdebstrap, or by debootstrap where only that is installed.",
			Attrs: []AttrDoc{
				{Name: "suite", Type: "string", Effects: rebuild, Text: "`\"bookworm\"`"},
				{Name: "mirror", Type: "string", Otherwise: "the package sources of the machine that builds", Effects: rebuild, Text: "a URL: `http`, `https`, `file`, `copy`"},
				{Name: "components", Type: "list of strings", Default: `["main"]`, Effects: rebuild},
				{Name: "packages", Type: "set of strings", Otherwise: "none", Effects: rebuild,
					Text: "beyond the minimal system; a kernel has to be among them. `\"name\"`, `\"name=version\"`, `\"name/suite\"`"},
				{Name: "variant", Type: "string", Default: `"minbase"`, Effects: rebuild, Text: "`minbase`, `apt`, `essential`, `standard`"},
				{Name: "keyring", Type: "path in the repo", Otherwise: "the machine's", Effects: rebuild, Text: "keys of the archive"},
				{Name: "arch", Type: "string", Default: `"amd64"`, Effects: rebuild, Text: "Debian architecture"},
			},
		},
		{
			Name: "tar",
			Text: "An archive of the repo (plain, gzip, xz, zstd) that holds a root with a kernel in `/boot` and its modules.",
			Attrs: []AttrDoc{
				{Name: "path", Type: "path in the repo", Effects: rebuild, Text: "not a Git LFS pointer: the file itself"},
				{Name: "sha256", Type: "string", Otherwise: "not checked", Effects: []Effect{EffectNone}, Text: "64 hex digits that the file must have"},
			},
		},
	}
}

func fileDoc() BlockDoc {
	rebuild := []Effect{EffectRebuild}
	return BlockDoc{
		Name: "file",
		Text: "A file put into the image, any number: exactly one of `content`, `source` and `symlink`.",
		Attrs: []AttrDoc{
			{Name: "content", Type: "string", Otherwise: "the other two", Effects: rebuild, Text: "its text, at most 4 MiB"},
			{Name: "source", Type: "path in the repo", Otherwise: "the other two", Effects: rebuild, Text: "its bytes"},
			{Name: "symlink", Type: "string", Otherwise: "the other two", Effects: rebuild, Text: "the target of a symbolic link"},
			{Name: "permissions", Type: "string", Default: `"0644"`, Effects: rebuild, Text: "three or four octal digits; not for links"},
			{Name: "owner", Type: "number", Default: "0", Effects: rebuild, Text: "numeric id"},
			{Name: "group", Type: "number", Default: "0", Effects: rebuild, Text: "numeric id"},
		},
	}
}

func initramfsDoc() BlockDoc {
	rebuild := []Effect{EffectRebuild}
	return BlockDoc{
		Name: "initramfs",
		Text: "What the image's initial RAM disk must hold. The label may be left out, and is then `\"initramfs-tools\"`. `initramfs \"none\" {}`, only for `tar`, " +
			"takes the one in the archive's `/boot` as it is.",
		Attrs: []AttrDoc{
			{Name: "modules", Type: "set of strings", Otherwise: "none", Effects: rebuild, Text: "kernel modules beyond those that the network and the root need"},
			{Name: "compress", Type: "string", Default: `"zstd"`, Effects: rebuild, Text: "`zstd`, `gzip`, `xz`, `lz4`"},
		},
	}
}

func filesystemDoc() BlockDoc {
	rebuild := []Effect{EffectRebuild}
	return BlockDoc{
		Name: "filesystem",
		Text: "What the root becomes. `\"ext4\"` and `\"btrfs\"` can be written to (copy-on-write); `\"squashfs\"` is small and read-only.",
		Attrs: []AttrDoc{
			{Name: "size", Type: "size", Otherwise: "needed for ext4 and btrfs; squashfs has none", Effects: rebuild,
				Text: "16MiB (btrfs: 109MiB) to 16TiB, a multiple of 4KiB; sparse"},
			{Name: "label", Type: "string", Otherwise: "none", Effects: rebuild, Text: "volume label; ext4: up to 16 characters, btrfs: up to 255"},
			{Name: "compress", Type: "string", Otherwise: "squashfs: `\"zstd\"`; btrfs: none", Effects: rebuild,
				Text: "squashfs: `zstd`, `lz4`, `xz`, `gzip`. btrfs: `zstd`, `lzo`, `zlib`. ext4 has none"},
		},
	}
}
