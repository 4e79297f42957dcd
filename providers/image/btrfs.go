package image

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// btrfs makes a sparse image of the size that was asked for. mkfs.btrfs copies the
// files, or the kernel where mkfs.btrfs cannot do it right: before btrfs-progs 6.13
// it does not compress, and up to 6.2 at least it forgets the numbers of devices.
//
// Where that takes a mount which cannot be had, the image is whole and not
// compressed: it is not worth a refusal, as machines compress what they write by
// their own mount options.
func (b *build) btrfs(ctx context.Context) error {
	can, err := mkfsBtrfsOptions(ctx)
	if err != nil {
		return err
	}
	devices, err := b.tree.hasDevices()
	if err != nil {
		return err
	}
	compress := b.img.Filesystem.Compress
	if !devices && (compress == "" || can["--compress"]) {
		return b.mkfsBtrfs(ctx, can, true)
	}
	if err := b.mkfsBtrfs(ctx, can, false); err != nil {
		return err
	}
	b.report(step{name: "btrfs", text: "copying the files"})
	err = b.fillMounted(ctx)
	var f *failure
	var exit *exec.ExitError
	if errors.As(err, &f) && errors.As(err, &exit) && exit.ExitCode() == cannotMount && !devices {
		b.report(step{name: "btrfs", text: fmt.Sprintf("the files are not compressed: mkfs.btrfs has no --compress, and %v", f)})
		return b.mkfsBtrfs(ctx, can, true)
	}
	if errors.As(err, &f) {
		if _, full := f.said("No space left on device"); full { // the image's own: the disk's is an I/O error
			return b.tooSmall()
		}
	}
	return err
}

// mkfsBtrfs makes the file system, with the files of the tree or empty.
func (b *build) mkfsBtrfs(ctx context.Context, can map[string]bool, files bool) error {
	fs := b.img.Filesystem
	file := filepath.Join(b.dir, rootFile)
	b.report(step{name: "mkfs.btrfs", text: fmt.Sprintf("writing a btrfs of %s", mib(fs.Size))})
	if err := os.WriteFile(file, nil, 0o644); err != nil {
		return err
	}
	if err := os.Truncate(file, fs.Size); err != nil {
		return err
	}
	// One copy of everything: what keeps the image safe is below it. Sector and
	// node are named because they once followed the page size of the machine that
	// builds.
	argv := []string{"mkfs.btrfs", "--quiet", "--force", "--metadata", "single", "--data", "single",
		"--sectorsize", "4096", "--nodesize", "16384", "--label", fs.Label, "--uuid", b.uuid("filesystem")}
	if can["--device-uuid"] {
		argv = append(argv, "--device-uuid", b.uuid("device"))
	}
	if files {
		argv = append(argv, "--rootdir", b.tree.dir)
		if fs.Compress != "" && can["--compress"] {
			argv = append(argv, "--compress", fs.Compress)
		}
	}
	err := command{
		argv: append(argv, file), dir: b.dir,
		env:  append(plainEnv(), fmt.Sprintf("SOURCE_DATE_EPOCH=%d", b.epoch.Unix())),
		line: func(text string) { b.report(step{name: "mkfs.btrfs", text: text}) },
	}.run(ctx)
	var f *failure
	if errors.As(err, &f) {
		if _, ok := f.said("is too small to make a usable filesystem"); ok {
			return b.tooSmall()
		}
	}
	if err != nil {
		return err
	}
	st, err := os.Stat(file)
	if err == nil && st.Size() > fs.Size { // it grows a file that the files do not fit into
		return b.tooSmall()
	}
	return err
}

// mkfsBtrfsOptions asks mkfs.btrfs which long options it has.
func mkfsBtrfsOptions(ctx context.Context) (map[string]bool, error) {
	var help bytes.Buffer
	if err := (command{argv: []string{"mkfs.btrfs", "--help"}, env: plainEnv(), stdout: &help}).run(ctx); err != nil {
		return nil, err
	}
	can := map[string]bool{}
	for line := range strings.Lines(help.String()) {
		for _, w := range strings.FieldsFunc(line, func(r rune) bool { return r == ' ' || r == '|' || r == '\t' || r == '\n' }) {
			if strings.HasPrefix(w, "--") {
				can[w] = true
			}
		}
	}
	return can, nil
}

// cannotMount is how copyMounted ends when there is no loop device, no btrfs in the
// kernel, or no right to mount.
const cannotMount = 77

// copyMounted mounts an image and copies a folder into it. It runs in a mount
// namespace of its own, and the loop device goes with the mount.
const copyMounted = `image=$1 tree=$2 at=$3 options=$4
mount -t btrfs -o "loop,noatime,commit=300$options" "$image" "$at" || exit 77
cp -a "$tree/." "$at/" && umount "$at"`

// fillMounted copies the tree into the empty file system, through the kernel.
func (b *build) fillMounted(ctx context.Context) error {
	at := filepath.Join(b.dir, "mounted")
	if err := os.Mkdir(at, 0o700); err != nil {
		return err
	}
	options := ""
	if c := b.img.Filesystem.Compress; c != "" {
		options = ",compress=" + c
	}
	return command{
		argv: []string{"sh", "-c", copyMounted, "sh", filepath.Join(b.dir, rootFile), b.tree.dir, at, options},
		env:  plainEnv(), dir: b.dir, private: true, offline: true,
		line: func(text string) { b.report(step{name: "btrfs", text: text}) },
	}.run(ctx)
}
