package main

import (
	"context"
	"log/slog"
	"os"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
)

// hangups does what SIGHUP asks for until ctx ends: the repo is looked at. Files of keys,
// tokens and certificates are read again whenever they change, so nothing is to be done
// for them; what else is in daemon.hcl counts from the next start on, and is told.
func (c *cli) hangups(ctx context.Context, hup <-chan os.Signal, h *house) error {
	for {
		select {
		case <-hup:
			h.log.Info("SIGHUP: looking at the repo")
			h.engine.Poke()
			c.tellSettings(h.log)
		case <-ctx.Done():
			return nil
		}
	}
}

// tellSettings says what daemon.hcl has that this process does not have, or what the next
// start would refuse of it. It changes nothing.
func (c *cli) tellSettings(log *slog.Logger) {
	now, err := os.ReadFile(c.settings.Config)
	if err != nil && !(os.IsNotExist(err) && len(c.settings.source) == 0) {
		log.Error("daemon.hcl cannot be read", "error", err)
		return
	}
	file, diags := parseDaemonFile(c.settings.Config, now)
	if !diags.HasErrors() {
		files, err := mayOpen()
		if err != nil {
			log.Error("whether daemon.hcl asks for too much cannot be told", "error", err)
			return
		}
		diags = file.NBD.checkFiles(files, log)
	}
	if diags.HasErrors() {
		log.Error("daemon.hcl is wrong: the next start would fail, and what this one began with stays in force", "error", diags)
		return
	}
	if names := changedSettings(c.settings.source, now); len(names) > 0 {
		log.Warn("daemon.hcl has changed, which counts from the next start on: restart the service", "settings", strings.Join(names, ", "))
	}
}

// changedSettings names the attributes and blocks that differ between two forms of
// daemon.hcl, sorted. Comments, order and white space do not count.
func changedSettings(old, now []byte) []string {
	before, after := settingsOf(old), settingsOf(now)
	var names []string
	for name, text := range before {
		if after[name] != text {
			names = append(names, name)
		}
	}
	for name := range after {
		if _, ok := before[name]; !ok {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// settingsOf gives the words of each attribute and block, by its name.
func settingsOf(src []byte) map[string]string {
	out := map[string]string{}
	f, _ := hclsyntax.ParseConfig(src, "", hcl.InitialPos)
	body, ok := f.Body.(*hclsyntax.Body)
	if !ok {
		return out
	}
	for name, a := range body.Attributes {
		out[name] += words(a.SrcRange.SliceBytes(src))
	}
	for _, b := range body.Blocks {
		name := strings.Join(append([]string{b.Type}, b.Labels...), " ")
		out[name] += wordsOf(b.Body, src) // several may have one name
	}
	return out
}

// wordsOf gives what counts of a block, in an order that is always the same.
func wordsOf(body *hclsyntax.Body, src []byte) string {
	var list []string
	for _, a := range body.Attributes {
		list = append(list, words(a.SrcRange.SliceBytes(src)))
	}
	for _, b := range body.Blocks {
		list = append(list, strings.Join(append([]string{b.Type}, b.Labels...), " ")+wordsOf(b.Body, src))
	}
	slices.Sort(list)
	return "{" + strings.Join(list, "\n") + "}"
}

// words gives what counts of a piece of source.
func words(src []byte) string {
	tokens, _ := hclsyntax.LexConfig(src, "", hcl.InitialPos)
	var b strings.Builder
	for _, t := range tokens {
		if t.Type != hclsyntax.TokenComment && t.Type != hclsyntax.TokenNewline {
			b.Write(t.Bytes)
			b.WriteByte(0)
		}
	}
	return b.String()
}
