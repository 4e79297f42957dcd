package schema

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"net/url"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// The formats of single values. The errors are whole sentences for people, and never
// quote the value, which may be secret.

// checkRepoPath checks the form of a path in the repo; what is there is seen later.
func checkRepoPath(s string) error {
	if s == "" {
		return errors.New("The path of a file in the repo is needed.")
	}
	return nil
}

// canonical gives the JSON of v without white space and with sorted keys.
func canonical(v any) string {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return "null" // strings, numbers, booleans, lists and maps of them always encode
	}
	return strings.TrimSuffix(b.String(), "\n")
}

func parseIPv4(s string) (netip.Addr, error) {
	a, err := netip.ParseAddr(s)
	if err != nil || !a.Is4() {
		return a, errors.New("An IPv4 address is needed, such as 10.0.0.1.")
	}
	return a, nil
}

// parseNetwork reads a subnet's prefix: one that has addresses for machines.
func parseNetwork(s string) (netip.Prefix, error) {
	p, err := netip.ParsePrefix(s)
	switch {
	case err != nil || !p.Addr().Is4():
		return p, errors.New("An IPv4 network is needed, such as 10.0.0.0/24.")
	case p.Masked() != p:
		return p, fmt.Errorf("There are bits behind the prefix. Did you mean %s?", p.Masked())
	case p.Bits() < 8 || p.Bits() > 30:
		return p, errors.New("A subnet has a prefix between /8 and /30.")
	}
	return p, nil
}

// broadcast is the last address of a network.
func broadcast(p netip.Prefix) netip.Addr {
	b := p.Addr().As4()
	for i := p.Bits(); i < 32; i++ {
		b[i/8] |= 1 << (7 - i%8)
	}
	return netip.AddrFrom4(b)
}

// parseMAC gives the one spelling of a machine's hardware address.
func parseMAC(s string) (string, error) {
	hw, err := net.ParseMAC(s)
	switch {
	case err != nil || len(hw) != 6:
		return "", errors.New(`A hardware address has six bytes, such as "52:54:00:12:34:56".`)
	case hw[0]&1 != 0:
		return "", errors.New("This address is for groups of machines (the lowest bit of its first byte is set), so no machine has it.")
	case bytes.Equal(hw, make([]byte, 6)):
		return "", errors.New("No machine has the hardware address zero.")
	}
	return hw.String(), nil
}

