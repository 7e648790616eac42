// Varve backs up Kubernetes: every API object and the data in its volumes go into one deduplicated,
// encrypted repository. Everything it does is in package command; `varve help` shows it.
package main

import (
	"os"

	"github.com/varve-dev/varve/cmd/varve/command"
)

func main() {
	os.Exit(command.Main(command.Process{Args: os.Args, Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr}))
}
