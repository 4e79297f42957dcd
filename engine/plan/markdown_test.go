package plan

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/yuin/goldmark"
	"github.com/yuin/goldmark/extension"
	gmhtml "github.com/yuin/goldmark/renderer/html"
	"golang.org/x/net/html"

	"github.com/dlreconcile/dlreconcile/schema"
)

// hostile are names and values that mean something in Markdown, in HTML or on GitHub.
var hostile = []string{
	"<script>alert(1)</script>", "</code></summary></details><img src=x onerror=alert(1)>", "`code` ``two``", "```\nfence\n```", "~~~~~~", "````` five",
	"[link](http://evil.example)", "![image](x)", "http://evil.example", "www.evil.example", "WWW.evil.example", "someone@evil.example", "*bold* _em_ ~~gone~~",
	"a|b|c", "&lt;b&gt; &#64;", "\\*", "\x1b[2J", "<!-- ", "-->", "$x$", "# head", "- [x] done", "<https://evil.example>", "\u202etxt.exe", "]]>", "a\r\nb", "    four",
}

// hostilePlan has s wherever a name or a value of a repo may stand.
func hostilePlan(s string) *Plan {
	a, b := schema.Addr{Kind: "host", Name: "ws", Key: s}, schema.Addr{Kind: "image", Name: "arch", Key: s}
	at := schema.Range{File: s + ".hcl", Line: 1, Column: 2}
	long, longer := string(quote("one\n"+s+"\nthree")), string(quote("one\n"+s+" \nthree\nfour"))
	return &Plan{
		Changes: []Change{
			{Address: a, From: b, Reason: Moved, Action: Update, Inputs: []schema.Addr{b}, Range: at,
				Before: map[string]json.RawMessage{s: quote(s), "list": json.RawMessage("[" + string(quote(s)) + "]"), "text": json.RawMessage(long)},
				After:  map[string]json.RawMessage{s: quote(s + "2"), "list": json.RawMessage("[]"), "text": json.RawMessage(longer), "new " + s: quote(s)},
				Impact: []Impact{{Effect: EffectDiscards, Machines: []string{a.String(), s}, Artifact: s, Detail: s}, {Effect: EffectKeeps, Machines: []string{s}, Artifact: s, Detail: s}}},
		},
		Warnings: []Warning{{Summary: s, Detail: s, Machines: []string{s}, Range: at}},
		Denied:   []Denial{{Rule: RuleMaxDelete, Summary: s, Detail: s, Range: at}},
		Waits:    []Wait{{Rule: RuleWindow, Summary: s, Range: at}},
		Revision: &s, BaseGeneration: 1, Targets: []schema.Addr{a},
	}
}

