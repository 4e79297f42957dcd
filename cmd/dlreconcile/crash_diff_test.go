package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/google/go-cmp/cmp"
)

// brief gives the beginning of a difference.
func brief(want, got string) string {
	d := cmp.Diff(want, got)
	return d[:min(len(d), 1500)]
}

// diffLines gives the lines that only one of two texts has, each from a little
// before where the first pair of them differs.
func diffLines(want, got string) string {
	only := func(has, lack []string) (list []string) {
		lack = slices.Clone(lack)
		for _, line := range has {
			if i := slices.Index(lack, line); i >= 0 {
				lack = slices.Delete(lack, i, i+1)
				continue
			}
			list = append(list, line)
		}
		return list
	}
	a, b := strings.Split(want, "\n"), strings.Split(got, "\n")
	a, b = only(a, b), only(b, a)
	same := 0
	if len(a) > 0 && len(b) > 0 {
		for same < min(len(a[0]), len(b[0])) && a[0][same] == b[0][same] {
			same++
		}
	}
	var out strings.Builder
	for sign, list := range map[string][]string{"-": a, "+": b} {
		for _, line := range list {
			line = line[max(0, min(len(line), same)-60):]
			fmt.Fprintf(&out, "%s %.200s\n", sign, line)
		}
	}
	return out.String()
}
