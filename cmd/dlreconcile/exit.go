package main

import (
	"errors"

	"github.com/hashicorp/hcl/v2"

	"github.com/dlreconcile/dlreconcile/engine"
	"github.com/dlreconcile/dlreconcile/engine/api"
	"github.com/dlreconcile/dlreconcile/engine/store"
)

// Exit codes. They are part of the command line's contract.
const (
	exitOK       = 0
	exitError    = 1
	exitPending  = 2 // changes pending, only with --detailed-exitcode
	exitInvalid  = 3 // the configuration is wrong
	exitStale    = 4 // the plan is not of what is served now
	exitLocked   = 5 // another daemon holds the state, or none is there
	exitDenied   = 6 // the policy in force does not let it through, or nobody trusted made it
	exitReverted = 7 // it was applied on trial, and then reverted
	exitUsage    = 64
)

// coded is an error that names its exit code.
type coded struct {
	code int
	err  error
}

func (c *coded) Error() string { return c.err.Error() }
func (c *coded) Unwrap() error { return c.err }

// silent is an error that has been told already.
type silent struct{ code int }

func (s *silent) Error() string { return "" }

// exitCode finds the code for an error.
func exitCode(err error) int {
	var c *coded
	var s *silent
	var diags hcl.Diagnostics
	var locked *store.LockedError
	var failed *engine.Failure
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &s):
		return s.code
	case errors.As(err, &c):
		return c.code
	case errors.As(err, &diags):
		return exitInvalid
	case errors.As(err, &locked), errors.Is(err, api.ErrNoDaemon):
		return exitLocked
	case errors.As(err, &failed):
		switch failed.Reason {
		case engine.ReasonInvalid:
			return exitInvalid
		case engine.ReasonStale:
			return exitStale
		case engine.ReasonDenied, engine.ReasonUntrusted:
			return exitDenied
		case engine.ReasonReverted:
			return exitReverted
		}
	}
	return exitError
}
