// Package handover opens the listening sockets of the daemon, and gives them to the
// process that comes after it: in systemd's file descriptor store
// (FileDescriptorStoreMax= of systemd.service(5)). Between the two, who connects waits
// in the socket's queue instead of being refused, and a datagram in its buffer.
//
// What is stored has a name, FDNAME of sd_pid_notify_with_fds(3), that says what it is
// for. It is taken by the next process when the kernel says that it is what would be
// bound anew, and closed otherwise. Where there is no NOTIFY_SOCKET nothing is stored.
package handover
