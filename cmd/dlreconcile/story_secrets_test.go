package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/dlreconcile/dlreconcile/engine/api"
)

// planted is in every secret of the stories.
const planted = "Zq7x"

// forms gives what a text looks like where it is encoded: as it is, in hex, and in
// base64 wherever it begins within three bytes.
func forms(text string) [][]byte {
	out := [][]byte{[]byte(text), []byte(hex.EncodeToString([]byte(text)))}
	for _, shift := range []int{0, 1, 2} {
		coded := base64.RawStdEncoding.EncodeToString(append(make([]byte, shift), text...))
		// The first and last characters depend on what is beside it.
		from, to := (shift*8+5)/6, (shift+len(text))*8/6
		out = append(out, []byte(coded[from:to]))
	}
	return out
}

// cmdHunt looks for secrets in a file or a folder: hunt PATH. In a state directory it
// passes by the blobs, which are made for machines.
func cmdHunt(_ *story, ts *testscript.TestScript, args []string) error {
	if len(args) != 1 {
		return errors.New("usage: hunt PATH")
	}
	files := 0
	err := filepath.WalkDir(ts.MkAbs(args[0]), func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && d.Name() == "blobs":
			return filepath.SkipDir
		case !d.Type().IsRegular():
			return nil
		}
		files++
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for _, form := range forms(planted) {
			if i := bytes.Index(b, form); i >= 0 {
				return fmt.Errorf("%s has a secret, as %s: …%q…", path, form, b[max(0, i-100):min(len(b), i+60)])
			}
		}
		return nil
	})
	if err == nil && files == 0 {
		err = errors.New("there is nothing to look into")
	}
	return err
}

// cmdAnswers prints what the daemon answers to every question that can be asked.
func cmdAnswers(s *story, ts *testscript.TestScript, args []string) error {
	if len(args) != 0 {
		return errors.New("usage: answers")
	}
	client := api.NewClient(filepath.Join(s.state, "api.sock"))
	var out bytes.Buffer
	for _, path := range []string{"/v1/status", "/v1/observed", "/v1/plan", "/v1/nodes", "/v1/history"} {
		var v json.RawMessage
		if err := client.Get(s.ctx, path, nil, &v); err != nil {
			fmt.Fprintf(&out, "%s: %v\n", path, err) // what it says of a mistake counts too
			continue
		}
		fmt.Fprintf(&out, "%s: %s\n", path, v)
	}
	ctx, cancel := context.WithCancel(s.ctx)
	defer cancel()
	enough := errors.New("enough")
	events := 0
	if err := client.Events(ctx, 0, func(line json.RawMessage) error {
		fmt.Fprintf(&out, "/v1/events: %s\n", line)
		if events++; events == 2 { // of the boot that the story made: the stream does not end
			return enough
		}
		return nil
	}); err != nil && !errors.Is(err, enough) {
		return err
	}
	_, err := ts.Stdout().Write(out.Bytes())
	return err
}
