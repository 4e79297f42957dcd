package notify

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// requestLimit is how long one request may take.
const requestLimit = 15 * time.Second

// mostAnswer bounds how much of an answer is read, in bytes.
const mostAnswer = 16 << 10

// newClient makes a client that follows no redirects: a token, or what is signed, goes
// where the settings say and nowhere else.
func newClient() *http.Client {
	return &http.Client{
		Timeout:       requestLimit,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport:     &http.Transport{Proxy: http.ProxyFromEnvironment, ForceAttemptHTTP2: true, TLSHandshakeTimeout: requestLimit, IdleConnTimeout: time.Minute, MaxIdleConnsPerHost: 1},
	}
}

// post sends body, and gives the beginning of the answer. What was answered but 2xx, and
// what cannot be sent at all, is an answerError.
func post(ctx context.Context, client *http.Client, to string, header http.Header, body []byte) (answer string, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, to, bytes.NewReader(body))
	if err != nil {
		return "", answerError{error: err}
	}
	req.Header = header
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", "dlreconcile")
	resp, err := client.Do(req)
	if err != nil {
		// *url.Error names the URL, and a URL may have a secret in it.
		if u := (*url.Error)(nil); errors.As(err, &u) {
			err = u.Err
		}
		return "", err
	}
	defer resp.Body.Close()
	b, _ := io.ReadAll(io.LimitReader(resp.Body, mostAnswer)) // what there is of it
	answer = strings.TrimSpace(string(b))
	code := resp.StatusCode
	switch {
	case code/100 == 2:
		return answer, nil
	case code/100 == 3:
		err = fmt.Errorf("%s: redirects are not followed: write the address it has now", resp.Status)
	default:
		err = fmt.Errorf("%s: %s", resp.Status, excerpt(answer))
	}
	return answer, answerError{err, code, retryAfter(resp.Header, time.Now())}
}

// answerError is an answer by which a message was not taken.
type answerError struct {
	error
	code int           // of the answer; 0: it cannot be sent at all
	wait time.Duration // for how long nothing is to be sent there; 0: that was not said
}

// refusal reports whether a status code speaks of the message alone (RFC 9110, section
// 15.5), and not of who sends it, how often, or of a server in trouble.
func refusal(code int) bool {
	switch code {
	case http.StatusUnauthorized, http.StatusForbidden, http.StatusRequestTimeout, http.StatusTooManyRequests:
		return false
	}
	return code == 0 || code/100 == 4
}

// retryAfter reads the header of that name, in seconds or as a date (RFC 9110, section
// 10.2.3); 0 when there is none such, or it is over. What is longer than mostLater is
// mostLater.
func retryAfter(h http.Header, now time.Time) time.Duration {
	text := strings.TrimSpace(h.Get("Retry-After"))
	if at, err := http.ParseTime(text); err == nil {
		return min(max(at.Sub(now), 0), mostLater)
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil && !errors.Is(err, strconv.ErrRange) { // what is out of range is the last that is in it
		return 0
	}
	return time.Duration(min(max(n, 0), int64(mostLater/time.Second))) * time.Second
}

// excerpt gives what of a foreign answer fits into a line of the log.
func excerpt(text string) string {
	const most = 200
	if r := []rune(printable(text)); len(r) > most {
		return string(r[:most]) + "…"
	}
	return printable(text)
}

// printable puts blanks in the place of what is no text.
func printable(text string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f && r < 0xa0 {
			return ' '
		}
		return r
	}, text)
}
