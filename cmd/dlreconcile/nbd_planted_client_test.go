package main

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"time"
)

// plantedConn is a connection to an export.
type plantedConn struct{ net.Conn }

// attach has a machine attach an export, as a boot that says which it is. What the server
// refuses is an error that says so.
func (s *plantedSite) attach(m *plantedMachine, export string, boot int) (c *plantedConn, err error) {
	s.t.Helper()
	var conn net.Conn
	err = s.ill.Do(func() error {
		from := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(m.address())}, Timeout: plantedLimit}
		var err error
		conn, err = from.Dial("tcp", liveServer+":10809")
		return err
	})
	if err != nil {
		return nil, err
	}
	c = &plantedConn{conn}
	defer func() {
		if err != nil {
			conn.Close()
		}
	}()
	if err := conn.SetDeadline(time.Now().Add(plantedLimit)); err != nil {
		return nil, err
	}
	// NBD_OPT_GO, without information requests.
	name := export + "@" + s.base[:12] + "+" + m.instance(boot)
	b := binary.BigEndian.AppendUint32(nil, 1|2) // fixed newstyle, no zeroes
	b = append(b, "IHAVEOPT"...)
	b = binary.BigEndian.AppendUint32(b, 7)
	b = binary.BigEndian.AppendUint32(b, uint32(4+len(name)+2))
	b = binary.BigEndian.AppendUint32(b, uint32(len(name)))
	if _, err := conn.Write(append(append(b, name...), 0, 0)); err != nil {
		return nil, err
	}
	if _, err := io.ReadFull(conn, make([]byte, 18)); err != nil {
		return nil, err
	}
	for {
		var head struct {
			Magic               uint64
			Option, Reply, Size uint32
		}
		if err := binary.Read(conn, binary.BigEndian, &head); err != nil {
			return nil, err
		}
		text := make([]byte, min(head.Size, 4096))
		if _, err := io.ReadFull(conn, text); err != nil {
			return nil, err
		}
		switch {
		case head.Reply>>31 == 1:
			return nil, &plantedRefusal{string(text)}
		case head.Reply == 1: // NBD_REP_ACK
			return c, nil
		}
	}
}

// plantedRefusal is the answer of a server that refuses an export.
type plantedRefusal struct{ text string }

func (r *plantedRefusal) Error() string { return "refused: " + r.text }

// plantedAt is where machines write, in bytes.
const plantedAt = 2 << 20

// Types of requests.
const (
	plantedRead  = 0
	plantedWrite = 1
	plantedFlush = 3
)

// ask sends a request, about the block at plantedAt, and gives what a read gets.
func (c *plantedConn) ask(kind uint16, write []byte, read int) ([]byte, error) {
	if err := c.SetDeadline(time.Now().Add(plantedLimit)); err != nil {
		return nil, err
	}
	b := binary.BigEndian.AppendUint32(nil, 0x25609513)
	b = binary.BigEndian.AppendUint16(b, 0)
	b = binary.BigEndian.AppendUint16(b, kind)
	b = binary.BigEndian.AppendUint64(b, 7)
	at := uint64(plantedAt)
	if kind == plantedFlush {
		at = 0
	}
	b = binary.BigEndian.AppendUint64(b, at)
	b = binary.BigEndian.AppendUint32(b, uint32(len(write)+read))
	if _, err := c.Write(append(b, write...)); err != nil {
		return nil, err
	}
	var reply struct {
		Magic, Error uint32
		Handle       uint64
	}
	if err := binary.Read(c, binary.BigEndian, &reply); err != nil {
		return nil, err
	}
	if reply.Magic != 0x67446698 || reply.Error != 0 || reply.Handle != 7 {
		return nil, fmt.Errorf("request %d: %+v", kind, reply)
	}
	got := make([]byte, read)
	_, err := io.ReadFull(c, got)
	return got, err
}

// write writes and flushes.
func (c *plantedConn) write(b []byte) error {
	if _, err := c.ask(plantedWrite, b, 0); err != nil {
		return err
	}
	_, err := c.ask(plantedFlush, nil, 0)
	return err
}

// wants reads.
func (c *plantedConn) wants(b []byte) error {
	got, err := c.ask(plantedRead, nil, len(b))
	if err == nil && !bytes.Equal(got, b) {
		err = fmt.Errorf("it reads %q, want %q", got[:64], b[:64])
	}
	return err
}
