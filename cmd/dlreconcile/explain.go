package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"

	"github.com/spf13/cobra"

	"github.com/dlreconcile/dlreconcile/engine/explain"
)

// explainFlags are the flags of the explain command.
type explainFlags struct {
	arch, class string
	files       []string
	all         bool
}

func (c *cli) explainCommand() *cobra.Command {
	var o explainFlags
	one := exactlyOne("a machine: its MAC, a host's name, or an address")
	cmd := &cobra.Command{
		Use:   "explain MAC|HOST|ADDRESS | --all",
		Short: "Show every answer that one machine would get, and the line that causes it",
		Long: `explain walks one boot of one machine through the tables that answer packets: the
DHCP answers, each file in the order it is asked for, the kernel line, and the export
that holds the root, each with the place in the configuration that caused it, and what
would fail. Nothing is sent, and no address is given away. It asks the daemon, whose
tables and leases the answers come from.

The machine boots with the firmware that it was last seen with, or with a BIOS: --arch
says another. Where another DHCP server gives out the addresses, --file says which boot
file that one names; a second --file is what it names to the iPXE that the first one
is. Without it, they are the files that our own server would name.

--all explains every host, and for each subnet a machine without a host block. With
--json it prints an array of one line for each, so that two of them can be compared.

Exit codes: 0 it would boot, or get its address, 1 it would not, 5 no daemon.`,
		Example: `  dlreconcile explain 52:54:00:00:00:01
  dlreconcile explain render01 --arch uefi
  dlreconcile explain 10.0.0.21 --class iPXE --json
  dlreconcile explain 10.0.0.77 --file pxelinux.0
  dlreconcile explain --all --json >after.json && diff before.json after.json`,
		Args: func(cmd *cobra.Command, args []string) error {
			if !o.all {
				return one(cmd, args)
			}
			if len(args) > 0 {
				return fmt.Errorf("explain --all is every machine: do not name %q beside it", args[0])
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			q, err := o.query()
			if err != nil {
				return err
			}
			if o.all {
				q.Set("all", "1")
				return c.explainAll(cmd.Context(), q)
			}
			q.Set("machine", args[0])
			return c.explainOne(cmd.Context(), q)
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.arch, "arch", "", "client architecture, option 93: a `NUMBER` or a name, such as bios, uefi, uefi-http, arm64")
	f.StringVar(&o.class, "class", "", "user `CLASS`, option 77: iPXE for a machine whose own ROM is iPXE")
	f.StringArrayVar(&o.files, "file", nil, "boot `FILE` that another DHCP server names; may be given again for the iPXE that it is")
	f.BoolVar(&o.all, "all", false, "every host, and for each subnet a machine without a host block")
	return cmd
}

func (o *explainFlags) query() (url.Values, error) {
	q := url.Values{}
	if o.arch != "" {
		if _, err := explain.ParseArch(o.arch); err != nil {
			return nil, &coded{exitUsage, err}
		}
		q.Set("arch", o.arch)
	}
	if o.class != "" {
		q.Set("class", o.class)
	}
	for _, name := range o.files {
		q.Add("file", name)
	}
	return q, nil
}

func (c *cli) explainOne(ctx context.Context, q url.Values) error {
	client, err := c.needDaemon(ctx)
	if err != nil {
		return err
	}
	var res explain.Result
	if err := client.Get(ctx, "/v1/explain", q, &res); err != nil {
		return err
	}
	if c.json {
		if err := c.printJSON(res); err != nil {
			return err
		}
	} else if err := res.Text(c.out); err != nil {
		return err
	}
	if len(res.Fails) > 0 {
		return &silent{exitError}
	}
	return nil
}

// explainAll prints every boot. Nothing is printed as JSON before all of it is there:
// stdout is one document, whatever comes of the command.
func (c *cli) explainAll(ctx context.Context, q url.Values) error {
	client, err := c.needDaemon(ctx)
	if err != nil {
		return err
	}
	all, broken := 0, 0
	var lines []json.RawMessage
	err = client.Lines(ctx, "/v1/explain", q, func(raw json.RawMessage) error {
		var line struct {
			explain.Result
			Error string `json:"error"`
		}
		if err := json.Unmarshal(raw, &line); err != nil {
			return fmt.Errorf("the daemon's answer: %w", err)
		}
		if line.Error != "" {
			return errors.New(line.Error)
		}
		if all++; len(line.Fails) > 0 {
			broken++
		}
		if c.json {
			lines = append(lines, raw)
			return nil
		}
		if all > 1 {
			fmt.Fprint(c.out, "\n\n")
		}
		return line.Text(c.out)
	})
	if err != nil {
		return err
	}
	if c.json {
		err = printLines(c.out, lines)
	} else {
		_, err = fmt.Fprintf(c.out, "\n\n%s, of which %d would not work.\n", count(all, "boot", "boots"), broken)
	}
	if err == nil && broken > 0 {
		err = &silent{exitError}
	}
	return err
}

// printLines writes an array with a line for each element.
func printLines(w io.Writer, lines []json.RawMessage) error {
	sep := "[\n"
	for _, l := range lines {
		if _, err := fmt.Fprintf(w, "%s%s", sep, l); err != nil {
			return fmt.Errorf("output: %w", err)
		}
		sep = ",\n"
	}
	end := "\n]\n"
	if len(lines) == 0 {
		end = "[]\n"
	}
	if _, err := io.WriteString(w, end); err != nil {
		return fmt.Errorf("output: %w", err)
	}
	return nil
}
