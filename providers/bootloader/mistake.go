package bootloader

import (
	"fmt"

	"github.com/hashicorp/hcl/v2"

	"github.com/dlreconcile/dlreconcile/schema"
)

// choosy is a family whose loader spoils arguments that others hand over.
type choosy interface {
	// unfit says what keeps an argument that checkArg lets pass from reaching the
	// kernel as it is written; "" when nothing does.
	unfit(arg string) string
}

// checkArgs refuses arguments that would not reach the kernel as they are written.
func (c *compiler) checkArgs(f family, who schema.Addr, at schema.Range, args []string) {
	for _, a := range args {
		why := checkArg(a)
		if f, ok := f.(choosy); ok && why == "" {
			why = f.unfit(a)
		}
		if why != "" {
			c.refuse(at, "An argument would not reach the kernel",
				fmt.Sprintf("The argument %q of %s %s. Write it so that the kernel line can carry it.", a, who, why))
		}
	}
}

// culprit is who made a kernel line what it is.
type culprit struct {
	at  schema.Range
	who string
}

// toBlame gives the entry, when it alone is enough, or else the host, or, when that
// says nothing, its group.
func (c *compiler) toBlame(e *schema.Entry, settled schema.Way, entryAlone bool) culprit {
	h, g := settled.Host, settled.Group
	switch {
	case entryAlone || h == nil:
		return culprit{e.At("args"), e.Addr.String()}
	case len(h.Args) == 0 && g != nil:
		return culprit{g.At("args"), g.Addr.String() + " with " + e.Addr.String()}
	}
	return culprit{h.At("args"), h.Addr.String() + " with " + e.Addr.String()}
}

// lineTooLong refuses a kernel line of n bytes.
func (c *compiler) lineTooLong(n int, by culprit) {
	c.refuse(by.at, "A kernel line is too long",
		fmt.Sprintf("The kernel line of %s would have %d bytes; boot loaders cut it at about 2000 without a word, so %d are allowed. Shorten the arguments, or put settings into the image.", by.who, n, maxLine))
}

// tooManyWords refuses a kernel line with n words key=value.
func (c *compiler) tooManyWords(n int, by culprit) {
	c.refuse(by.at, "A kernel line has too many settings",
		fmt.Sprintf("The kernel line of %s would have %d words of the form key=value, some of them dlreconcile's own; a kernel that does not know about 30 of them panics, so %d are allowed. Those with a dot in the key do not count. Take some out, or put settings into the image.", by.who, n, maxUnknown))
}

// refuse notes a mistake, once for each place: several ways to boot may meet it.
func (c *compiler) refuse(r schema.Range, summary, detail string) {
	key := mistake{r, summary}
	if c.refused[key] {
		return
	}
	c.refused[key] = true
	d := &hcl.Diagnostic{Severity: hcl.DiagError, Summary: summary, Detail: detail}
	if r.File != "" {
		d.Subject = new(r.HCL())
	}
	c.diags = append(c.diags, d)
}

// mistake is what was refused where.
type mistake struct {
	at      schema.Range
	summary string
}
