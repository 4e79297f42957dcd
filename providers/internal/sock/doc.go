// Package sock owns listening sockets for the providers: a socket is bound
// because a server block declares its address, is handed over from generation to
// generation as long as that stays so, and is closed only when nobody declares
// it any more.
package sock
