package nbdprobe

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
)

// Export is what a server says of an export.
type Export struct {
	Name        string // as the server calls it; what was asked for where it does not say
	Description string
	Size        int64 // bytes
	ReadOnly    bool
	MultiConn   bool // a client may use several connections at once
	Structured  bool // replies are structured
	TLS         string
	Minimum     uint32 // block sizes; 0 where the server does not say
	Preferred   uint32
	Maximum     uint32
}

var (
	errProtocol = errors.New("the server does not keep to the protocol")
	errOld      = errors.New("the server speaks oldstyle negotiation, which has no exports")
)

func violation(format string, a ...any) error {
	return fmt.Errorf("%w: %s", errProtocol, fmt.Sprintf(format, a...))
}

// link is one connection. All of it belongs to one goroutine.
type link struct {
	nc     net.Conn
	in     *bufio.Reader
	export Export
}

// negotiate does "Fixed newstyle negotiation" up to the transmission phase. secure is
// nil in the clear.
func (l *link) negotiate(ctx context.Context, name string, secure *tls.Config) error {
	noZeroes, err := l.greet()
	if err != nil {
		return err
	}
	l.export = Export{Name: name}
	if secure != nil {
		if err := l.startTLS(ctx, name, secure); err != nil {
			return err
		}
	}
	switch err := l.ask(name, optStructured, nil, nil); {
	case err == nil:
		l.export.Structured = true
	case !isRefused(err):
		return err
	}
	data := binary.BigEndian.AppendUint32(nil, uint32(len(name)))
	data = append(data, name...)
	data = binary.BigEndian.AppendUint16(data, 3)
	for _, k := range []uint16{infoName, infoDescribe, infoBlockSize} {
		data = binary.BigEndian.AppendUint16(data, k)
	}
	sized := false
	err = l.ask(name, optGo, data, func(b []byte) error {
		exported, err := l.export.learn(b)
		sized = sized || exported
		return err
	})
	var refused *RefusedError
	switch {
	case errors.As(err, &refused) && refused.Type == repUnsup:
		return l.exportName(name, noZeroes)
	case err != nil:
		return err
	case !sized:
		return violation("it attaches without NBD_INFO_EXPORT")
	}
	return nil
}

func isRefused(err error) bool {
	var refused *RefusedError
	return errors.As(err, &refused)
}

// greet reads the server's greeting and answers it.
func (l *link) greet() (noZeroes bool, err error) {
	var b [18]byte
	if _, err := io.ReadFull(l.in, b[:16]); err != nil {
		return false, cut(err)
	}
	if m := binary.BigEndian.Uint64(b[:]); m != greetMagic {
		return false, violation("it begins with %#x: is it an NBD server?", m)
	}
	switch m := binary.BigEndian.Uint64(b[8:]); m {
	case optionMagic:
	case oldMagic:
		return false, errOld
	default:
		return false, violation("magic %#x", m)
	}
	if _, err := io.ReadFull(l.in, b[16:]); err != nil {
		return false, cut(err)
	}
	flags := binary.BigEndian.Uint16(b[16:])
	if flags&flagFixed == 0 {
		return false, violation("it has no fixed newstyle negotiation")
	}
	noZeroes = flags&flagNoZeroes != 0
	answer := uint32(flagFixed)
	if noZeroes {
		answer |= flagNoZeroes
	}
	_, err = l.nc.Write(binary.BigEndian.AppendUint32(nil, answer))
	return noZeroes, err
}

// startTLS is NBD_OPT_STARTTLS.
func (l *link) startTLS(ctx context.Context, name string, secure *tls.Config) error {
	if err := l.ask(name, optStartTLS, nil, nil); err != nil {
		if isRefused(err) {
			return fmt.Errorf("the server has no TLS: %w", err)
		}
		return err
	}
	if l.in.Buffered() > 0 {
		return violation("it sends in the clear after it agreed to TLS")
	}
	c := tls.Client(l.nc, secure)
	if err := c.HandshakeContext(ctx); err != nil {
		return fmt.Errorf("TLS: %w", err)
	}
	l.nc, l.in = c, bufio.NewReaderSize(c, readBuffer)
	l.export.TLS = tls.VersionName(c.ConnectionState().Version)
	return nil
}

