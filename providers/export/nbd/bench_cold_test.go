package nbd

import (
	"fmt"
	"slices"
	"testing"
	"time"
)

// What reads of pages that are in memory cost while others wait for a disk, which takes
// 20 ms for each of half of the pages.
func BenchmarkColdCache(b *testing.B) { benchCold(b) } // it takes its own medians

func benchCold(t testing.TB) {
	apart(t)
	s := startRole(t, "half cold", "half cold", benchFile(t))
	hits := load{Port: s.port, Conns: 4, Depth: 4, Block: 4096, Random: true, Step: 8192, For: 500 * time.Millisecond}
	cold := load{Port: s.port, Conns: 4, Depth: 16, Block: 4096, Random: true, Step: 8192, Phase: 4096, For: 1200 * time.Millisecond}
	var alone, beside []time.Duration
	var reads int64
	for range 9 {
		r, _ := runLoad(t, hits)
		alone = append(alone, r.P99)
		misses := startLoad(t, cold)
		<-time.After(200 * time.Millisecond) // they are with the disk by then
		r, _ = runLoad(t, hits)
		beside = append(beside, r.P99)
		r, _ = misses()
		reads += r.Ops
	}
	median := func(list []time.Duration) float64 {
		slices.Sort(list)
		return float64(list[len(list)/2].Nanoseconds()) / 1e3
	}
	a, b := median(alone), median(beside)
	fmt.Println() // testing cuts what a benchmark logs
	fmt.Printf("hits of 4 connections × depth 4, p99: %.0f µs (%d…%d) undisturbed, %.0f µs (%d…%d) beside 4 × depth 16 of pages that take %v (%d of them): ratio %.2f, aim ≤ 2\n",
		a, alone[0].Microseconds(), alone[len(alone)-1].Microseconds(), b, beside[0].Microseconds(), beside[len(beside)-1].Microseconds(), coldPage, reads, b/a)
}
