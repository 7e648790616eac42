// Command corpus fills a cluster and a folder with what a company has in them, and changes a part.
//
//	corpus objects --kubeconfig FILE [--seed N]           create some 4,000 objects
//	corpus files --dir DIR [--seed N]                     write some 20,000 files, 500 MiB
//	corpus change-objects --kubeconfig FILE [--round N]   change one percent of the objects
//	corpus change-files --dir DIR [--round N]             change one percent of the files
//
// The kubeconfig is one that the command controlplane wrote.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"time"

	"github.com/varve-dev/varve/test/api"
	"github.com/varve-dev/varve/test/controlplane"
	"github.com/varve-dev/varve/test/corpus"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	started := time.Now()
	done, err := run(ctx, os.Args[1:])
	if err != nil {
		fmt.Fprintln(os.Stderr, "corpus:", err)
		os.Exit(1)
	}
	fmt.Printf("%s in %v\n", done, time.Since(started).Round(time.Millisecond))
}

func run(ctx context.Context, args []string) (done string, err error) {
	if len(args) == 0 {
		return "", errors.New("usage: corpus objects|files|change-objects|change-files [flags]")
	}
	flags := flag.NewFlagSet("corpus "+args[0], flag.ExitOnError)
	kubeconfig := flags.String("kubeconfig", os.Getenv("KUBECONFIG"), "the cluster's kubeconfig `file`")
	dir := flags.String("dir", "", "the `folder` of the files")
	seed := flags.Uint64("seed", 1, "what to make: the same seed makes the same")
	round := flags.Int("round", 1, "which change of several")
	if err := flags.Parse(args[1:]); err != nil {
		return "", err
	}
	switch args[0] {
	case "files":
		made, err := corpus.WriteFiles(*dir, *seed)
		return "wrote " + made.String(), err
	case "change-files":
		changed, err := corpus.ChangeFiles(*dir, *seed, *round)
		return changed.String(), err
	}
	access, err := controlplane.ReadKubeconfig(*kubeconfig)
	if err != nil {
		return "", err
	}
	client, err := api.NewClient(access)
	if err != nil {
		return "", err
	}
	switch args[0] {
	case "objects":
		n, err := corpus.Fill(ctx, client, *seed)
		return fmt.Sprintf("created %d objects", n), err
	case "change-objects":
		changed, err := corpus.ChangeObjects(ctx, client, *seed, *round)
		return changed.String(), err
	}
	return "", fmt.Errorf("there is no command %q", args[0])
}
