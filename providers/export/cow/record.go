package cow

import (
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"path/filepath"
	"regexp"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dlreconcile/dlreconcile/engine/failpoint"
)

// Key names an overlay. Each part is 1 to 128 of [0-9A-Za-z._-], not beginning
// with a dot.
type Key struct {
	Machine  string `json:"machine"`
	Instance string `json:"instance"` // of its boots
	Export   string `json:"export"`
}

// String spells a key as its folder below the store's.
func (k Key) String() string { return filepath.Join(k.Machine, k.Instance, k.Export) }

var part = regexp.MustCompile(`^[0-9A-Za-z_-][0-9A-Za-z._-]{0,127}$`)

func (k Key) check() error {
	for _, s := range [...]string{k.Machine, k.Instance, k.Export} {
		if !part.MatchString(s) {
			return fmt.Errorf("overlay key %q: a part is not 1 to 128 of [0-9A-Za-z._-]", k)
		}
	}
	return nil
}

// Base names the sealed bytes below an overlay.
type Base struct {
	Digest string `json:"digest"`
	Size   int64  `json:"size"` // bytes
}

// Record says what an overlay is.
type Record struct {
	Key
	Base    Base              `json:"base"`
	Created time.Time         `json:"created"`
	Note    map[string]string `json:"note,omitempty"` // the owner's
	// Retired says that the boot it belonged to is over: it cannot be opened any
	// more, so that a machine that comes back late does not find a fresh disk
	// under a mounted file system.
	Retired bool `json:"retired,omitempty"`
	// ServerBoot is the boot id of the server that the live bitmap is valid for.
	ServerBoot string `json:"server_boot"`
	// ServerMount is the superblock that it is valid for; "" is not known.
	ServerMount string `json:"server_mount,omitempty"`
	// Unreadable says why nothing else is known than Key: the record cannot be read, or the
	// folder cannot be opened.
	Unreadable error `json:"-"`
	// CopyOf is set where it is Unreadable because the record, which is sound, is that of
	// another key: somebody copied or moved it here. Base is what the record says then.
	CopyOf Key `json:"-"`
}

const (
	recordVersion  = 2
	versionChecked = 2 // from it on the bitmaps have checksums
	recordFile     = "meta.json"
	maxRecord      = 64 << 10 // bytes of a record file that is still believed
)

// sealed is a record as the file holds it.
type sealed struct {
	Version int             `json:"version"` // of all files of the overlay
	CRC32C  uint32          `json:"crc32c"`  // of Record, as it stands
	Record  json.RawMessage `json:"record"`
}

// writeRecord puts a record on stable storage, whole or not at all. One goroutine at a
// time does so for a folder. version is that of the overlay's other files.
func writeRecord(d folder, r Record, version int) (err error) {
	body, err := json.Marshal(r)
	if err != nil {
		return err
	}
	b, err := json.Marshal(sealed{Version: version, CRC32C: checksum(body), Record: body})
	if err != nil {
		return err
	}
	if err := failpoint.Hit("cow.record.create"); err != nil {
		return err
	}
	if err := d.unlink(pendingFile); err != nil { // a sync that failed left it
		return err
	}
	f, err := d.file(pendingFile, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL)
	if err != nil {
		return err
	}
	defer func() {
		f.Close()
		if err != nil {
			_ = d.unlink(pendingFile) // else the next start does
		}
	}()
	if _, err := f.Write(append(b, '\n')); err != nil {
		return err
	}
	if err := failpoint.Hit("cow.record.sync"); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if err := failpoint.Hit("cow.record.rename"); err != nil {
		return err
	}
	err = d.at("rename", pendingFile, func(at int, name string) error { return unix.Renameat(at, name, at, recordFile) })
	if err != nil {
		return err
	}
	if err := failpoint.Hit("cow.record.renamed"); err != nil {
		return err
	}
	return d.Sync()
}

// readRecord gives an error that is fs.ErrNotExist when there is none. It waits for
// nothing, whatever stands in its place.
func readRecord(d folder) (Record, int, error) {
	f, err := d.file(recordFile, unix.O_RDONLY)
	if err != nil {
		return Record{}, 0, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxRecord+1))
	if err != nil {
		return Record{}, 0, err
	}
	if len(b) > maxRecord {
		return Record{}, 0, d.unfit(recordFile, fmt.Sprintf("it has more than %d bytes", maxRecord))
	}
	r, version, err := parseRecord(b)
	if err != nil {
		return Record{}, 0, fmt.Errorf("%s: %w", f.Name(), err)
	}
	return r, version, nil
}

func parseRecord(b []byte) (Record, int, error) {
	var s sealed
	if err := json.Unmarshal(b, &s); err != nil {
		return Record{}, 0, err
	}
	if s.Version < 1 || s.Version > recordVersion {
		return Record{}, 0, fmt.Errorf("version %d, this program knows those to %d", s.Version, recordVersion)
	}
	if checksum(s.Record) != s.CRC32C {
		return Record{}, 0, errors.New("the checksum does not match")
	}
	var r Record
	if err := json.Unmarshal(s.Record, &r); err != nil {
		return Record{}, 0, err
	}
	if err := r.Key.check(); err != nil {
		return Record{}, 0, err
	}
	if r.Base.Size < 0 {
		return Record{}, 0, fmt.Errorf("a base of %d bytes", r.Base.Size)
	}
	return r, s.Version, nil
}

func castagnoli() *crc32.Table { return crc32.MakeTable(crc32.Castagnoli) }

func checksum(b []byte) uint32 { return crc32.Checksum(b, castagnoli()) }
