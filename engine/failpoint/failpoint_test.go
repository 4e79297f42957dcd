package failpoint_test

import (
	"bytes"
	"debug/elf"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// passes builds the program in testdata.
func passes(t *testing.T, args ...string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "passes")
	args = append(append([]string{"build", "-o", file}, args...), "./testdata/passes")
	cmd := exec.Command("go", args...)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	return file
}

// What is released has neither the names of the points nor a call of Hit.
func TestNothingWithoutTheTag(t *testing.T) {
	file := passes(t)
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"passes.loop.turn", "passes.end", "DLRECONCILE_FAILPOINT"} {
		if bytes.Contains(b, []byte(name)) {
			t.Errorf("the binary has %q in it", name)
		}
	}
	f, err := elf.NewFile(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	symbols, err := f.Symbols()
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range symbols {
		if strings.Contains(s.Name, "engine/failpoint.Hit") {
			t.Errorf("the binary has the function %s", s.Name)
		}
	}
	cmd := exec.Command(file)
	cmd.Env = append(os.Environ(), "DLRECONCILE_FAILPOINT=passes.end=kill")
	if out, err := cmd.CombinedOutput(); err != nil || string(out) != "enabled false\nend\n" {
		t.Errorf("it ends with %v and says %q", err, out)
	}
}

func TestActions(t *testing.T) {
	file := passes(t, "-tags", "failpoints")
	for _, tc := range []struct {
		set, says string
		code      int
		killed    bool
	}{
		{set: "", says: "enabled true\nend\n"},
		{set: "passes.loop.turn=kill", says: "enabled true\n", killed: true},
		{set: "passes.end#2=kill", says: "enabled true\nend\n"},
		{set: "passes.loop.turn#2=error", says: "enabled true\nfailpoint passes.loop.turn: no space left on device\nend\n"},
		{set: "passes.loop.turn#3=error:EPERM; passes.end=exit:7", says: "enabled true\nfailpoint passes.loop.turn: operation not permitted\n", code: 7},
		{set: "passes.end=panic", says: "panic: failpoint passes.end", code: 2},
		{set: "passes.end=error", says: "enabled true\nend\n"}, // nobody looks at it there
		{set: "passes.end=sleep:1ms", says: "enabled true\nend\n"},
		{set: "passes.end=hang", says: `"passes.end=hang": no such action`, code: 2},
		{set: "passes.end#0=kill", says: "want a number from 1", code: 2},
		{set: "passes.end", says: "has no action", code: 2},
	} {
		t.Run(tc.set, func(t *testing.T) {
			cmd := exec.Command(file)
			cmd.Env = append(os.Environ(), "DLRECONCILE_FAILPOINT="+tc.set)
			out, err := cmd.CombinedOutput()
			var exit *exec.ExitError
			if err != nil && !errors.As(err, &exit) {
				t.Fatal(err)
			}
			st := cmd.ProcessState.Sys().(syscall.WaitStatus)
			if tc.killed != (st.Signaled() && st.Signal() == syscall.SIGKILL) || !tc.killed && st.ExitStatus() != tc.code {
				t.Errorf("it ends with %v, want code %d, killed %v", cmd.ProcessState, tc.code, tc.killed)
			}
			if !strings.Contains(string(out), tc.says) {
				t.Errorf("it says %q, want %q", out, tc.says)
			}
		})
	}
}

func TestLog(t *testing.T) {
	file := passes(t, "-tags", "failpoints")
	log := filepath.Join(t.TempDir(), "log")
	cmd := exec.Command(file)
	cmd.Env = append(os.Environ(), "DLRECONCILE_FAILPOINT=passes.loop.turn#2=kill", "DLRECONCILE_FAILPOINT_LOG="+log)
	if err := cmd.Run(); err == nil {
		t.Fatal("it ended well, and was to be killed")
	}
	b, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	if want := "passes.loop.turn\npasses.loop.turn\n"; string(b) != want {
		t.Errorf("the log is %q, want %q", b, want)
	}
}

func TestPause(t *testing.T) {
	file := passes(t, "-tags", "failpoints")
	held := filepath.Join(t.TempDir(), "held")
	var out bytes.Buffer
	cmd := exec.Command(file)
	cmd.Env = append(os.Environ(), "DLRECONCILE_FAILPOINT=passes.end=pause:"+held)
	cmd.Stdout = &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for limit := time.Now().Add(time.Minute); ; {
		if err := os.Remove(held); err == nil {
			break
		}
		if time.Now().After(limit) {
			t.Fatal("it never came to the point")
		}
		<-time.After(time.Millisecond)
	}
	if err := cmd.Wait(); err != nil || out.String() != "enabled true\nend\n" {
		t.Errorf("it ends with %v and says %q", err, out.String())
	}
}
