package providertest

import (
	"os/exec"
	"runtime"
	"syscall"
	"testing"
)

// A program that is started by whoever comes along is killed when the thread that he ran
// on ends.
func TestProgramsOutliveTheThreadOfWhoStartsThem(t *testing.T) {
	cmd := exec.Command("sleep", "60")
	begun := make(chan func() error)
	thread, over := 0, make(chan struct{})
	var elsewhere func()
	elsewhere = func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine
		if thread = syscall.Gettid(); thread == syscall.Getpid() {
			go elsewhere() // the first thread of a process does not end
			<-over
			runtime.UnlockOSThread()
			return
		}
		defer close(over)
		wait, err := Start(cmd)
		if err != nil {
			t.Error(err)
		}
		begun <- wait
	}
	go elsewhere()
	wait := <-begun
	<-over
	if wait == nil {
		return
	}
	for syscall.Tgkill(syscall.Getpid(), thread, 0) == nil { // until it has ended
		runtime.Gosched()
	}
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Errorf("it is gone: %v", err)
	}
	for range 2 {
		err, ok := wait().(*exec.ExitError)
		if !ok || err.Sys().(syscall.WaitStatus).Signal() != syscall.SIGTERM {
			t.Errorf("it ended with %v", err)
		}
	}
	if _, err := Start(exec.Command("/nobody/has/this")); err == nil {
		t.Error("what is not there is started")
	}
}
