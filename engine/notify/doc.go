// Package notify tells others what the daemon does: a forge, what became of each commit,
// and whoever wants to know, what happens. It never keeps the daemon waiting: what
// cannot be delivered waits in a queue that has an end, and is tried again.
package notify
