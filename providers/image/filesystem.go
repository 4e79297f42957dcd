package image

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// makeFilesystem makes the image of the tree. No loop device and no mount is
// involved, but for a compressed btrfs by old tools: the tools read the folder.
func (b *build) makeFilesystem(ctx context.Context) error {
	if err := b.tree.clampTimes(b.epoch); err != nil {
		return err
	}
	switch b.img.Filesystem.Type {
	case "ext4":
		return b.ext4(ctx)
	case "btrfs":
		return b.btrfs(ctx)
	case "squashfs":
		return b.squashfs(ctx)
	default:
		return fmt.Errorf("unknown file system %q", b.img.Filesystem.Type)
	}
}

// ext4 makes a sparse image of the size that was asked for.
func (b *build) ext4(ctx context.Context) error {
	// The file is all holes, so there is nothing to zero: not now, and not by the
	// kernel after the first mount, which would fill every overlay.
	err := b.mke2fs(ctx, ",assume_storage_prezeroed=1")
	var f *failure
	if errors.As(err, &f) {
		if _, old := f.said("Bad option(s) specified"); old { // before e2fsprogs 1.47
			err = b.mke2fs(ctx, ",lazy_itable_init=0,lazy_journal_init=0")
		}
	}
	if errors.As(err, &f) {
		for _, full := range []string{"Could not allocate block", "Could not allocate inode", "too small"} {
			if _, ok := f.said(full); ok {
				return b.tooSmall()
			}
		}
	}
	return err
}

// mke2fs runs the program with further extended options.
func (b *build) mke2fs(ctx context.Context, zeroed string) error {
	fs := b.img.Filesystem
	file := filepath.Join(b.dir, rootFile)
	conf, err := scripts.ReadFile("initramfs/mke2fs.conf")
	if err != nil {
		return err
	}
	confFile := filepath.Join(b.dir, "mke2fs.conf")
	if err := os.WriteFile(confFile, conf, 0o644); err != nil {
		return err
	}
	b.report(step{name: "mke2fs", text: fmt.Sprintf("writing an ext4 of %s", mib(fs.Size))})
	// mke2fs reads no folder that it has no inodes for; the usual one per 16 KiB
	// is short where files are small.
	inodes := max(fs.Size/16384, b.unpacked.entries*3/2+1024)
	argv := []string{"mke2fs", "-q", "-F", "-t", "ext4", "-d", b.tree.dir, "-L", fs.Label,
		"-U", b.uuid("filesystem"), "-N", fmt.Sprint(inodes),
		"-E", "root_owner=0:0,nodiscard,hash_seed=" + b.uuid("hash seed") + zeroed, file, fmt.Sprintf("%dk", fs.Size/1024)}
	env := append(plainEnv(), "MKE2FS_CONFIG="+confFile, fmt.Sprintf("SOURCE_DATE_EPOCH=%d", b.epoch.Unix()),
		fmt.Sprintf("E2FSPROGS_FAKE_TIME=%d", b.epoch.Unix()))
	return command{argv: argv, env: env, dir: b.dir, line: func(text string) {
		b.report(step{name: "mke2fs", text: text})
	}}.run(ctx)
}

// uuid derives an identifier from the recipe: all machines that boot an image see
// the same, and so does a second build.
func (b *build) uuid(what string) string {
	h := sha256.Sum256([]byte(what + "\x00" + b.img.Recipe))
	h[6] = h[6]&0x0f | 0x80 // version 8, RFC 9562 section 5.8
	h[8] = h[8]&0x3f | 0x80
	return fmt.Sprintf("%08x-%04x-%04x-%04x-%x", binary.BigEndian.Uint32(h[:]), binary.BigEndian.Uint16(h[4:]),
		binary.BigEndian.Uint16(h[6:]), binary.BigEndian.Uint16(h[8:]), h[10:16])
}

// squashfs makes a compressed, read-only image.
func (b *build) squashfs(ctx context.Context) error {
	compress := b.img.Filesystem.Compress
	b.report(step{name: "mksquashfs", text: "packing a squashfs with " + compress})
	argv := []string{"mksquashfs", b.tree.dir, filepath.Join(b.dir, rootFile), "-noappend", "-no-progress", "-quiet",
		"-mkfs-time", fmt.Sprint(b.epoch.Unix()), "-comp", compress}
	if compress == "zstd" {
		// 15, the default, takes five times as long for one part in thirty.
		argv = append(argv, "-Xcompression-level", "6")
	}
	return command{argv: argv, env: plainEnv(), dir: b.dir, line: func(text string) {
		b.report(step{name: "mksquashfs", text: text})
	}}.run(ctx)
}

func (b *build) tooSmall() error {
	return &mistake{attr: "filesystem.size", summary: "File system too small",
		detail: fmt.Sprintf("%s of files in %d entries do not fit into %s; raise the size",
			mib(b.unpacked.bytes), b.unpacked.entries, mib(b.img.Filesystem.Size))}
}
