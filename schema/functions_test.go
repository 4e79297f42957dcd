package schema

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	ctyjson "github.com/zclconf/go-cty/cty/json"

	"github.com/hashicorp/hcl/v2"
)

// evaluate gives the JSON of an expression, through everything that Load does to it.
func evaluate(t *testing.T, expr string, more ...string) (string, hcl.Diagnostics) {
	t.Helper()
	tree := files(append([]string{"a.hcl", "locals {\n  v = " + expr + "\n}\n"}, more...)...)
	l := newLoader(tree, Options{Open: unwrap})
	d := l.run()
	if diags := l.finish(); diags.HasErrors() {
		return "", diags
	}
	if d == nil {
		t.Fatal("nothing was loaded, and nobody says why")
	}
	v, _ := l.locals["v"].value.UnmarkDeep()
	b, err := ctyjson.Marshal(v, v.Type())
	if err != nil {
		t.Fatal(err)
	}
	return string(b), nil
}

// unwrap stands in for a decryption.
func unwrap(sealed []byte) ([]byte, error) {
	if text, ok := bytes.CutPrefix(sealed, []byte("sealed:")); ok {
		return text, nil
	}
	return nil, errors.New("there is no identity for it")
}

func TestFunctions(t *testing.T) {
	side := []string{
		"hosts.csv", "name,mac\na,1\nb,2\n", "t.tmpl", "Hello ${name}%{ for x in xs } ${x}%{ endfor }\n", "n.tmpl", "${n}",
		"outer.tmpl", "<${templatefile(\"n.tmpl\", { n = n + 1 })}>", "text", "one\ntwo\n",
		"site.yaml", "base: &b {x: 1, y: [a, 0x10, 1_000, 1.5, true, null, 'no', no, ~, 2026-01-01]}\nmore:\n  <<: *b\n  x: 2\nlist: [*b]\n",
	}
	for expr, want := range map[string]string{
		`abs(-1)`:                  `1`,
		`ceil(1.2) + floor(1.8)`:   `3`,
		`max(1, 3, 2) - min(1, 3)`: `2`,
		`pow(2, 10)`:               `1024`,
		`parseint("ff", 16)`:       `255`,
		`signum(-3)`:               `-1`,
		`chomp("a\n")`:             `"a"`,
		`format("%s-%03d-%5.2f|%v", "a", 7, 1, [1])`:          `"a-007- 1.00|[1]"`,
		`formatlist("%s-%s", ["a", "b"], "x")`:                `["a-x","b-x"]`,
		`indent(2, "a\nb")`:                                   `"a\n  b"`,
		`join(",", ["a", "b"])`:                               `"a,b"`,
		`lower("AbC")`:                                        `"abc"`,
		`upper("AbC")`:                                        `"ABC"`,
		`title("a b")`:                                        `"A B"`,
		`regex("([a-z]+)([0-9]+)", "ab12")`:                   `["ab","12"]`,
		`regexall("[a-z]", "a1b")`:                            `["a","b"]`,
		`replace("a.b.c", ".", "-")`:                          `"a-b-c"`,
		`split(",", "a,b")`:                                   `["a","b"]`,
		`strlen("aé")`:                                        `2`,
		`strrev("ab")`:                                        `"ba"`,
		`substr("hello", 1, 3)`:                               `"ell"`,
		`trim("--a-", "-")`:                                   `"a"`,
		`trimprefix("abc", "a")`:                              `"bc"`,
		`trimsuffix("abc", "c")`:                              `"ab"`,
		`trimspace(" a ")`:                                    `"a"`,
		`startswith("abc", "a")`:                              `true`,
		`endswith("abc", "a")`:                                `false`,
		`strcontains("abc", "b")`:                             `true`,
		`alltrue([true, false])`:                              `false`,
		`alltrue([])`:                                         `true`,
		`anytrue([true, false])`:                              `true`,
		`chunklist([1, 2, 3], 2)`:                             `[[1,2],[3]]`,
		`coalesce(null, "a")`:                                 `"a"`,
		`coalescelist([], ["a"])`:                             `["a"]`,
		`compact(["a", ""])`:                                  `["a"]`,
		`concat([1], [2])`:                                    `[1,2]`,
		`contains(["a"], "a")`:                                `true`,
		`distinct(["a", "a"])`:                                `["a"]`,
		`element(["a", "b"], 3)`:                              `"b"`,
		`flatten([[1], [[2]]])`:                               `[1,2]`,
		`keys({ b = 1, a = 2 })`:                              `["a","b"]`,
		`values({ b = 1, a = 2 })`:                            `[2,1]`,
		`length("aé")`:                                        `2`,
		`length({ a = 1 })`:                                   `1`,
		`length([1, 2])`:                                      `2`,
		`length(toset(["a", "a"]))`:                           `1`,
		`lookup({ a = 1 }, "b", 2)`:                           `2`,
		`merge({ a = 1 }, { b = 2 })`:                         `{"a":1,"b":2}`,
		`range(3)`:                                            `[0,1,2]`,
		`range(3, 0)`:                                         `[3,2,1]`,
		`range(0, 10, 5)`:                                     `[0,5]`,
		`range(1, 1)`:                                         `[]`,
		`reverse([1, 2])`:                                     `[2,1]`,
		`setunion(["a"], ["b", "a"])`:                         `["a","b"]`,
		`setintersection(["a"], ["b", "a"])`:                  `["a"]`,
		`setsubtract(["a", "b"], ["a"])`:                      `["b"]`,
		`setproduct(["a"], ["x", "y"])`:                       `[["a","x"],["a","y"]]`,
		`slice([1, 2, 3], 1, 2)`:                              `[2]`,
		`sort(["b", "a"])`:                                    `["a","b"]`,
		`zipmap(["a"], [1])`:                                  `{"a":1}`,
		`tobool("true")`:                                      `true`,
		`tonumber("1.5")`:                                     `1.5`,
		`tostring(1)`:                                         `"1"`,
		`tolist(toset(["b", "a"]))`:                           `["a","b"]`,
		`tomap({ a = 1, b = "x" })`:                           `{"a":"1","b":"x"}`,
		`toset(["b", "a", "b"])`:                              `["a","b"]`,
		`csvdecode(file("hosts.csv"))[1].mac`:                 `"2"`,
		`jsondecode("{\"a\":[1,null]}")`:                      `{"a":[1,null]}`,
		`jsonencode({ a = [1, null, "x"] })`:                  `"{\"a\":[1,null,\"x\"]}"`,
		`yamldecode(file("site.yaml")).base.y`:                `["a",16,1000,1.5,true,null,"no","no",null,"2026-01-01"]`,
		`yamldecode(file("site.yaml")).more.x`:                `2`,
		`yamldecode(file("site.yaml")).list[0].x`:             `1`,
		`base64decode(base64encode("aé"))`:                    `"aé"`,
		`sha256("")`:                                          `"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"`,
		`cidrhost("10.0.0.77/24", 5)`:                         `"10.0.0.5"`,
		`cidrhost("10.0.0.0/24", -2)`:                         `"10.0.0.254"`,
		`cidrhost("2001:db8::/64", 16)`:                       `"2001:db8::10"`,
		`cidrnetmask("10.0.0.0/20")`:                          `"255.255.240.0"`,
		`cidrnetmask("0.0.0.0/0")`:                            `"0.0.0.0"`,
		`cidrsubnet("10.0.0.0/8", 8, 2)`:                      `"10.2.0.0/16"`,
		`cidrsubnet("10.0.0.0/8", 8, -1)`:                     `"10.255.0.0/16"`,
		`cidrsubnet("2001:db8::/32", 16, 255)`:                `"2001:db8:ff::/48"`,
		`file("text")`:                                        `"one\ntwo\n"`,
		`templatefile("t.tmpl", { name = "x", xs = [1, 2] })`: `"Hello x 1 2\n"`,
		`templatefile("outer.tmpl", { n = 1 })`:               `"\u003c2\u003e"`,
		`try(1 / "x", "default")`:                             `"default"`,
		`try({ a = 1 }.a, 2)`:                                 `1`,
		`can({ a = 1 }.b)`:                                    `false`,
		`can(1)`:                                              `true`,
		`max([1, 5, 2]...)`:                                   `5`,
		`[for x in [{ a = 1 }, { a = 2 }] : x.a]`:             `[1,2]`,
		`[{ a = 1 }, { a = 2 }][*].a`:                         `[1,2]`,
		`{ for k, v in { a = 1 } : upper(k) => v if v > 0 }`:  `{"A":1}`,
		`{ for x in ["a", "b", "a"] : x => 1... }`:            `{"a":[1,1],"b":[1]}`,
		`"%{ if true }yes%{ else }no%{ endif }"`:              `"yes"`,
		`"${1}-${true}-${"x"}"`:                               `"1-true-x"`,
		`[for local in [1] : local + 1]`:                      `[2]`,
		`[for image in ["a"] : image]`:                        `["a"]`,
		`{ image = 1, (upper("a")) = 2 }`:                     `{"A":2,"image":1}`,
		`!(1 < 2 && 2 <= 2 || 3 != 3)`:                        `false`,
		`-(7 % 4)`:                                            `-3`,
		"<<-E\n    a\n      b\n    E\n":                       `"a\n  b\n"`,
	} {
		got, diags := evaluate(t, expr, side...)
		if diags.HasErrors() {
			t.Errorf("%s: %v", expr, diags)
		} else if got != want {
			t.Errorf("%s = %s, want %s", expr, got, want)
		}
	}
}

