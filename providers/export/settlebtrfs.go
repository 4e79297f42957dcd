package export

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
)

// What is read of the superblock of a btrfs (struct btrfs_super_block, include/uapi/linux/btrfs_tree.h).
const (
	btrfsAt         = 64 << 10
	btrfsSize       = 4096
	btrfsSummed     = 0x20 // where what the checksum is of begins
	btrfsBytenr     = 0x30 // le64
	btrfsMagic      = 0x40
	btrfsLogRoot    = 0x60 // le64
	btrfsTotalBytes = 0x70 // le64
	btrfsNumDevices = 0x88 // le64
	btrfsSectorSize = 0x90 // le32
	btrfsNodeSize   = 0x94 // le32
	btrfsCsumType   = 0xc4 // le16

	btrfsCRC32C = 0
	btrfsXXHash = 1
	btrfsSHA256 = 2
	btrfsBLAKE2 = 3
)

// settledBtrfs reports an error for a btrfs whose superblock is not one, or with a log
// tree: what was synced since the last commit of a transaction. Apart from that it is whole
// at every moment. The log could be dropped, but then what the machine was told is written
// would be lost, and only a kernel can play it back. The trees are not looked through: their
// blocks have checksums, which whoever reads them checks.
func settledBtrfs(f *os.File) error {
	st, err := f.Stat()
	if err != nil {
		return err
	}
	b := make([]byte, btrfsSize)
	if _, err := f.ReadAt(b, btrfsAt); err != nil && err != io.EOF {
		return err
	}
	le := binary.LittleEndian
	power := func(n uint32) bool { return n >= 4096 && n <= 64<<10 && n&(n-1) == 0 }
	sector, node := le.Uint32(b[btrfsSectorSize:]), le.Uint32(b[btrfsNodeSize:])
	switch total := le.Uint64(b[btrfsTotalBytes:]); {
	case string(b[btrfsMagic:btrfsMagic+8]) != "_BHRfS_M":
		return errors.New("there is no btrfs on the disk any more")
	case !btrfsSumIsRight(b):
		return fmt.Errorf("%w: the checksum of the superblock is wrong", errDamaged)
	case le.Uint64(b[btrfsBytenr:]) != btrfsAt || !power(sector) || !power(node) || node < sector:
		return fmt.Errorf("%w: its superblock is nonsense", errDamaged)
	case le.Uint64(b[btrfsNumDevices:]) != 1:
		return fmt.Errorf("%w: it has %d devices", errDamaged, le.Uint64(b[btrfsNumDevices:]))
	case total == 0 || total > uint64(st.Size()):
		return fmt.Errorf("%w: it has %d bytes, and the disk %d", errDamaged, total, st.Size())
	case le.Uint64(b[btrfsLogRoot:]) != 0:
		return errLog
	}
	return nil
}

// btrfsSumIsRight checks the checksum of a superblock, where it is of a kind that the
// standard library has.
func btrfsSumIsRight(b []byte) bool {
	switch binary.LittleEndian.Uint16(b[btrfsCsumType:]) {
	case btrfsCRC32C:
		return crc32.Checksum(b[btrfsSummed:], castagnoli()) == binary.LittleEndian.Uint32(b)
	case btrfsSHA256:
		sum := sha256.Sum256(b[btrfsSummed:])
		return bytes.Equal(b[:sha256.Size], sum[:])
	case btrfsXXHash, btrfsBLAKE2:
		return true
	}
	return false
}
