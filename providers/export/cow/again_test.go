package cow

import (
	"bytes"
	"sync"
	"testing"
)

// Who opens an overlay while the last one of the others closes it has open files.
func TestOpenWhileTheLastOneCloses(t *testing.T) {
	s := openStore(t, t.TempDir(), "k")
	base, b := testBase(1, 4*BlockSize)
	x := make([]byte, BlockSize)
	var wg sync.WaitGroup
	for n := range 4 {
		wg.Go(func() {
			for range 150_000 {
				o, err := s.Open(testKey, b, bytes.NewReader(base), nil)
				if err != nil {
					t.Error(err)
					return
				}
				_, err = o.WriteAt(x, int64(n)*BlockSize)
				o.Close()
				if err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
}
