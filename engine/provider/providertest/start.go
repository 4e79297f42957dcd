package providertest

import (
	"os/exec"
	"runtime"
	"sync"
	"syscall"
)

// Start starts a program that the kernel kills when this process is killed. wait gives
// what cmd.Wait does, which is called already, and may be called again and again, by
// anybody. The caller sees to it that the program ends.
func Start(cmd *exec.Cmd) (wait func() error, err error) {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
	started, ended := make(chan error), make(chan error, 1)
	go func() {
		// The kernel sends Pdeathsig when the thread ends that started the child, and
		// threads end: with a goroutine that has locked one and moved it elsewhere.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			ended <- cmd.Wait()
		}
	}()
	if err := <-started; err != nil {
		return nil, err
	}
	return sync.OnceValue(func() error { return <-ended }), nil
}
