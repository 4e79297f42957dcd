package main

import (
	"os"
	"time"

	"github.com/dlreconcile/dlreconcile/engine"
	"github.com/dlreconcile/dlreconcile/engine/failpoint"
	"github.com/dlreconcile/dlreconcile/engine/node"
	"github.com/dlreconcile/dlreconcile/engine/store"
)

// hurried says that this is a test build whose test wants to see at once what a
// daemon otherwise does after a quarter of an hour: collecting what nobody needs.
func hurried() bool { return failpoint.Enabled && os.Getenv("DLRECONCILE_TEST_HURRY") != "" }

func hurryStore(o *store.Options) {
	if hurried() {
		o.Now = func() time.Time { return time.Now().Add(2 * time.Hour) } // nothing is young
	}
}

func hurryEngine(c *engine.Config) {
	if hurried() {
		c.Keep, c.Settle, c.Retry = 2, time.Nanosecond, 20*time.Millisecond
	}
	if hurriedMachines() {
		c.Collect = time.Nanosecond
	}
}

// hurriedMachines says that machines are gone for good soon after they are silent, and
// that everything is collected with each commit.
func hurriedMachines() bool { return hurried() && os.Getenv("DLRECONCILE_TEST_HURRY") == "machines" }

func hurryNodes(c *node.Config) {
	if hurriedMachines() {
		c.SessionTimeout, c.RootTimeout = 500*time.Millisecond, 500*time.Millisecond
	}
}

func hurryListen(after time.Duration) time.Duration {
	if hurried() {
		return 20 * time.Millisecond
	}
	return after
}