// TestFunctionsRefuse has one call for each way to be refused that the invalid files
// do not show.
func TestFunctionsRefuse(t *testing.T) {
	for expr, want := range map[string]string{
		`range()`:                          "range takes",
		`range(1, 2, 0)`:                   "never reached",
		`range(1.5)`:                       "whole numbers",
		`cidrhost("10.0.0.0/24", 1.5)`:     "whole number",
		`cidrsubnet("10.0.0.0/24", 4, 16)`: "no subnet number",
		`cidrnetmask("2001:db8::/32")`:     "only IPv4",
		`base64decode("!")`:                "not base64",
		`base64decode("/w==")`:             "not UTF-8",
		`yamldecode("a: 1\n---\nb: 2")`:    "more than one",
		`yamldecode("? [a]\n: 1")`:         "keys must be text",
		`yamldecode("a: 1\na: 2")`:         "written twice",
		`yamldecode("<<: 1")`:              "only mappings",
		`length(1)`:                        "length takes",
		`regex("x", "y")`:                  "regex failed",
		`format("%s")`:                     "format failed",
		`templatefile("none", {})`:         "There is no file",
		`max()`:                            "Max failed",
		`file(null)`:                       "file failed",
		`lookup({}, "a")`:                  "Not enough function arguments",
		`nothing("x")`:                     "Unknown function",
		`core::upper("x")`:                 "Unknown function",
		`jsondecode("1e99999")`:            "Number out of range",
		`"${pow(10, 400)}"`:                "Number out of range",
		`setproduct(["a"], "b")`:           "setproduct failed",
		`split("", "abc")[9]`:              "Invalid index",
	} {
		_, diags := evaluate(t, expr)
		if !diags.HasErrors() {
			t.Errorf("%s is accepted", expr)
			continue
		}
		if text := diags[0].Summary + ": " + diags[0].Detail; !strings.Contains(strings.ToLower(text), strings.ToLower(want)) {
			t.Errorf("%s: %s; want %q in it", expr, text, want)
		}
	}
}
