package export

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"os/exec"
	"strings"
)

// Who mounts an image does so read-only, and may not be able to write to it at all: a
// journal that has to be played back first is then an error, or is left out, and files
// are torn. So what is sealed is a file system that was, or looks as if it was, unmounted.

// Why no image can be made of a file system.
var (
	errLog     = errors.New("its btrfs has a log that has to be played back")
	errTorn    = errors.New("its ext4 was not unmounted, and cannot be made whole here")
	errDamaged = errors.New("its file system says that it is whole, and has errors")
)

// What helps then.
const (
	shutDown = "shut the machine down, so that it unmounts its disk, and promote it without --live"
	inOrder  = "boot the machine from it once more and shut it down in order, so that it unmounts its disk; or discard it by `dlreconcile image reset`"
	checkIt  = "have the machine check it (e2fsck -f, btrfs check); or discard it by `dlreconcile image reset`"
)

// remedy says what the operator can do about an error of settle. live says that the disk
// may have been in use.
func remedy(err error, live bool) string {
	switch {
	case errors.Is(err, errDamaged):
		return "; " + checkIt
	case errors.Is(err, errLog) && live:
		return ": give `sync` on the machine and try again at once, or " + shutDown
	case !errors.Is(err, errLog) && !errors.Is(err, errTorn):
		return ""
	case live:
		return "; " + shutDown
	}
	return "; " + inOrder
}

// settle makes the file system in a file, a private copy of a disk, one that has nothing
// to be played back. One that is clean is not touched. What the machine wrote is not
// trusted: no kernel mounts it.
func settle(ctx context.Context, path, typ string) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	switch typ {
	case "ext4":
		return settleExt4(ctx, f)
	case "btrfs":
		return settledBtrfs(f)
	}
	return fmt.Errorf("whether a file system of the type %q is whole cannot be told: only ext4 and btrfs can be promoted", typ)
}

// What is read of the superblock of an ext4 (Documentation/filesystems/ext4/super.rst).
const (
	ext4At          = 1024
	ext4Magic       = 0x38  // le16
	ext4State       = 0x3a  // le16
	ext4Compat      = 0x5c  // le32
	ext4Incompat    = 0x60  // le32
	ext4ROCompat    = 0x64  // le32
	ext4JournalInum = 0xe0  // le32
	ext4JournalDev  = 0xe4  // le32
	ext4LastOrphan  = 0xe8  // le32
	ext4Checksum    = 0x3fc // le32, of what is before it

	ext4Valid         = 1       // state: unmounted, and without errors
	ext4HasJournal    = 0x4     // compat
	ext4Recover       = 0x4     // incompat: the journal is not empty
	ext4IsJournal     = 0x8     // incompat: it is a journal, and no file system
	ext4OrphanPresent = 0x10000 // ro_compat
	ext4MetadataCsum  = 0x400   // ro_compat
)

// ext4Clean reports whether an ext4 says that it was unmounted. The error says what
// nobody could make right.
func ext4Clean(f *os.File) (bool, error) {
	var b [1024]byte
	if _, err := f.ReadAt(b[:], ext4At); err != nil && err != io.EOF {
		return false, err
	}
	le := binary.LittleEndian
	incompat := le.Uint32(b[ext4Incompat:])
	switch {
	case le.Uint16(b[ext4Magic:]) != 0xef53 || incompat&ext4IsJournal != 0:
		return false, errors.New("there is no ext4 on the disk any more")
	case le.Uint32(b[ext4Compat:])&ext4HasJournal != 0 && (le.Uint32(b[ext4JournalInum:]) == 0 || le.Uint32(b[ext4JournalDev:]) != 0):
		return false, errors.New("the journal of its ext4 is on another disk")
	}
	roCompat := le.Uint32(b[ext4ROCompat:])
	clean := le.Uint16(b[ext4State:]) == ext4Valid && incompat&ext4Recover == 0 && le.Uint32(b[ext4LastOrphan:]) == 0 && roCompat&ext4OrphanPresent == 0
	if clean && roCompat&ext4MetadataCsum != 0 && ^crc32.Checksum(b[:ext4Checksum], castagnoli()) != le.Uint32(b[ext4Checksum:]) {
		return false, fmt.Errorf("%w: the checksum of the superblock is wrong", errDamaged)
	}
	return clean, nil
}

// castagnoli is the table of CRC-32C, which both file systems use.
func castagnoli() *crc32.Table { return crc32.MakeTable(crc32.Castagnoli) }

// settleExt4 has the journal played back, and what is left over cleared away. One that
// says that it is clean is looked through: it is a machine that says so.
func settleExt4(ctx context.Context, f *os.File) error {
	clean, err := ext4Clean(f)
	if err != nil {
		return err
	}
	how, what := "-p", errTorn
	if clean {
		how, what = "-n", errDamaged
	}
	if err := e2fsck(ctx, f, how); err != nil {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if foundErrors(err) {
			return fmt.Errorf("%w: %w", what, err)
		}
		return err
	}
	if clean, err = ext4Clean(f); err == nil && !clean {
		err = fmt.Errorf("%w: it is not clean after e2fsck", errTorn)
	}
	return err
}

// foundErrors reports whether an error of e2fsck is about the file system, and not about
// e2fsck: one that was killed, or came to the end of its memory, says nothing about that.
func foundErrors(err error) bool {
	const left, operational = 4, 8 // e2fsck(8), EXIT CODE
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		return false
	}
	code := exit.ExitCode()
	return code > 0 && code < 32 && (code&left != 0 || code == operational && !strings.Contains(err.Error(), "emory"))
}

// e2fsck looks a file system through. With "-p" it does what is safe without asking: it
// plays the journal back, and finishes what was under way. With "-n" it changes nothing.
// A file system that needs more, with files that are torn, is an error, which is an
// exec.ExitError: an image is not made of that.
func e2fsck(ctx context.Context, f *os.File, how string) error {
	program, err := exec.LookPath("e2fsck")
	if err != nil {
		return errors.New("e2fsck is not installed (package e2fsprogs)")
	}
	ctx, cancel := context.WithTimeoutCause(ctx, confinedTime, fmt.Errorf("e2fsck takes longer than %s", confinedTime))
	defer cancel()
	said, err := confined(ctx, program, f, "-f", how, confinedFile)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	const mended = 1 // e2fsck(8), EXIT CODE: file system errors corrected
	var exit *exec.ExitError
	switch {
	case (err == nil || errors.As(err, &exit) && exit.ExitCode() == mended) && strings.Contains(said, "trying backup blocks"):
		return fmt.Errorf("%w: its superblock is not readable, and a copy of it is", errDamaged)
	case err == nil || errors.As(err, &exit) && exit.ExitCode() == mended:
		return nil
	case errors.As(err, &exit):
		return fmt.Errorf("e2fsck: %w: %s", err, strings.Join(strings.Fields(strings.ToValidUTF8(said, "?")), " "))
	}
	return fmt.Errorf("e2fsck: %w", err)
}
