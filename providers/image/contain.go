package image

import (
	"fmt"
	"runtime/debug"
)

// contained makes an error of a panic in work. A build parses archives, kernels
// and compressed data that anybody who can push may have made, on goroutines of
// its own: what one of them trips over must cost that build, and not every machine
// that this process serves.
func contained[T any](work func() (T, error)) (result T, err error) {
	defer func() {
		switch r := recover().(type) {
		case nil:
		case error:
			err = fmt.Errorf("panic while building: %w\n%s", r, debug.Stack())
		default:
			err = fmt.Errorf("panic while building: %v\n%s", r, debug.Stack())
		}
	}()
	return work()
}
