// Package explain walks one boot of one machine through the answers that the
// providers would give it, in the order in which the machine asks: what `explain`
// prints, and what is checked of every machine before a generation is published.
// The answers come from the functions that answer packets; nothing is worked out
// here a second time.
package explain
