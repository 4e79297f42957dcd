// Package plan compares a desired state with what is applied and what was
// observed, and says what would change, why, and what that means for which
// machine. It is pure: it imports no os, net or time, and the same input gives
// the same plan to the byte.
package plan
