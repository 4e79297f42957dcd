package faultnet

import (
	"bufio"
	"io"
	"os/exec"
	"runtime"
	"testing"
)

// A program that a test started was killed when the thread ended that had started it:
// whoever did something in a namespace afterwards may have ended that very thread.
func TestThreadsThatEndKillNoChild(t *testing.T) {
	cmd := exec.Command("cat")
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	r, w := io.Pipe()
	cmd.Stdout = w
	t.Cleanup(func() { w.Close() })
	Start(t, cmd)
	for range 50 {
		ended := make(chan struct{})
		go func() { // as Do does
			defer close(ended)
			runtime.LockOSThread()
		}()
		<-ended
	}
	if _, err := io.WriteString(stdin, "still here\n"); err != nil {
		t.Fatal(err)
	}
	go func() { // no more comes: a dead one would say nothing
		cmd.Process.Wait()
		w.Close()
	}()
	if line, err := bufio.NewReader(r).ReadString('\n'); err != nil || line != "still here\n" {
		t.Errorf("%q, %v", line, err)
	}
	stdin.Close()
}
