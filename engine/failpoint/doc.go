// Package failpoint names the instructions at which a process may be made to fail,
// so that a test can kill it, or take the disk away, between any two steps that
// matter. A program built without the tag "failpoints" has none of it: Hit is empty
// and is inlined, and the names are not in the binary.
//
// A program built with the tag looks at two variables of its environment, once:
//
//	DLRECONCILE_FAILPOINT      what is to happen where: NAME[#N]=ACTION, several
//	                           separated by semicolons; N counts the hits of the
//	                           point from 1, and without it every hit counts
//	DLRECONCILE_FAILPOINT_LOG  a file that each hit adds a line to, the name, before
//	                           anything happens
//
// The actions are:
//
//	kill         SIGKILL to the process itself
//	exit[:CODE]  os.Exit, with 1 unless a code is given
//	panic        a panic that names the point
//	error[:E]    Hit gives an error that wraps E: ENOSPC (the default), EIO, EPERM,
//	             EACCES, EADDRINUSE
//	sleep:D      Hit returns after D, such as 200ms
//	pause:FILE   Hit makes FILE, and returns when somebody has removed it
//
// Names are literals, in lower case, "area.step.instant", and each stands at one
// place in the source: a test holds them to that. A point does not stand in a function
// literal of a function that is inlined itself: there Hit would stay a call.
package failpoint
