package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"time"
)

// caller says how patiently to phone.
type caller struct {
	attempts int
	timeout  time.Duration // of one attempt, from dial to answer
	pause    func()
}

func defaultCaller() caller {
	return caller{attempts: 3, timeout: 2 * time.Second, pause: func() { time.Sleep(retryEvery) }}
}

// maxStatus bounds the status line of the answer; nothing else of it is read.
const maxStatus = 1024

// phone tells the server, at base/phone/STAGE, which stage of its boot the machine
// has reached. HTTP/1.0 is written by hand: net/http would triple the program.
func phone(base, stage string, c caller) error {
	host, path, err := splitURL(base)
	if err != nil {
		return err
	}
	if !validStage(stage) {
		return fmt.Errorf("phone: stage %q: want 1 to 32 of a-z, 0-9 and -", stage)
	}
	addr := host
	if _, _, err := net.SplitHostPort(host); err != nil {
		addr = net.JoinHostPort(strings.Trim(host, "[]"), "80")
	}
	path += "/phone/" + stage
	for i := range c.attempts {
		if i > 0 {
			c.pause()
		}
		if err = post(addr, host, path, c.timeout); err == nil {
			return nil
		}
	}
	return fmt.Errorf("phone %s: %w", stage, err)
}

// splitURL reads http://HOST[:PORT][/PATH]. The URL comes from our own kernel
// line; anything that a request line could not carry is refused.
func splitURL(s string) (host, path string, err error) {
	rest, ok := strings.CutPrefix(s, "http://")
	host, path, _ = strings.Cut(rest, "/")
	if !ok || host == "" || printable([]byte(s)) != s || strings.ContainsAny(s, " ?#@") {
		return "", "", fmt.Errorf("phone: URL %q: want http://HOST[:PORT]", s)
	}
	if path = strings.TrimSuffix(path, "/"); path != "" {
		path = "/" + path
	}
	return host, path, nil
}

func validStage(s string) bool {
	return len(s) > 0 && len(s) <= 32 && strings.Trim(s, "abcdefghijklmnopqrstuvwxyz0123456789-") == ""
}

func post(addr, host, path string, timeout time.Duration) error {
	conn, err := net.DialTimeout("tcp", addr, timeout)
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(timeout)); err != nil {
		return err
	}
	req := "POST " + path + " HTTP/1.0\r\nHost: " + host + "\r\nUser-Agent: nbdroot\r\nContent-Length: 0\r\n\r\n"
	if _, err := io.WriteString(conn, req); err != nil {
		return err
	}
	line, err := bufio.NewReader(io.LimitReader(conn, maxStatus)).ReadString('\n')
	if err != nil {
		return err
	}
	proto, rest, ok := strings.Cut(strings.TrimSpace(line), " ")
	if !ok || !strings.HasPrefix(proto, "HTTP/1.") {
		return errors.New("the answer is not HTTP")
	}
	if code, _, _ := strings.Cut(rest, " "); len(code) != 3 || code[0] != '2' {
		return fmt.Errorf("the answer is %q", printable([]byte(rest)))
	}
	return nil
}
