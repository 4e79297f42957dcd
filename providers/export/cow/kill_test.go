package cow

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"os/exec"
	"testing"
)

const (
	killDir    = "COW_TEST_KILL_DIR" // set in the process that gets killed
	killBlocks = 512
)

// TestMain turns the test binary into the process that is killed.
func TestMain(m *testing.M) {
	if dir := os.Getenv(killDir); dir != "" {
		if err := writeForEver(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// writeForEver writes block after block, round after round, and says on standard
// output which write was answered.
func writeForEver(dir string) error {
	base, b := testBase(20, killBlocks*BlockSize)
	s, err := OpenStore(dir, Config{BootID: "same"})
	if err != nil {
		return err
	}
	o, err := s.Open(testKey, b, bytes.NewReader(base), nil)
	if err != nil {
		return err
	}
	for n := uint64(0); ; n++ {
		// Not in order, across a block boundary, and large enough to be cut.
		off := int64(n*37%(killBlocks-3))*BlockSize + 512
		if _, err := o.WriteAt(killPattern(n), off); err != nil {
			return err
		}
		if err := binary.Write(os.Stdout, binary.BigEndian, n); err != nil {
			return err
		}
	}
}

// killPattern is two blocks long, and says in every 8 bytes which write it was.
func killPattern(n uint64) []byte {
	p := make([]byte, 0, 2*BlockSize)
	for len(p) < 2*BlockSize {
		p = binary.BigEndian.AppendUint64(p, n)
	}
	return p
}

// Whatever was answered before kill -9 is there afterwards, and the write that was
// cut is, in each block, the bytes before it or its own.
func TestKill9(t *testing.T) {
	for _, after := range []int{1, 700, 5000} {
		t.Run(fmt.Sprint(after), func(t *testing.T) {
			dir := t.TempDir()
			cmd := exec.Command(os.Args[0])
			cmd.Env = append(os.Environ(), killDir+"="+dir)
			cmd.Stderr = os.Stderr
			out, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			answered := uint64(0)
			in := bufio.NewReader(out)
			for n := 0; ; n++ {
				var b [8]byte
				if _, err := io.ReadFull(in, b[:]); err != nil {
					break
				}
				answered = binary.BigEndian.Uint64(b[:]) + 1
				if n == after {
					cmd.Process.Kill() // what is in the pipe is read to its end
				}
			}
			cmd.Wait()
			if answered < uint64(after) {
				t.Fatalf("the process died after %d writes", answered)
			}

			base, b := testBase(20, killBlocks*BlockSize)
			model := bytes.Clone(base)
			apply := func(n uint64) {
				copy(model[int64(n*37%(killBlocks-3))*BlockSize+512:], killPattern(n))
			}
			for n := range answered {
				apply(n)
			}
			before := bytes.Clone(model)
			apply(answered) // may have begun

			o := openOverlay(t, openStore(t, dir, "same"), base, b)
			got := make([]byte, len(model))
			if _, err := o.ReadAt(got, 0); err != nil {
				t.Fatal(err)
			}
			for i := 0; i < len(got); i += 512 {
				sector := got[i : i+512]
				if !bytes.Equal(sector, before[i:i+512]) && !bytes.Equal(sector, model[i:i+512]) {
					t.Fatalf("after %d writes: sector at %d is neither old nor new", answered, i)
				}
			}
		})
	}
}
