package image

import (
	"context"
	"errors"
	"io"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

var errTest = errors.New("exit status 1")

func TestFlightsShareWork(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var fs flights[int]
		var runs atomic.Int32
		told := make(chan string, 9)
		release := make(chan struct{})
		work := func(ctx context.Context, report func(step)) (int, error) {
			runs.Add(1)
			<-release
			report(step{name: "late"})
			return 42, nil
		}
		got := make(chan int, 2)
		for range 2 {
			go func() {
				v, err := fs.do(t.Context(), "recipe", func(s step) { told <- s.name }, work)
				if err != nil {
					t.Error(err)
				}
				got <- v
			}()
		}
		synctest.Wait()
		close(release)
		if a, b := <-got, <-got; a != 42 || b != 42 || runs.Load() != 1 || len(told) != 2 {
			t.Errorf("%d %d, %d runs, %d told", a, b, runs.Load(), len(told))
		}
	})
}

// until waits for ctx as work does that is killed: it takes a while to be gone.
func until(ended *atomic.Bool) func(context.Context, func(step)) (int, error) {
	return func(ctx context.Context, _ func(step)) (int, error) {
		<-ctx.Done()
		time.Sleep(time.Second)
		ended.Store(true)
		return 0, ctx.Err()
	}
}

func TestFlightEndsWithItsLastWaiter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var fs flights[int]
		var ended atomic.Bool
		one, cancelOne := context.WithCancel(t.Context())
		two, cancelTwo := context.WithCancel(t.Context())
		errs := make(chan error, 2)
		go func() { _, err := fs.do(one, "r", nil, until(&ended)); errs <- err }()
		synctest.Wait()
		go func() { _, err := fs.do(two, "r", nil, until(&ended)); errs <- err }()
		synctest.Wait()
		cancelOne()
		if err := <-errs; !errors.Is(err, context.Canceled) || ended.Load() {
			t.Fatalf("%v, ended %v: somebody still waits", err, ended.Load())
		}
		cancelTwo()
		if err := <-errs; !errors.Is(err, context.Canceled) || !ended.Load() {
			t.Fatalf("%v, ended %v: the last one waits for the end", err, ended.Load())
		}
		// The key is free again.
		v, err := fs.do(t.Context(), "r", nil, func(context.Context, func(step)) (int, error) { return 7, nil })
		if v != 7 || err != nil {
			t.Fatal(v, err)
		}
	})
}

func TestPanicInABuildEndedTheProcess(t *testing.T) {
	var fs flights[int]
	var empty []int
	_, err := fs.do(t.Context(), "r", nil, func(context.Context, func(step)) (int, error) { return empty[len(empty)], nil })
	var re runtime.Error
	if !errors.As(err, &re) || !strings.Contains(err.Error(), "panic while building: ") || !strings.Contains(err.Error(), "flight_test.go") {
		t.Errorf("the flight gave %v", err)
	}
	if v, err := fs.do(t.Context(), "r", nil, func(context.Context, func(step)) (int, error) { return 7, nil }); v != 7 || err != nil {
		t.Errorf("the same work again: %d, %v", v, err)
	}
	r, done := pipe(t.Context(), func(context.Context, io.Writer) error { panic("broken") })
	defer done()
	if _, err := io.ReadAll(r); err == nil || !strings.Contains(err.Error(), "panic while building: broken") {
		t.Errorf("the pipe gave %v", err)
	}
}

func TestFlightLingers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var fs flights[int]
		fs.allow(10 * time.Second)
		var ended atomic.Bool
		release := make(chan struct{})
		work := func(ctx context.Context, _ func(step)) (int, error) {
			select {
			case <-release:
				return 5, nil
			case <-ctx.Done():
				ended.Store(true)
				return 0, ctx.Err()
			}
		}
		leave := func() {
			ctx, cancel := context.WithCancel(t.Context())
			go func() {
				time.Sleep(time.Second)
				cancel()
			}()
			if _, err := fs.do(ctx, "r", nil, work); !errors.Is(err, context.Canceled) {
				t.Error(err)
			}
		}
		leave()
		time.Sleep(9 * time.Second)
		leave() // joins in time, and its leaving starts the wait anew
		time.Sleep(9 * time.Second)
		if ended.Load() {
			t.Fatal("ended while the next one could come")
		}
		go func() { time.Sleep(time.Second / 2); close(release) }()
		if v, err := fs.do(t.Context(), "r", nil, work); v != 5 || err != nil {
			t.Fatal(v, err)
		}
		release = make(chan struct{})
		leave()
		time.Sleep(11 * time.Second)
		synctest.Wait()
		if !ended.Load() {
			t.Fatal("goes on for nobody")
		}
		ended.Store(false)
		leave()
		fs.stop()
		if !ended.Load() {
			t.Fatal("stop left it")
		}
	})
}
