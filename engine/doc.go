// Package engine is the reconcile loop: trigger, fetch, load, observe, plan, gate,
// prepare, check, record, commit, retire. It knows providers only through their
// contract, and one goroutine of it calls them.
package engine
