package schema

func exportDoc() BlockDoc {
	return BlockDoc{
		Name: "export",
		Text: "An image offered over the network. The types are\n\n" +
			"- `\"nbd\"`: as a block device. Its name on the wire is `NAME@<12 digits of the artifact>`.\n" +
			"- `\"nfs\"`: as files, by NFS 4. **Not served yet.**",
		Attrs: []AttrDoc{
			{Name: "image", Type: "reference to an image", Effects: []Effect{EffectBoot, EffectDiscards},
				Text: "who runs the old one keeps it. What `read-write` and `keep = \"host\"` kept of it is discarded"},
			{Name: "mode", Type: "string", Default: `"read-only"`, Effects: []Effect{EffectBoot},
				Text: "`read-only`: machines keep their changes in memory. `copy-on-write`, of nbd: in an overlay on the server (not for squashfs). `read-write`: in a " +
					"working copy of the image, of nbd by exactly one host, of nfs by all machines together; another artifact replaces the copy, and discards the data"},
			{Name: "keep", Type: "string", Default: `"boot"`, Effects: []Effect{EffectBoot},
				Text: "with copy-on-write, how long an overlay lives. `boot`: over restarts of the daemon, until the machine boots next. `host`: over boots, as long as " +
					"the image is the same. `connection`: until the connection ends; a machine that has written to it cannot connect again before it boots"},
			{Name: "limit", Type: "size", Otherwise: "none", Effects: []Effect{EffectLive},
				Text: "with copy-on-write, how much one machine's overlay may hold, in blocks of 4KiB that were written and not trimmed since; at least 1MiB. Beyond it that " +
					"machine's writes fail (ENOSPC), but for those to blocks that it holds. Counts from the next write on: what is held already stays"},
			{Name: "allow", Type: "list of references to subnets and hosts", Otherwise: "every machine that is known here", Effects: []Effect{EffectConnection},
				Text: "who may attach. A machine that is not in it any more keeps its connection, and cannot make another"},
			{Name: "tls", Type: "string", Otherwise: "`offered`", Effects: []Effect{EffectConnection},
				Text: "nbd: `offered`: who asks for TLS gets it, if the daemon has a certificate (`nbd` in daemon.hcl). `required`: nobody attaches without it; " +
					"not for the root of an entry, as initramfs images have no TLS. A machine that is attached in the clear keeps its connection, and cannot make another"},
			{Name: "server", Type: "reference to a server", Otherwise: "the only one", Effects: []Effect{EffectBoot},
				Text: "who runs from the old socket keeps it until it reboots"},
			{Name: "path", Type: "string", Otherwise: "`/` and the block's name, with the key", Effects: []Effect{EffectBoot}, Unserved: "it is of nfs",
				Text: "nfs: where it lies below the server's root: `\"/arch\"`"},
			{Name: "clients", Type: "list of strings", Otherwise: "those of `allow`", Effects: []Effect{EffectConnection}, Unserved: "it is of nfs",
				Text: "nfs: who may mount, as exports(5) has it: `\"*\"`, an address, a network. Instead of `allow`"},
			{Name: "options", Type: "set of strings", Otherwise: "none", Effects: []Effect{EffectConnection}, Unserved: "it is of nfs",
				Text: "nfs: as exports(5) has them: `all_squash`, `anongid=`, `anonuid=`, `insecure`, `no_root_squash`, `no_subtree_check`, `root_squash`, `sec=sys`, `secure`, `sync`"},
		},
		Example: `export "nbd" "debian" {
  image = image.debian
  mode  = "copy-on-write"
  limit = "2GiB"
}

export "nfs" "arch" {
  image   = image.arch
  path    = "/arch"
  mode    = "read-write"
  clients = ["*"]
  options = ["no_root_squash", "no_subtree_check"]
}`,
	}
}

func entryDoc() BlockDoc {
	boot := []Effect{EffectBoot}
	return BlockDoc{
		Name: "entry",
		Text: "Something to boot.",
		Attrs: []AttrDoc{
			{Name: "image", Type: "reference to an image", Effects: boot, Text: "where kernel and initrd come from"},
			{Name: "root", Type: "reference to an export", Effects: boot, Text: "the root file system; an export of the same image"},
			{Name: "title", Type: "string", Otherwise: "the block's name", Effects: boot, Text: "in menus"},
			{Name: "args", Type: "list of strings", Otherwise: "none", Effects: boot,
				Text: "kernel arguments; with those of the group and the host, and the options of the root, at most 1500 bytes"},
		},
		Blocks: settingsDocs(),
		Example: `entry "debian" {
  title = "Debian"
  image = image.debian
  root  = export.nbd.debian
  args  = ["quiet"]
}`,
	}
}

