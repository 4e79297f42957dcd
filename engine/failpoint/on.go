//go:build failpoints

package failpoint

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Enabled says whether this program has failpoints.
const Enabled = true

// points is what the environment asks for. It is the one package state of this
// program, and only of test builds: a point must be reachable from anywhere.
var points = sync.OnceValue(func() *armed {
	a, err := parse(os.Getenv("DLRECONCILE_FAILPOINT"))
	if err != nil {
		panic("DLRECONCILE_FAILPOINT: " + err.Error())
	}
	if path := os.Getenv("DLRECONCILE_FAILPOINT_LOG"); path != "" {
		if a.log, err = os.OpenFile(path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o644); err != nil {
			panic("DLRECONCILE_FAILPOINT_LOG: " + err.Error())
		}
	}
	return a
})

// Hit marks the point of that name, and does what the environment wants there. The
// error is nil unless the action is error; where nothing may fail it is ignored.
func Hit(name string) error {
	a := points()
	if a.log == nil && len(a.actions) == 0 {
		return nil
	}
	act, ok := a.hit(name)
	if !ok {
		return nil
	}
	return act.do(name)
}

type armed struct {
	actions map[string][]action
	log     *os.File // nil: none is kept

	mu   sync.Mutex // guards hits
	hits map[string]int
}

type action struct {
	nth  int // 0: every hit
	verb string
	arg  string
}

func parse(text string) (*armed, error) {
	a := &armed{actions: map[string][]action{}, hits: map[string]int{}}
	for one := range strings.SplitSeq(text, ";") {
		if one = strings.TrimSpace(one); one == "" {
			continue
		}
		where, what, ok := strings.Cut(one, "=")
		if !ok {
			return nil, fmt.Errorf("%q has no action: want NAME[#N]=ACTION", one)
		}
		var act action
		act.verb, act.arg, _ = strings.Cut(what, ":")
		name, nth, counted := strings.Cut(where, "#")
		if counted {
			n, err := strconv.Atoi(nth)
			if err != nil || n < 1 {
				return nil, fmt.Errorf("%q: want a number from 1 behind #", one)
			}
			act.nth = n
		}
		if err := act.check(); err != nil {
			return nil, fmt.Errorf("%q: %w", one, err)
		}
		a.actions[name] = append(a.actions[name], act)
	}
	return a, nil
}

func (a *armed) hit(name string) (action, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.hits[name]++
	if a.log != nil {
		// One write, so that lines of several processes do not mix.
		_, _ = a.log.WriteString(name + "\n")
	}
	for _, act := range a.actions[name] {
		if act.nth == 0 || act.nth == a.hits[name] {
			return act, true
		}
	}
	return action{}, false
}

func errno(name string) (syscall.Errno, bool) {
	e, ok := map[string]syscall.Errno{
		"": syscall.ENOSPC, "ENOSPC": syscall.ENOSPC, "EIO": syscall.EIO, "EPERM": syscall.EPERM,
		"EACCES": syscall.EACCES, "EADDRINUSE": syscall.EADDRINUSE,
	}[name]
	return e, ok
}

func (act action) check() error {
	var ok bool
	switch act.verb {
	case "kill", "panic":
		ok = act.arg == ""
	case "exit":
		_, err := strconv.Atoi(act.arg)
		ok = err == nil || act.arg == ""
	case "error":
		_, ok = errno(act.arg)
	case "sleep":
		_, err := time.ParseDuration(act.arg)
		ok = err == nil
	case "pause":
		ok = act.arg != ""
	}
	if !ok {
		return errors.New("no such action")
	}
	return nil
}

func (act action) do(name string) error {
	switch act.verb {
	case "kill":
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {} // it takes effect before anything else happens here
	case "exit":
		code := 1
		if act.arg != "" {
			code, _ = strconv.Atoi(act.arg)
		}
		os.Exit(code)
	case "panic":
		panic("failpoint " + name)
	case "error":
		e, _ := errno(act.arg)
		return fmt.Errorf("failpoint %s: %w", name, e)
	case "sleep":
		d, _ := time.ParseDuration(act.arg)
		time.Sleep(d)
	case "pause":
		if err := os.WriteFile(act.arg, nil, 0o644); err != nil {
			return err
		}
		for {
			if _, err := os.Stat(act.arg); errors.Is(err, fs.ErrNotExist) {
				return nil
			}
			time.Sleep(5 * time.Millisecond)
		}
	}
	return nil
}
