package handover

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Store is the file descriptor store of this process' unit. A nil *Store keeps nothing,
// and its methods may be called all the same, from several goroutines at once.
type Store struct {
	notify string // path of the socket that the service manager listens on
	log    *slog.Logger

	// turn is full while somebody has the store: it guards all below, and the order of what
	// is sent. It is no mutex, as who has it may wait for the service manager, and nobody who
	// is to stop waits for that.
	turn      chan struct{}
	inherited map[string][]*os.File // that nobody has taken yet
	kept      map[string]bool       // names of what is stored, and in use
	dropped   bool                  // something was, and may not have been closed yet
}

// patience bounds how long the service manager may take for something.
const patience = 2 * time.Second

// firstInherited is SD_LISTEN_FDS_START of sd_listen_fds(3).
const firstInherited = 3

// FromEnvironment takes what the service manager gave this process, and takes it out of
// the environment, so that no program that is run believes it to be its own. It gives nil
// where no service manager is. It is called before anything is opened, once.
func FromEnvironment(log *slog.Logger) *Store {
	pid, fds, names := os.Getenv("LISTEN_PID"), os.Getenv("LISTEN_FDS"), strings.Split(os.Getenv("LISTEN_FDNAMES"), ":")
	for _, v := range []string{"LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"} {
		os.Unsetenv(v)
	}
	s := makeStore(os.Getenv("NOTIFY_SOCKET"), log)
	if n, err := strconv.Atoi(fds); err == nil && pid == strconv.Itoa(os.Getpid()) {
		for i := range n {
			fd := firstInherited + i
			if _, err := unix.FcntlInt(uintptr(fd), unix.F_SETFD, unix.FD_CLOEXEC); err != nil {
				continue // it is not there
			}
			name := "unknown" // as sd_listen_fds_with_names(3) has it
			if i < len(names) && names[i] != "" {
				name = names[i]
			}
			s.inherited[name] = append(s.inherited[name], os.NewFile(uintptr(fd), name))
		}
	}
	if s.notify == "" {
		s.closeRest()
		return nil
	}
	return s
}

func makeStore(notify string, log *slog.Logger) *Store {
	return &Store{notify: notify, log: log, turn: make(chan struct{}, 1), inherited: map[string][]*os.File{}, kept: map[string]bool{}}
}

