package schema

func imageDoc() BlockDoc {
	rebuild := []Effect{EffectRebuild}
	return BlockDoc{
		Name: "image",
		Text: "A root file system, its kernel and its initrd, built once and sealed. Every attribute is part of the *recipe*; another recipe is another " +
			"artifact, and machines get it at their next boot. What has been built for a recipe is not built again. It has exactly one source, and a " +
			"`filesystem`.\n\n" +
			"An image has no identity: machine-id, random seed and ssh host keys are left out. A machine's machine-id follows from its hardware address; " +
			"ssh host keys it makes at boot, unless `file` blocks bring them. They last as long as the root does: over boots with `keep = \"host\"`, and otherwise not, also not with `state \"/etc/ssh\"`.",
		Attrs: []AttrDoc{
			{Name: "hostname", Type: "string", Otherwise: "none is written", Effects: rebuild,
				Text: "`/etc/hostname`, at most 64 characters; machines with a `host` block are told their own by DHCP"},
			{Name: "timezone", Type: "string", Otherwise: "the source's", Effects: rebuild, Text: "such as `\"Europe/Berlin\"`"},
			{Name: "locale", Type: "string", Otherwise: "the source's", Effects: rebuild, Text: "such as `\"en_US.UTF-8\"`"},
			{Name: "keymap", Type: "string", Otherwise: "the source's", Effects: rebuild, Text: "such as `\"de-latin1\"`"},
			{Name: "mask", Type: "set of strings", Otherwise: "none", Effects: rebuild, Text: "systemd units that must not start: `\"e2scrub_reap.service\"`"},
		},
		Blocks: append(sourceDocs(), copyDoc(), fileDoc(), initramfsDoc(), filesystemDoc()),
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
			Example: `image "appliance" {
  tar {
    path = "appliance.tar.zst"
  }
  initramfs "none" {}
  filesystem "squashfs" {}
}`,
		},
		{
			Name:     "pacstrap",
			Text:     "An Arch Linux made by pacstrap.",
			Unserved: "make the image by debootstrap or from a tar file",
			Attrs: []AttrDoc{
				{Name: "mirror", Type: "string", Otherwise: "the mirrors of the machine that builds", Effects: rebuild,
					Text: "a URL with `$repo` in it: `http`, `https`, `file`. One of the Arch Linux Archive has what there was on a day"},
				{Name: "packages", Type: "set of strings", Default: `["base"]`, Effects: rebuild, Text: "`\"name\"` or `\"repository/name\"`"},
				{Name: "files", Type: "set of strings", Otherwise: "none", Effects: rebuild, Text: "packages that are files of the repo, put in after those"},
				{Name: "arch", Type: "string", Default: `"x86_64"`, Effects: rebuild, Text: "`x86_64`, `i686`, `aarch64`, `armv7h`, `riscv64`"},
			},
			Example: `image "arch" {
  pacstrap {
    mirror   = "https://archive.archlinux.org/repos/2026/11/01/$repo/os/$arch"
    packages = ["base", "linux", "mkinitcpio-nfs-utils", "nfs-utils"]
    files    = ["packages/mkinitcpio-nbd-0.4-1-any.pkg.tar.xz"]
  }
  copy "/usr/lib/initcpio/hooks/netnfs4" {
    from    = "/usr/lib/initcpio/hooks/net"
    replace = { "nfsmount" = "mount.nfs4" }
  }
  initramfs "mkinitcpio" {
    modules  = ["nfsv4"]
    hooks    = ["base", "udev", "net", "netnfs4", "nbd", "filesystems"]
    binaries = ["/usr/bin/mount.nfs4"]
  }
  filesystem "btrfs" {
    size     = "8GiB"
    compress = "lzo"
  }
}`,
		},
		{
			Name:     "oci",
			Text:     "A container image, which is named by its digest, so that it is the same for ever.",
			Unserved: "make the image by debootstrap or from a tar file",
			Attrs: []AttrDoc{
				{Name: "reference", Type: "string", Effects: rebuild, Text: "`\"registry.example/name@sha256:…\"`; a tag may stand before the @"},
				{Name: "platform", Type: "string", Default: `"linux/amd64"`, Effects: rebuild,
					Text: "`linux/amd64`, `linux/386`, `linux/arm64`, `linux/arm/v7`, `linux/arm/v5`, `linux/riscv64`, `linux/ppc64le`, `linux/s390x`, `linux/loong64`, `linux/mips64le`"},
			},
			Example: `image "container" {
  oci {
    reference = "registry.example/kiosk:1@sha256:6f4b1e5d3b0a9c8e7f2d1c0b9a8f7e6d5c4b3a2f1e0d9c8b7a6f5e4d3c2b1a00"
  }
  filesystem "squashfs" {}
}`,
		},
		{
			Name:     "directory",
			Text:     "A folder of the repo that is a root. What counts is what Git keeps of it: paths, bytes, links, and which files may be executed.",
			Unserved: "make the image by debootstrap or from a tar file",
			Attrs: []AttrDoc{
				{Name: "path", Type: "path in the repo", Effects: rebuild, Text: "of the folder"},
			},
			Example: `image "tiny" {
  directory {
    path = "tiny"
  }
  filesystem "squashfs" {}
}`,
		},
		{
			Name:     "disk",
			Text:     "A partition of a disk image: exactly one of `path` and `url`.",
			Unserved: "make the image by debootstrap or from a tar file",
			Attrs: []AttrDoc{
				{Name: "path", Type: "path in the repo", Otherwise: "`url` says it", Effects: rebuild},
				{Name: "url", Type: "string", Otherwise: "`path` says it", Effects: rebuild, Text: "`http` or `https`; needs `sha256`"},
				{Name: "sha256", Type: "string", Otherwise: "not checked", Effects: rebuild, Text: "64 hex digits that the file must have"},
				{Name: "format", Type: "string", Default: `"raw"`, Effects: rebuild, Text: "`raw`, `qcow2`"},
				{Name: "partition", Type: "number", Default: "0", Effects: rebuild, Text: "1 to 128; 0 is the largest one, or the whole disk when it has none"},
			},
			Example: `image "cloud" {
  disk {
    url    = "https://images.example/cloud.qcow2"
    sha256 = "6f4b1e5d3b0a9c8e7f2d1c0b9a8f7e6d5c4b3a2f1e0d9c8b7a6f5e4d3c2b1a00"
    format = "qcow2"
  }
  filesystem "ext4" {
    size = "4GiB"
  }
}`,
		},
		{
			Name: "sealed",
			Text: "What a machine's disk was, made an artifact by `dlreconcile image promote`, which prints this block. It is in that daemon's store and nowhere else: a commit " +
				"that names one which is not there is refused. It is kept for a week after it was made, and for as long as a generation that is kept names it. Nothing can be " +
				"said about such an image but this; kernel and initial RAM disk are those of the image below the machine's overlay",
			Attrs: []AttrDoc{
				{Name: "digest", Type: "string", Effects: rebuild, Text: "of the root: `\"sha256:…\"`"},
				{Name: "filesystem", Type: "string", Effects: rebuild, Text: "`ext4`, `btrfs`"},
			},
			Example: `image "golden" {
  sealed {
    digest     = "sha256:6f4b1e5d3b0a9c8e7f2d1c0b9a8f7e6d5c4b3a2f1e0d9c8b7a6f5e4d3c2b1a00"
    filesystem = "ext4"
  }
}`,
		},
	}
}