// ask sends an option and reads the replies up to the last. An error of the server's is
// a *RefusedError.
func (l *link) ask(name string, id uint32, data []byte, info func([]byte) error) error {
	if _, err := l.nc.Write(appendOption(nil, id, data)); err != nil {
		return err
	}
	for range maxReplies {
		var h [20]byte
		if _, err := io.ReadFull(l.in, h[:]); err != nil {
			return cut(err)
		}
		typ, n := binary.BigEndian.Uint32(h[12:]), binary.BigEndian.Uint32(h[16:])
		switch {
		case binary.BigEndian.Uint64(h[:]) != replyMagic:
			return violation("a reply to an option has another magic")
		case binary.BigEndian.Uint32(h[8:]) != id:
			return violation("a reply is to option %d, and %d was asked", binary.BigEndian.Uint32(h[8:]), id)
		case n > maxReply:
			return violation("a reply to an option has %d bytes", n)
		}
		body := make([]byte, n)
		if _, err := io.ReadFull(l.in, body); err != nil {
			return cut(err)
		}
		switch {
		case typ&repErr != 0:
			return &RefusedError{Export: name, Type: typ, Text: told(body)}
		case typ == repAck:
			return nil
		case typ == repInfo && info != nil:
			if err := info(body); err != nil {
				return err
			}
		default:
			return violation("a reply of type %d to option %d", typ, id)
		}
	}
	return violation("more than %d replies to option %d", maxReplies, id)
}

// learn takes in an NBD_REP_INFO. exported says that it was NBD_INFO_EXPORT.
func (e *Export) learn(b []byte) (exported bool, err error) {
	if len(b) < 2 {
		return false, violation("information of %d bytes", len(b))
	}
	kind, b := binary.BigEndian.Uint16(b), b[2:]
	switch kind {
	case infoExport:
		if len(b) != 10 {
			return false, violation("NBD_INFO_EXPORT of %d bytes", len(b))
		}
		return true, e.sized(binary.BigEndian.Uint64(b), binary.BigEndian.Uint16(b[8:]))
	case infoName:
		e.Name = told(b)
	case infoDescribe:
		e.Description = told(b)
	case infoBlockSize:
		if len(b) != 12 {
			return false, violation("NBD_INFO_BLOCK_SIZE of %d bytes", len(b))
		}
		e.Minimum, e.Preferred, e.Maximum = binary.BigEndian.Uint32(b), binary.BigEndian.Uint32(b[4:]), binary.BigEndian.Uint32(b[8:])
		if e.Minimum == 0 || e.Minimum > 64<<10 || e.Minimum&(e.Minimum-1) != 0 || e.Maximum < e.Minimum {
			return false, violation("block sizes %d, %d, %d", e.Minimum, e.Preferred, e.Maximum)
		}
	}
	return false, nil
}

func (e *Export) sized(size uint64, flags uint16) error {
	if size > math.MaxInt64 {
		return violation("an export of %d bytes", size)
	}
	e.Size, e.ReadOnly, e.MultiConn = int64(size), flags&flagReadOnly != 0, flags&flagMultiConn != 0
	return nil
}

// exportName is NBD_OPT_EXPORT_NAME, for servers without GO. One that refuses closes the
// connection.
func (l *link) exportName(name string, noZeroes bool) error {
	if _, err := l.nc.Write(appendOption(nil, optExportName, []byte(name))); err != nil {
		return err
	}
	b := make([]byte, 10, 10+124)
	if !noZeroes {
		b = b[:cap(b)]
	}
	if _, err := io.ReadFull(l.in, b); err != nil {
		if errors.Is(err, io.EOF) {
			return fmt.Errorf("the server closes the connection when it is asked for %q: there is no such export, or it is not for this client", name)
		}
		return cut(err)
	}
	return l.export.sized(binary.BigEndian.Uint64(b), binary.BigEndian.Uint16(b[8:]))
}

// cut says what an end in the middle is.
func cut(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return errors.New("the server closed the connection")
	}
	return err
}