func bootloaderDoc() BlockDoc {
	boot := []Effect{EffectBoot}
	return BlockDoc{
		Name: "bootloader",
		Text: "How entries get to machines. The types are\n\n" +
			"- `\"ipxe\"`: BIOS, and UEFI of x86-64 and 64-bit ARM;\n" +
			"- `\"grub\"`: BIOS, and UEFI of x86 and ARM, 32 and 64 bits;\n" +
			"- `\"pxelinux\"`: BIOS.\n\n" +
			"An entry whose image is for another architecture than these is refused.",
		Attrs: []AttrDoc{
			{Name: "entries", Type: "list of references to entries", Effects: boot, Text: "the first is what is booted when nobody chooses"},
			{Name: "timeout", Type: "number", Default: "0", Effects: boot, Text: "seconds, up to 3600, that a menu waits; 0 boots the first entry at once"},
			{Name: "protocol", Type: "string", Otherwise: "the faster one in that loader", Effects: boot,
				Text: "`tftp` or `http`: by which kernel and initrd are fetched. PXELINUX by HTTP is LPXELINUX; its first file comes by TFTP all the same"},
			{Name: "serial", Type: "string", Otherwise: "none", Effects: boot,
				Text: "grub, pxelinux: a serial console beside the screen, port 0 to 3 and speed: `\"0,115200\"`. Speeds are 1200, 2400, 4800, 9600, 19200, 38400, 57600, 115200"},
			{Name: "secure_boot", Type: "bool", Default: "false", Effects: boot,
				Text: "grub: UEFI machines load the distribution's signed shim and GRUB, which start signed kernels only. Not with `protocol = \"http\"`"},
			{Name: "fallback", Type: "string", Default: `"restart"`, Effects: boot,
				Text: "ipxe: what is done when nothing boots, after some attempts: `restart`, or `local-disk`, which boots the machine's first disk"},
		},
		Example: `bootloader "grub" "menu" {
  entries     = [entry.debian]
  timeout     = 5
  serial      = "0,115200"
  secure_boot = true
}

bootloader "ipxe" "menu" {
  entries  = [entry.debian]
  protocol = "http"
  fallback = "local-disk"
}`,
	}
}

// settingsDocs documents the blocks that entries, groups and hosts share.
func settingsDocs() []BlockDoc {
	boot := []Effect{EffectBoot}
	return []BlockDoc{
		{
			Name: "mount",
			Text: "A line of fstab. `mount \"/\"` adds options to the root, which is mounted already: it has no `device`, and a `type` only if it is the image's.",
			Attrs: []AttrDoc{
				{Name: "type", Type: "string", Otherwise: "needed, but for `/`", Effects: boot, Text: "`\"tmpfs\"`, `\"nfs4\"`, `\"none\"` for a bind mount"},
				{Name: "device", Type: "string", Otherwise: "`type`", Effects: boot,
					Text: "the first field of fstab. Types that are on a device or a server need it"},
				{Name: "options", Type: "list of strings", Otherwise: "none", Effects: boot, Text: "without commas, white space and backslashes"},
			},
		},
		{
			Name: "file",
			Text: "A file of the root: exactly one of `content` and `source`. The files of one block have at most 1MiB together. Plans show text of up to " +
				"256 bytes, and the digest of what is longer.\n\n" +
				"`/etc/fstab`, `/etc/hostname` and `/etc/machine-id` are written by the machine itself: they, and what is below `/dev`, `/proc`, `/run`, " +
				"`/sys`, `/var/run` and `/var/lock`, cannot be said here.\n\n" +
				"The content of a file that comes from a sensitive value is kept out of plans, and `explain` shows no content at all. But it travels to the " +
				"machine like every boot file, by TFTP or HTTP, in clear and to whoever asks: on a network that is not trusted it is no place for real secrets.",
			Attrs: []AttrDoc{
				{Name: "content", Type: "string", Otherwise: "`source` says it", Effects: boot, Text: "its text, at most 256KiB. A sensitive value is shown in no plan"},
				{Name: "source", Type: "path in the repo", Otherwise: "`content` says it", Effects: boot, Text: "its bytes, at most 256KiB"},
				{Name: "permissions", Type: "string", Default: `"0644"`, Effects: boot, Text: "three or four octal digits"},
				{Name: "owner", Type: "number", Default: "0", Effects: boot, Text: "numeric id"},
				{Name: "group", Type: "number", Default: "0", Effects: boot, Text: "numeric id"},
			},
		},
		{
			Name: "state",
			Text: "A folder that each machine has for itself although the root is shared. It is made of what the image has there when it is first used, and " +
				"lives as long as the root that it lies on: today that is until the machine boots next, be it an overlay with `keep = \"boot\"` or, on a " +
				"read-only root, memory. What has to outlive a boot belongs on a disk or a server, by a `mount`, or into a `file`.\n\n" +
				"It is kept below `/var/lib/dlreconcile` of the root, so it cannot be around that folder. Refused too are a state below a state, a state and a " +
				"mount at the same path, a file below a state or a mount, which would hide it, and a mount over `/var/lib/dlreconcile` beside a state. That holds " +
				"for every entry that a machine can boot, those of a menu (`timeout`) included.",
			Attrs: []AttrDoc{
				{Name: "per", Type: "string", Default: `"host"`, Effects: boot, Text: "the only one"},
			},
		},
	}
}