func copyDoc() BlockDoc {
	rebuild := []Effect{EffectRebuild}
	return BlockDoc{
		Name:     "copy",
		Text:     "A changed copy of a file that the image's source and packages brought, any number. Copies are made before `file` blocks are put in.",
		Unserved: "put the file into the image with a `file` block",
		Attrs: []AttrDoc{
			{Name: "from", Type: "string", Effects: rebuild, Text: "the absolute path of that file in the image"},
			{Name: "replace", Type: "map of strings", Otherwise: "nothing is replaced", Effects: rebuild,
				Text: "texts by what they replace, everywhere in the file. One that is not found is a mistake of the build"},
			{Name: "permissions", Type: "string", Otherwise: "those of `from`", Effects: rebuild, Text: "three or four octal digits"},
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
		Text: "What the image's initial RAM disk must hold, and which program of the image makes it: `\"initramfs-tools\"`, `\"mkinitcpio\"`, `\"dracut\"`. The label may be " +
			"left out, and is then `\"mkinitcpio\"` for `pacstrap`, else `\"initramfs-tools\"`. `initramfs \"none\" {}`, not for `debootstrap` and `pacstrap`, takes the one in " +
			"`/boot` of the source as it is. mkinitcpio and dracut are **not served yet**.",
		Attrs: []AttrDoc{
			{Name: "modules", Type: "set of strings", Otherwise: "none", Effects: rebuild, Text: "kernel modules beyond those that the network and the root need"},
			{Name: "compress", Type: "string", Default: `"zstd"`, Effects: rebuild, Text: "`zstd`, `gzip`, `xz`, `lz4`"},
			{Name: "hooks", Type: "list of strings", Otherwise: "those of the generator", Effects: rebuild, Unserved: "they are of mkinitcpio and dracut",
				Text: "mkinitcpio's HOOKS, dracut's modules, in the order in which they run"},
			{Name: "binaries", Type: "set of strings", Otherwise: "none", Effects: rebuild, Unserved: "they are of mkinitcpio and dracut",
				Text: "programs beyond those of the hooks, by path or name"},
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
