package main

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestNegotiateForeignServers(t *testing.T) {
	disk := filepath.Join(t.TempDir(), "disk")
	if err := os.WriteFile(disk, make([]byte, 3<<20), 0o644); err != nil {
		t.Fatal(err)
	}
	const readOnly = 1 << 1
	tests := []struct {
		name     string
		server   func(t *testing.T) *foreign
		export   string
		size     uint64
		readOnly bool
		refused  uint32
	}{
		{"nbdkit", func(t *testing.T) *foreign { return nbdkit(t, freeAddr(t), "memory", "5M") },
			"arch@3f2a9c1d7e08+" + strings.Repeat("a", 36), 5 << 20, false, 0},
		{"nbdkit read-only", func(t *testing.T) *foreign { return nbdkit(t, freeAddr(t), "-r", "memory", "5M") },
			"arch", 5 << 20, true, 0},
		{"nbdkit unknown name", func(t *testing.T) *foreign {
			return nbdkit(t, freeAddr(t), "--filter=exportname", "memory", "5M", "exportname=arch", "exportname-strict=true")
		}, "other", 0, false, repErrUnknown},
		{"nbd-server", func(t *testing.T) *foreign { return nbdServer(t, freeAddr(t), "arch", disk, false) },
			"arch", 3 << 20, false, 0},
		{"nbd-server read-only", func(t *testing.T) *foreign { return nbdServer(t, freeAddr(t), "arch", disk, true) },
			"arch", 3 << 20, true, 0},
		{"nbd-server unknown name", func(t *testing.T) *foreign { return nbdServer(t, freeAddr(t), "arch", disk, false) },
			"other", 0, false, repErrUnknown},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			conn := tt.server(t).connect(t)
			defer conn.Close()
			e, err := negotiate(conn, tt.export)
			var no refusal
			if tt.refused != 0 {
				if !errors.As(err, &no) || no.code != tt.refused {
					t.Fatalf("got %v, want refusal %#x", err, tt.refused)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if e.size != tt.size || e.flags&readOnly != 0 != tt.readOnly {
				t.Fatalf("got %+v", e)
			}
			// The connection is in the transmission phase, nothing was read too
			// much: a READ of 512 bytes at 0 has a simple reply of 16+512.
			req := binary.BigEndian.AppendUint32(nil, 0x25609513)
			req = append(req, 0, 0, 0, 0)
			req = append(req, "cookie!!"...)
			req = append(req, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0)
			if _, err := conn.Write(req); err != nil {
				t.Fatal(err)
			}
			reply := make([]byte, 16+512)
			if _, err := io.ReadFull(conn, reply); err != nil {
				t.Fatal(err)
			}
			if binary.BigEndian.Uint32(reply) != 0x67446698 || string(reply[8:16]) != "cookie!!" || reply[7] != 0 {
				t.Fatalf("reply %x", reply[:16])
			}
		})
	}
}

// script is a server that has said everything in advance.
type script struct {
	io.Reader
	bytes.Buffer
}

func (s *script) Read(p []byte) (int, error) { return s.Reader.Read(p) }

func reply(typ uint32, data []byte) []byte {
	b := binary.BigEndian.AppendUint64(nil, magicReply)
	b = binary.BigEndian.AppendUint32(b, optGo)
	b = binary.BigEndian.AppendUint32(b, typ)
	b = binary.BigEndian.AppendUint32(b, uint32(len(data)))
	return append(b, data...)
}

func hello(flags uint16) []byte {
	b := binary.BigEndian.AppendUint64(nil, magicInit)
	b = binary.BigEndian.AppendUint64(b, magicOption)
	return binary.BigEndian.AppendUint16(b, flags)
}

func infoExportReply(size uint64, flags uint16) []byte {
	b := binary.BigEndian.AppendUint16(nil, infoExport)
	b = binary.BigEndian.AppendUint64(b, size)
	return reply(repInfo, binary.BigEndian.AppendUint16(b, flags))
}

func infoBlockReply(least uint32) []byte {
	b := binary.BigEndian.AppendUint16(nil, infoBlockSize)
	b = binary.BigEndian.AppendUint32(b, least)
	b = binary.BigEndian.AppendUint32(b, 4096)
	return reply(repInfo, binary.BigEndian.AppendUint32(b, 32<<20))
}

func join(parts ...[]byte) []byte { return bytes.Join(parts, nil) }

func TestNegotiateOddServers(t *testing.T) {
	tests := []struct {
		name string
		says []byte
		want string // part of the error; "" means success
	}{
		{"usual", join(hello(3), infoBlockReply(1), infoExportReply(1<<20, 0x6d), reply(repAck, nil)), ""},
		{"unknown info skipped", join(hello(1), reply(repInfo, []byte{0, 99, 1}), infoExportReply(1<<20, 1), reply(repAck, nil)), ""},
		{"hangs up", hello(3)[:5], "unexpected EOF"},
		{"not NBD", []byte("HTTP/1.1 400 Bad Request\r\n\r\n"), "not a newstyle"},
		{"oldstyle", join([]byte("NBDMAGIC"), []byte{0, 0, 0x42, 2, 0x81, 0x86, 0x12, 0x53, 0, 0}), "not a newstyle"},
		{"newstyle, not fixed", hello(0), "fixed newstyle"},
		{"blocks too large", join(hello(3), infoBlockReply(4096)), "blocks of 4096"},
		{"no size", join(hello(3), reply(repAck, nil)), "without a usable size"},
		{"reply to another option", join(hello(3), append(binary.BigEndian.AppendUint64(nil, magicReply), 0, 0, 0, 3, 0, 0, 0, 1, 0, 0, 0, 0)), "malformed"},
		{"four gigabytes", join(hello(3), append(binary.BigEndian.AppendUint64(nil, magicReply), 0, 0, 0, 7, 0, 0, 0, 3, 255, 255, 255, 255)), "malformed"},
		{"never ends", join(hello(3), bytes.Repeat(reply(repInfo, []byte{0, 9}), 100)), "too many"},
		{"refuses in colour", join(hello(3), reply(repErrPolicy, []byte("\x1b[31mno"))), "not allowed: .[31mno"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			e, err := negotiate(&script{Reader: bytes.NewReader(tt.says)}, "arch")
			if tt.want == "" {
				if err != nil || e.size != 1<<20 {
					t.Fatalf("got %+v, %v", e, err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Fatalf("got %v, want %q", err, tt.want)
			}
		})
	}
}

func FuzzNegotiate(f *testing.F) {
	f.Add(join(hello(3), infoBlockReply(1), infoExportReply(1<<20, 0x6d), reply(repAck, nil)))
	f.Add(join(hello(3), reply(repErrUnknown, []byte("no"))))
	f.Add(hello(0))
	f.Fuzz(func(t *testing.T, b []byte) {
		r := bytes.NewReader(b)
		e, err := negotiate(&script{Reader: r}, "arch")
		if err == nil && e.size < blockSize {
			t.Fatalf("accepted %+v", e)
		}
		if read := len(b) - r.Len(); read > 18+maxReplies*(20+maxReply) {
			t.Fatalf("read %d bytes", read)
		}
	})
}
