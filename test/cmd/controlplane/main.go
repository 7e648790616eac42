// Command controlplane runs a real Kubernetes control plane as long as something needs it.
//
//	controlplane run [--kubeconfig FILE] [--without-workloads] [--until-eof] [-- COMMAND…]
//
// With a command it runs that with KUBECONFIG set, stops the control plane when the command ends, and
// exits as the command did. Without one it prints the line "ready" when the control plane serves and
// stops it on an interrupt, or with --until-eof also at the end of its standard input: a test that
// holds the other end of that pipe cannot forget it, not even by being killed.
//
// The programs are those beside this one (see test/assets), or in $VARVE_TEST_ASSETS.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/varve-dev/varve/test/controlplane"
)

func main() {
	code, err := run()
	if err != nil {
		fmt.Fprintln(os.Stderr, "controlplane:", err)
		code = max(code, 1)
	}
	os.Exit(code)
}

const usage = "usage: controlplane run [--kubeconfig FILE] [--without-workloads] [--until-eof] [-- COMMAND…]"

func run() (code int, err error) {
	flags := flag.NewFlagSet("controlplane run", flag.ContinueOnError)
	flags.Usage = func() { fmt.Fprintln(os.Stderr, usage); flags.PrintDefaults() }
	kubeconfig := flags.String("kubeconfig", "", "write the administrator's kubeconfig to this `file`")
	withoutWorkloads := flags.Bool("without-workloads", false, "no controllers that make objects of Deployments, Jobs and the like")
	untilEOF := flags.Bool("until-eof", false, "stop at the end of standard input too")
	if len(os.Args) < 2 || os.Args[1] != "run" {
		return 2, errors.New(usage)
	}
	if err := flags.Parse(os.Args[2:]); err != nil {
		return 2, nil // flags has told why
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	if *untilEOF {
		ctx = untilEnd(ctx, os.Stdin)
	}
	assets, err := assetsDir()
	if err != nil {
		return 1, err
	}
	cp, err := controlplane.Start(ctx, controlplane.Options{Assets: assets, WithoutWorkloads: *withoutWorkloads})
	if err != nil {
		return 1, err
	}
	defer func() { err = errors.Join(err, cp.Stop()) }()

	file := *kubeconfig
	if file == "" {
		file = filepath.Join(cp.Logs(), "admin.kubeconfig")
	}
	if err := os.WriteFile(file, cp.Kubeconfig(), 0o600); err != nil {
		return 1, err
	}
	if flags.NArg() > 0 {
		return runCommand(ctx, flags.Args(), file)
	}
	fmt.Fprintln(os.Stderr, "KUBECONFIG="+file)
	fmt.Println("ready")
	<-ctx.Done()
	return 0, nil
}

// assetsDir is where the programs are.
func assetsDir() (string, error) {
	if dir := os.Getenv("VARVE_TEST_ASSETS"); dir != "" {
		return dir, nil
	}
	self, err := os.Executable()
	if err != nil {
		return "", err
	}
	return filepath.Dir(self), nil
}

// untilEnd returns a context that also ends with r.
func untilEnd(ctx context.Context, r io.Reader) context.Context {
	ctx, cancel := context.WithCancel(ctx)
	go func() { // ends with the process, as r does
		defer cancel()
		_, _ = io.Copy(io.Discard, r) // an error is an end too
	}()
	return ctx
}

// runCommand runs a command with the kubeconfig in its environment. A signal that ends ctx reaches
// the command as an interrupt.
func runCommand(ctx context.Context, args []string, kubeconfig string) (code int, err error) {
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Env = append(os.Environ(), "KUBECONFIG="+kubeconfig)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	err = cmd.Run()
	if exit := new(exec.ExitError); errors.As(err, &exit) && exit.ExitCode() >= 0 {
		return exit.ExitCode(), nil
	}
	return 0, err
}
