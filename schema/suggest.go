package schema

import (
	"slices"
	"strings"
)

// Suggest gives the candidate that given is most likely a misspelling of, or "".
func Suggest(given string, candidates []string) string { return suggest(given, candidates) }

// suggest gives the candidate that given is most likely a misspelling of, or "".
// Equal distances are decided by the alphabet, so that messages are stable.
func suggest(given string, candidates []string) string {
	if given == "" || len(given) > 64 || len(candidates) > 2000 {
		return ""
	}
	best, bestDistance := "", min(len(given), 1+min(3, max(1, len(given)/3)))
	for _, c := range slices.Sorted(slices.Values(candidates)) {
		if strings.EqualFold(c, given) {
			return c
		}
		if abs(len(c)-len(given)) >= bestDistance {
			continue
		}
		if d := distance(given, c); d < bestDistance {
			best, bestDistance = c, d
		}
	}
	return best
}

// didYouMean is suggest as the end of a sentence: ` Did you mean "x"?`, or "".
func didYouMean(given string, candidates []string) string {
	if s := suggest(given, candidates); s != "" {
		return ` Did you mean "` + s + `"?`
	}
	return ""
}

// distance is the number of bytes to insert, drop, replace or swap with their
// neighbour to get from a to b.
func distance(a, b string) int {
	before := make([]int, len(b)+1) // two rows up
	prev := make([]int, len(b)+1)
	cur := make([]int, len(b)+1)
	for j := range prev {
		prev[j] = j
	}
	for i := 1; i <= len(a); i++ {
		cur[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			cur[j] = min(prev[j]+1, cur[j-1]+1, prev[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				cur[j] = min(cur[j], before[j-2]+1)
			}
		}
		before, prev, cur = prev, cur, before
	}
	return prev[len(b)]
}

func abs(n int) int {
	if n < 0 {
		return -n
	}
	return n
}

// listed writes words as a person would: "a", "a and b", "a, b and c".
func listed(words []string, and string) string {
	switch len(words) {
	case 0:
		return ""
	case 1:
		return words[0]
	}
	return strings.Join(words[:len(words)-1], ", ") + " " + and + " " + words[len(words)-1]
}

// quoted puts every word into quotation marks.
func quoted(words []string) []string {
	out := make([]string, len(words))
	for i, w := range words {
		out[i] = `"` + w + `"`
	}
	return out
}

// article puts "a" or "an" before a noun.
func article(noun string) string {
	if noun != "" && strings.ContainsRune("aeiou", rune(noun[0])) {
		return "an " + noun
	}
	return "a " + noun
}
