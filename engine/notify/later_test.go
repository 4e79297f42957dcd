package notify

import (
	"net/http"
	"testing"
	"time"
)

// However long a server asks for, it is waited for, and an hour at most.
func TestRetryAfter(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for text, want := range map[string]time.Duration{
		"":                              0,
		"soon":                          0,
		"-5":                            0,
		"-99999999999999999999":         0,
		"0":                             0,
		"120":                           2 * time.Minute,
		"3600":                          time.Hour,
		"99999999":                      time.Hour,
		"99999999999999999999":          time.Hour,
		"Fri, 02 Jan 2026 03:05:05 GMT": time.Minute,
		"Fri, 02 Jan 2026 03:03:05 GMT": 0,
		"Sat, 02 Jan 2999 03:05:05 GMT": time.Hour,
	} {
		if got := retryAfter(http.Header{"Retry-After": {text}}, now); got != want {
			t.Errorf("%q: %s, want %s", text, got, want)
		}
	}
}

// A secret in a URL that is refused is not printed: not a password, nor what is in its
// query, or behind.
func TestRefusedURLIsMasked(t *testing.T) {
	for text, want := range map[string]string{
		"http://chat.example/hook?key=hunter2#hunter2":     `url "http://chat.example/hook?xxxxx": want https: without it anybody on the way could read what is sent`,
		"https://u:hunter2@chat.example/hook?key=hunter2":  `url "https://u:xxxxx@chat.example/hook?xxxxx": leave out the user: what proves who asks is in a file`,
		"ftp://u:hunter2@chat.example/?hunter2":            `url "ftp://u:xxxxx@chat.example/?xxxxx": want one such as "https://git.example/api/v1"`,
		"https://u:hunter2@chat.example:port/?key=hunter2": `url: want one such as "https://git.example/api/v1"`,
	} {
		if err := CheckURL(text); err == nil || err.Error() != want {
			t.Errorf("%s\n got %v\nwant %s", text, err, want)
		}
	}
}

// An empty list would be taken for none, which is every event.
func TestEmptyEventsAreRefused(t *testing.T) {
	if _, err := NewHook(HookConfig{URL: "https://chat.example/", Events: []string{}}); err == nil {
		t.Error("a hook for no event at all")
	}
	if _, err := NewHook(HookConfig{URL: "https://chat.example/"}); err != nil {
		t.Error(err)
	}
}