var hostLabel = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?$`)

// maxHostname is HOST_NAME_MAX of Linux: what a machine can be called.
const maxHostname = 64

// checkHostname checks the name of a machine: a domain name that Linux takes.
func checkHostname(s string) error {
	if err := checkDomain(s); err != nil {
		return err
	}
	if len(s) > maxHostname {
		return fmt.Errorf("A machine's name has at most %d characters, dots included: Linux takes no longer one.", maxHostname)
	}
	return nil
}

// checkDomain checks a domain name, RFC 1123 section 2.1.
func checkDomain(s string) error {
	ok := len(s) <= 253
	for label := range strings.SplitSeq(s, ".") {
		ok = ok && hostLabel.MatchString(label)
	}
	if !ok {
		return errors.New("A host name has letters, digits and hyphens, and dots between its parts; a part has at most 63 characters and neither begins nor ends with a hyphen.")
	}
	return nil
}

var sizeForm = regexp.MustCompile(`^([0-9]{1,15})(B|KiB|MiB|GiB|TiB)$`)

var units = []struct {
	name  string
	bytes int64
}{{"TiB", 1 << 40}, {"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}, {"B", 1}}

// parseSize reads a number of bytes.
func parseSize(s string) (int64, error) {
	m := sizeForm.FindStringSubmatch(s)
	if m == nil {
		return 0, errors.New("A size is a whole number and a unit, B, KiB, MiB, GiB or TiB: 2GiB.")
	}
	n, err := strconv.ParseInt(m[1], 10, 64)
	if err != nil {
		return 0, errors.New("The size is too large.")
	}
	for _, u := range units {
		if u.name == m[2] {
			if n > (1<<62)/u.bytes {
				return 0, errors.New("The size is too large.")
			}
			return n * u.bytes, nil
		}
	}
	return 0, errors.New("The unit is not known.")
}

// formatSize gives the shortest exact spelling of a number of bytes.
func formatSize(n int64) string {
	for _, u := range units {
		if n >= u.bytes && n%u.bytes == 0 {
			return strconv.FormatInt(n/u.bytes, 10) + u.name
		}
	}
	return strconv.FormatInt(n, 10) + "B"
}

// showSize shows a number of bytes that may have been left out.
func showSize(n int64) any {
	if n == 0 {
		return nil
	}
	return formatSize(n)
}

// minLimit is what mounting a file system writes at the least, with room to spare.
const minLimit = 1 << 20

// parseLimit reads how much a machine may write.
func parseLimit(s string) (int64, error) {
	n, err := parseSize(s)
	switch {
	case err != nil:
		return 0, err
	case n < minLimit:
		return 0, fmt.Errorf("With less than %s a machine cannot even mount its root. Leave the line out to set no limit; mode = \"read-only\" lets a machine write nothing.", formatSize(minLimit))
	}
	return n, nil
}

// parseFilesystemSize reads the size of a file system of 4 KiB blocks.
func parseFilesystemSize(s string) (int64, error) {
	n, err := parseSize(s)
	switch {
	case err != nil:
		return 0, err
	case n%4096 != 0:
		return 0, errors.New("The size must be a multiple of 4KiB, the block size.")
	case n < minFilesystem || n > maxFilesystem:
		return 0, fmt.Errorf("The size is between %s and %s.", formatSize(minFilesystem), formatSize(maxFilesystem))
	}
	return n, nil
}

var (
	durationForm = regexp.MustCompile(`^([0-9]{1,10}[smhd])+$`)
	durationPart = regexp.MustCompile(`[0-9]+[smhd]`)
	seconds      = map[byte]int64{'s': 1, 'm': 60, 'h': 3600, 'd': 86400}
)

// parseLease reads a lease time: whole seconds, at least a minute, and less than
// the value that means forever, RFC 2131 section 3.3.
func parseLease(s string) (time.Duration, error) {
	if !durationForm.MatchString(s) {
		return 0, errors.New("A duration is whole numbers with units, s, m, h or d: 10m, 1h30m, 7d.")
	}
	total := int64(0)
	for _, p := range durationPart.FindAllString(s, -1) {
		n, _ := strconv.ParseInt(p[:len(p)-1], 10, 64) // ten digits fit
		total += n * seconds[p[len(p)-1]]
		if total > maxLease {
			return 0, errors.New("The duration is too long for DHCP, which counts seconds in 32 bits.")
		}
	}
	if total < minLease {
		return 0, fmt.Errorf("The shortest lease is %ds: shorter ones only make noise on the wire.", minLease)
	}
	return time.Duration(total) * time.Second, nil
}

// formatDuration gives the one spelling of whole seconds: "1h30m".
func formatDuration(d time.Duration) any {
	n, out := int64(d/time.Second), ""
	for _, u := range []byte("dhms") {
		if q := n / seconds[u]; q > 0 {
			out += strconv.FormatInt(q, 10) + string(u)
			n %= seconds[u]
		}
	}
	return out
}

// parseListen reads ":port" or "address:port" for a server that has the address.
func parseListen(address netip.Addr) func(string) (netip.AddrPort, error) {
	return func(s string) (netip.AddrPort, error) {
		host, port, ok := strings.Cut(s, ":")
		n, err := strconv.ParseUint(port, 10, 16)
		if !ok || err != nil || n == 0 || strings.Contains(port, "+") {
			return netip.AddrPort{}, errors.New(`A socket is an IPv4 address and a port, or a port alone: "10.0.0.1:6969", ":6969".`)
		}
		if host != "" {
			if address, err = parseIPv4(host); err != nil {
				return netip.AddrPort{}, err
			}
		}
		return netip.AddrPortFrom(address, uint16(n)), nil
	}
}

func checkInterface(s string) error {
	// The limit is IFNAMSIZ of Linux; the characters are what dev_valid_name takes.
	if s == "" || len(s) > 15 || s == "." || s == ".." || strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r >= 0x7f || r == '/' || r == ':' }) {
		return errors.New("An interface is named by at most 15 characters, without spaces, slashes and colons: eth0.")
	}
	return nil
}

// checkImagePath checks where a file goes in an image.
func checkImagePath(s string) error {
	switch {
	case !strings.HasPrefix(s, "/") || s == "/":
		return errors.New(`The path of a file in an image begins at its root: "/etc/motd".`)
	case path.Clean(s) != s:
		return fmt.Errorf("The path has parts that mean nothing. Did you mean %q?", path.Clean(s))
	case len(s) > 1000 || !utf8.ValidString(s) || strings.ContainsFunc(s, unicode.IsControl):
		return errors.New("The path has control characters, or more than 1000 bytes.")
	}
	return nil
}

// checkLine checks text that is one line wherever it goes.
func checkLine(s string) error {
	if !utf8.ValidString(s) || strings.ContainsFunc(s, unicode.IsControl) {
		return errors.New("It is one line: no line ends, tabs or other control characters.")
	}
	return nil
}

// checkTitle checks the text of a menu.
func checkTitle(s string) error {
	if s == "" || len(s) > 100 {
		return errors.New("A title has 1 to 100 characters.")
	}
	return checkLine(s)
}

func checkArg(s string) error {
	if s == "" {
		return errors.New("A kernel argument is not empty.")
	}
	for word := range strings.FieldsSeq(s) {
		key, _, has := strings.Cut(word, "=")
		if has && slices.Contains([]string{"root", "nbdroot", "nfsroot", "initrd", "BOOTIF", "dlreconcile.url", "dlreconcile.overlay"}, key) {
			return fmt.Errorf("dlreconcile writes %s= itself, from the entry's image and root; a second one would send the machine elsewhere. Say it there, and take the word away.", key)
		}
	}
	return checkLine(s)
}

func checkBootFile(s string) error {
	if s == "" || len(s) > maxBootFileName {
		return fmt.Errorf("A boot file name has 1 to %d bytes: a DHCP answer has no room for more.", maxBootFileName)
	}
	return checkLine(s)
}

// oneOf checks a word of a closed set.
func oneOf(words []string) func(string) error {
	return func(s string) error {
		if slices.Contains(words, s) {
			return nil
		}
		return fmt.Errorf("It must be %s.%s", listed(quoted(words), "or"), didYouMean(s, words))
	}
}

// sortedKeys gives the words of a closed set that mean something else elsewhere.
func sortedKeys(words map[string]string) []string { return slices.Sorted(maps.Keys(words)) }

// matching checks text against a pattern that has to match all of it.
func matching(re *regexp.Regexp, max int, why string) func(string) error {
	return func(s string) error {
		if len(s) > max || !re.MatchString(s) {
			return errors.New(why)
		}
		return nil
	}
}

// checkMirror checks the address of a package archive: it becomes a line of a file
// and an argument of a program.
func checkMirror(s string) error {
	u, err := url.Parse(s)
	if err != nil || !slices.Contains([]string{"http", "https", "file", "copy"}, u.Scheme) || u.Host == "" && u.Path == "" ||
		strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r >= 0x7f || r == '[' || r == ']' }) {
		return errors.New("A mirror is a URL with http, https, file or copy.")
	}
	if u.User != nil {
		return errors.New("A mirror's URL has no user name or password: it is shown in plans.")
	}
	return nil
}

var octal = regexp.MustCompile(`^[0-7]{3,4}$`)

func parsePermissions(s string) (uint32, error) {
	if !octal.MatchString(s) {
		return 0, errors.New(`Permissions are three or four octal digits in quotation marks: "0644".`)
	}
	n, err := strconv.ParseUint(s, 8, 32)
	return uint32(n), err
}
