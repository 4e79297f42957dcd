// Command passes goes past a few failpoints and says so.
package main

import (
	"fmt"
	"os"

	"github.com/dlreconcile/dlreconcile/engine/failpoint"
)

func main() {
	fmt.Println("enabled", failpoint.Enabled)
	for range 3 {
		if err := failpoint.Hit("passes.loop.turn"); err != nil {
			fmt.Println(err)
		}
	}
	failpoint.Hit("passes.end")
	fmt.Fprintln(os.Stdout, "end")
}
