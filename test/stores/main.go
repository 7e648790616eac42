// Command stores runs servers that answer like S3, Google Cloud Storage and Azure Blob Storage as long as
// a command runs.
//
//	cd test && go run ./stores [-dir FOLDER] COMMAND…
//
// The command finds them by its environment:
//
//	VARVE_TEST_S3      http://127.0.0.1:PORT                       versitygw, with the keys "varve" and "varve-secret"
//	                                                               and an empty bucket, varve-outage
//	VARVE_TEST_GCS     http://127.0.0.1:PORT                       fake-gcs-server, without credentials
//	VARVE_TEST_AZURE   http://127.0.0.1:PORT/devstoreaccount1      Azurite, with the key that all its users know
//
// The first two have a bucket "everyday". The servers listen on loopback at ports that are free, keep their data in one temporary folder, and are
// gone with it when the command ends, however it ends; the exit code is the command's. What a server
// printed is shown if it ended before its time.
//
// The first call builds and installs them into $XDG_CACHE_HOME/varve-test/stores (or ~/.cache/…): two in
// Go by the versions and sums of servers/go.mod, about four minutes of one core, and one from npm by
// azurite/package-lock.json. Later calls take a second.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"syscall"
)

func main() {
	code, err := run()
	if err != nil {
		fmt.Fprintln(os.Stderr, "stores:", err)
		code = max(code, 1)
	}
	os.Exit(code)
}

func run() (code int, err error) {
	dir := flag.String("dir", "", "start the command in this `folder`")
	flag.Usage = func() {
		fmt.Fprintln(os.Stderr, "usage: stores [-dir FOLDER] COMMAND…")
		flag.PrintDefaults()
	}
	flag.Parse()
	if flag.NArg() == 0 {
		flag.Usage()
		return 2, nil
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	installed, err := install(ctx)
	if err != nil {
		return 1, err
	}
	servers, err := start(ctx, installed)
	if err != nil {
		return 1, err
	}
	defer func() { err = errors.Join(err, servers.stop()) }()

	command := exec.CommandContext(ctx, flag.Arg(0), flag.Args()[1:]...)
	command.Dir, command.Env = *dir, append(os.Environ(), servers.environment()...)
	command.Stdin, command.Stdout, command.Stderr = os.Stdin, os.Stdout, os.Stderr
	command.Cancel = func() error { return command.Process.Signal(syscall.SIGTERM) }
	err = command.Run()
	if ended := servers.running(); ended != nil {
		return 1, errors.Join(err, ended)
	}
	if exit := new(exec.ExitError); errors.As(err, &exit) {
		return max(exit.ExitCode(), 1), nil // the command has said why
	}
	return 0, err
}