func markdownOf(t *testing.T, p *Plan, limit int) string {
	t.Helper()
	var b bytes.Buffer
	if err := p.Markdown(&b, MarkdownOptions{Limit: limit}); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// parsed renders Markdown as GitHub does, raw HTML included, and gives the tree.
func parsed(t *testing.T, md string) *html.Node {
	t.Helper()
	var out bytes.Buffer
	gm := goldmark.New(goldmark.WithExtensions(extension.GFM), goldmark.WithRendererOptions(gmhtml.WithUnsafe()))
	if err := gm.Convert([]byte(md), &out); err != nil {
		t.Fatal(err)
	}
	n, err := html.Parse(&out)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// structure counts the elements of a page, and gives its text.
func structure(n *html.Node) (elements map[string]int, text string) {
	elements = map[string]int{}
	var b strings.Builder
	for d := range n.Descendants() {
		switch d.Type {
		case html.ElementNode:
			elements[d.Data]++
		case html.TextNode:
			b.WriteString(d.Data)
		case html.CommentNode, html.DoctypeNode:
			elements["comment"]++
		}
	}
	return elements, b.String()
}

// Names and values of a repo are text in a comment, whatever is in them: the page has
// the same elements as with a harmless one.
func TestMarkdownIsSafe(t *testing.T) {
	want, _ := structure(parsed(t, markdownOf(t, hostilePlan("harmless"), 0)))
	if want["table"] != 1 || want["details"] != 1 || want["blockquote"] != 3 || want["a"] != 0 {
		t.Fatalf("elements %v", want)
	}
	for _, s := range hostile {
		md := markdownOf(t, hostilePlan(s), 0)
		got, text := structure(parsed(t, md))
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("%q makes elements %v, want %v:\n%s", s, got, want, md)
		}
		if shown := printable(s); !strings.Contains(strings.ReplaceAll(text, "\u200b", ""), shown) {
			t.Errorf("%q is not read as it is:\n%s", s, text)
		}
	}
}

// GitHub tells people and links issues by what is read outside of code.
func TestMarkdownMentionsNobody(t *testing.T) {
	p := hostilePlan("@octocat see #12")
	var outside func(n *html.Node) string
	outside = func(n *html.Node) string {
		if n.Type == html.TextNode {
			return n.Data
		}
		if n.Data == "code" || n.Data == "pre" {
			return ""
		}
		out := ""
		for c := range n.ChildNodes() {
			out += outside(c)
		}
		return out
	}
	text := outside(parsed(t, markdownOf(t, p, 0)))
	if strings.Contains(text, "@octocat") || strings.Contains(text, "#12") || !strings.Contains(text, "@\u200boctocat") {
		t.Errorf("somebody is told: %q", text)
	}
}

func TestMarkdownIsCutClearly(t *testing.T) {
	p := &Plan{BaseGeneration: 1}
	for n := range 3000 {
		h := schema.Addr{Kind: "host", Name: "ws", Key: fmt.Sprintf("%04dä", n)}
		p.Changes = append(p.Changes, Change{Address: h, Action: Create, Reason: Created,
			After: map[string]json.RawMessage{"mac": quote("52:54:00:00:00:01"), "big": quote(strings.Repeat("x", 500))}, Impact: []Impact{{Effect: EffectNextBoot, Detail: h.Key, Machines: []string{h.String()}}}})
		p.Warnings = append(p.Warnings, Warning{Summary: "s", Detail: "d"})
		p.Summary.Create++
	}
	for _, tc := range []struct {
		rows, warnings, limit int
		want                  string
	}{
		{3000, 3000, 0, "more consequences and all changes are not shown."},
		{10, 3000, 0, "more warnings and all changes are not shown."},
		{10, 0, 0, "more changes are not shown."},
		{10, 0, 1, "more changes are not shown."},
		{10, 0, 20_000, "more changes are not shown."},
	} {
		q := *p
		q.Warnings = q.Warnings[:tc.warnings]
		q.Changes = append([]Change(nil), q.Changes...)
		for n := tc.rows; n < len(q.Changes); n++ {
			q.Changes[n].Impact = nil
		}
		md := markdownOf(t, &q, tc.limit)
		limit := max(tc.limit, leastLimit)
		if tc.limit == 0 {
			limit = 65_536
		}
		if len(md) > limit || utf8.RuneCountInString(md) < limit/2 || !utf8.ValidString(md) {
			t.Errorf("%+v: %d bytes", tc, len(md))
		}
		if n := strings.Count(md, "**Cut here:**"); n != 1 || !strings.Contains(md, tc.want) || !strings.HasSuffix(md, "shows everything.\n") {
			t.Errorf("%+v: it ends in %q", tc, md[max(0, len(md)-300):])
		}
		if open, closed := strings.Count(md, "<details>"), strings.Count(md, "</details>"); open != closed {
			t.Errorf("%+v: %d parts are opened and %d closed", tc, open, closed)
		}
	}
	one := &Plan{Changes: []Change{{Address: addr("image.a"), Action: Create, After: map[string]json.RawMessage{}}}}
	for n := range 1000 {
		one.Changes[0].After[fmt.Sprintf("file[\"/%d\"].content", n)] = quote("text")
	}
	md := markdownOf(t, one, 0)
	if len(md) > 2*maxChangeBytes || !strings.Contains(md, " more lines\n```") || strings.Contains(md, "Cut here") {
		t.Errorf("one large change gives %d bytes that end in %q", len(md), md[len(md)-200:])
	}
}

func TestMarkdownTellsAFailingWriter(t *testing.T) {
	if err := (&Plan{}).Markdown(failing{}, MarkdownOptions{}); err == nil {
		t.Error("no error")
	}
}

func FuzzMarkdown(f *testing.F) {
	for _, s := range hostile {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if !utf8.ValidString(s) || len(s) > 1000 || s == "" {
			t.Skip() // no name or value of a configuration
		}
		want, _ := structure(parsed(t, markdownOf(t, hostilePlan("harmless"), 0)))
		got, _ := structure(parsed(t, markdownOf(t, hostilePlan(s), 0)))
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Fatalf("%q makes elements %v, want %v", s, got, want)
		}
	})
}