// lock waits for the store. The caller unlocks it when there was no error.
func (s *Store) lock(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	select {
	case s.turn <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (s *Store) unlock() { <-s.turn }

// Name makes a name of parts, such as a protocol and an address.
func Name(parts ...string) string {
	return strings.Map(func(r rune) rune {
		if r <= ' ' || r > '~' || r == ':' {
			return '_'
		}
		return r
	}, strings.Join(parts, "-"))
}

// Open gives what the process before stored under a name, if adopt takes it, and else
// what bind gives, which is stored then. adopt does not close the file, nor keep it. The
// service manager is not waited for once ctx has ended.
func Open[S syscall.Conn](ctx context.Context, s *Store, name string, adopt func(*os.File) (S, error), bind func() (S, error)) (S, error) {
	if s == nil {
		return bind()
	}
	var none S
	if err := s.lock(ctx); err != nil {
		return none, err
	}
	defer s.unlock()
	for _, f := range s.take(ctx, name) {
		sock, err := adopt(f)
		f.Close()
		if err == nil {
			s.kept[name] = true
			s.log.Info("a listener is taken over from the process before", "name", name)
			return sock, nil
		}
		s.log.Warn("a listener of the process before is of no use, and is bound anew", "name", name, "why", err)
		s.remove(ctx, name)
	}
	if err := s.settle(ctx); err != nil {
		return none, err
	}
	sock, err := bind()
	if err == nil {
		s.keep(ctx, name, sock)
	}
	return sock, err
}

// take gives the one file of a name. Of several nobody knows which is right.
func (s *Store) take(ctx context.Context, name string) []*os.File {
	files := s.inherited[name]
	delete(s.inherited, name)
	if len(files) > 1 {
		for _, f := range files {
			f.Close()
		}
		s.remove(ctx, name)
		return nil
	}
	return files
}

// keep stores a socket. What fails costs the next process no more than a gap.
func (s *Store) keep(ctx context.Context, name string, sock syscall.Conn) {
	raw, err := sock.SyscallConn()
	if err == nil {
		// Polled, it would go at the first error that somebody sends to it (FDPOLL).
		cerr := raw.Control(func(fd uintptr) { err = s.send(ctx, "FDSTORE=1\nFDPOLL=0\nFDNAME="+name, int(fd)) })
		if err == nil {
			err = cerr
		}
	}
	if err != nil {
		s.log.Warn("a listener is not stored: the next process binds it anew", "name", name, "error", err)
		return
	}
	s.kept[name] = true
}

// Drop takes what is stored under a name out of the store, as it is closed for good.
func (s *Store) Drop(name string) {
	if s == nil {
		return
	}
	ctx := context.Background() // each message has its time
	if s.lock(ctx) != nil {
		return
	}
	defer s.unlock()
	if s.kept[name] {
		s.remove(ctx, name)
	}
}

func (s *Store) remove(ctx context.Context, name string) {
	delete(s.kept, name)
	if err := s.send(ctx, "FDSTOREREMOVE=1\nFDNAME="+name); err != nil {
		s.log.Warn("a listener stays open in the service manager", "name", name, "error", err)
		return
	}
	s.dropped = true
}

// Rest closes what nobody has taken: the listeners of an earlier configuration.
func (s *Store) Rest() {
	if s == nil {
		return
	}
	ctx := context.Background() // each message has its time
	if s.lock(ctx) != nil {
		return
	}
	defer s.unlock()
	for _, name := range slices.Sorted(maps.Keys(s.inherited)) {
		s.log.Info("a listener of the process before is not needed any more", "name", name)
		s.remove(ctx, name)
	}
	s.closeRest()
}

func (s *Store) closeRest() {
	for name, files := range s.inherited {
		for _, f := range files {
			f.Close()
		}
		delete(s.inherited, name)
	}
}

// settle waits until what was removed is closed: until then its address is taken. That is
// BARRIER=1 of sd_notify_barrier(3): the service manager closes the pipe when it comes to it.
// It is an error only that ctx has ended: without an answer binding is tried all the same.
func (s *Store) settle(ctx context.Context) error {
	if !s.dropped {
		return ctx.Err()
	}
	s.dropped = false
	r, w, err := os.Pipe()
	if err == nil {
		defer r.Close()
		err = s.send(ctx, "BARRIER=1", int(w.Fd()))
		w.Close()
	}
	if err == nil {
		if err = r.SetReadDeadline(time.Now().Add(patience)); err == nil {
			defer context.AfterFunc(ctx, func() { r.SetReadDeadline(time.Unix(1, 0)) })()
			var b [1]byte
			if _, rerr := r.Read(b[:]); os.IsTimeout(rerr) {
				err = fmt.Errorf("no answer within %s", patience)
			}
		}
	}
	if ctx.Err() != nil {
		s.dropped = true // nobody knows
		return ctx.Err()
	}
	if err != nil {
		s.log.Warn("the service manager does not say that it closed what it was to close", "error", err)
	}
	return nil
}

// send sends one message with descriptors.
func (s *Store) send(ctx context.Context, text string, fds ...int) error {
	address := &net.UnixAddr{Name: s.notify, Net: "unixgram"} // a name that begins with @ is an abstract one
	c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Net: "unixgram"})
	if err != nil {
		return err
	}
	defer c.Close()
	if err := c.SetWriteDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	defer context.AfterFunc(ctx, func() { c.SetWriteDeadline(time.Unix(1, 0)) })()
	var oob []byte
	if len(fds) > 0 {
		oob = unix.UnixRights(fds...)
	}
	_, _, err = c.WriteMsgUnix([]byte(text), oob, address)
	return err
}
