package bootloader

import "strings"

// unfit says what keeps an argument from reaching the kernel as it is written; ""
// when nothing does. GRUB puts a backslash before each backslash and quote of an
// argument when it makes the kernel line (grub_create_loader_cmdline), whatever way
// it was quoted in the configuration, and double quotes around an argument that holds
// a space. So quotes pass where they are around the whole.
func (grub) unfit(arg string) string {
	if _, ok := grubEnclosed(arg); ok || !strings.ContainsAny(arg, `\'"`) {
		return ""
	}
	return `holds a quote or a backslash, before which GRUB puts another backslash; only double quotes around a whole argument that holds a space pass: "\"key=two words\"" reaches the kernel and means key="two words" to it`
}

// grubEnclosed gives what is in double quotes, if that is how GRUB would write it.
func grubEnclosed(arg string) (string, bool) {
	inner, ok := strings.CutPrefix(arg, `"`)
	if !ok {
		return "", false
	}
	inner, ok = strings.CutSuffix(inner, `"`)
	return inner, ok && strings.Contains(inner, " ") && !strings.ContainsAny(inner, `\'"`)
}

// grubWords writes an argument of the kernel line for GRUB's configuration, each of
// its words with a space before. It takes macWord, and arguments that unfit lets pass.
func grubWords(arg string) string {
	if arg == macWord {
		return " " + strings.ReplaceAll(arg, "\x00", grubMAC)
	}
	if inner, ok := grubEnclosed(arg); ok {
		return " " + grubQuote(inner)
	}
	var b strings.Builder
	for word := range strings.FieldsSeq(arg) {
		b.WriteString(" " + grubQuote(word))
	}
	return b.String()
}

// grubQuote writes a string as one word of GRUB's script language, in single quotes
// where it needs any: in them everything but the quote itself stands for itself.
func grubQuote(s string) string {
	plain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("/.,:=_-+@%", r)
	}
	if s != "" && strings.IndexFunc(s, func(r rune) bool { return !plain(r) }) < 0 {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
