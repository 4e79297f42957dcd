package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// forge takes what is posted to it, and remembers it.
type forge struct {
	srv  *http.Server
	done chan struct{}

	mu     sync.Mutex // guards the fields below
	posted []string   // "METHOD PATH BODY"
	more   chan struct{}
}

func (f *forge) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	b, _ := io.ReadAll(io.LimitReader(r.Body, fileLimit))
	w.WriteHeader(http.StatusCreated)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.posted = append(f.posted, fmt.Sprintf("%s %s %s", r.Method, r.URL.EscapedPath(), b))
	close(f.more)
	f.more = make(chan struct{})
}

func (f *forge) close() {
	f.srv.Close()
	<-f.done
}

// cmdForge starts a forge, or ends it.
func cmdForge(s *story, ts *testscript.TestScript, args []string) error {
	switch strings.Join(args, " ") {
	case "up":
		l, err := net.Listen("tcp", "127.0.0.1:"+ts.Getenv("FORGE_PORT"))
		if err != nil {
			return err
		}
		f := &forge{done: make(chan struct{}), more: make(chan struct{})}
		f.srv = &http.Server{Handler: f}
		go func() {
			defer close(f.done)
			_ = f.srv.Serve(l) // until close
		}()
		s.forge = f
		return nil
	case "down":
		s.forge.close()
		s.forge = nil
		return nil
	}
	return errors.New("usage: forge up|down")
}

// cmdPosted waits until something was posted to the forge.
func cmdPosted(s *story, _ *testscript.TestScript, args []string) error {
	if len(args) != 1 {
		return errors.New("usage: posted REGEXP")
	}
	return s.awaitLine("what was posted", args[0], func() (string, <-chan struct{}, error) {
		s.forge.mu.Lock()
		defer s.forge.mu.Unlock()
		return strings.Join(s.forge.posted, "\n"), s.forge.more, nil
	})
}

// awaitLine waits until a line of what read gives matches. more is closed when there is
// more of it; nil: nothing tells.
func (s *story) awaitLine(of, pattern string, read func() (text string, more <-chan struct{}, err error)) error {
	want, err := regexp.Compile(pattern)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(s.ctx, storyLimit)
	defer cancel()
	for {
		text, more, err := read()
		if err != nil {
			return err
		}
		for line := range strings.Lines(text) {
			if want.MatchString(line) {
				return nil
			}
		}
		var again <-chan time.Time
		if more == nil {
			again = time.After(10 * time.Millisecond)
		}
		select {
		case <-more:
		case <-again:
		case <-ctx.Done():
			return fmt.Errorf("waited in vain for %q in %s: %s", pattern, of, tail([]byte(text), 4000))
		}
	}
}
