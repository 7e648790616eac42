// Package command is the command line of varve, one file for each noun: repo, backup, snapshot,
// restore. A command reads its flags, calls the library and shows what came back; what it does beyond
// that is a defect, because then the controller could not do the same.
//
// What all commands share stands beside the nouns:
//
//	open.go      flags that name a repository, and opening it
//	line.go      how its store is asked: limits, patience
//	cost.go      what the store takes for it
//	password.go  where the password comes from, and which ones are refused
//	output.go    results: tables, JSON and YAML
//	text.go      sizes, counts, times, and names that may hold anything
//	progress.go  the line that moves while something takes long
//	complete.go  what the shell completes
//	exit.go      errors to sentences, hints and exit codes
//
// Results go to standard output and everything else to standard error. The exit code tells the truth:
// docs/exit-codes.md lists what each means.
package command

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/varve-dev/varve/repo"
	"github.com/varve-dev/varve/repo/storage"
	"github.com/varve-dev/varve/repo/storage/dial"
)

// Process is what a run of the program gets from outside. Environment variables and the current
// folder are those of the operating system.
type Process struct {
	Args                  []string // the first one is the name of the program
	Stdin, Stdout, Stderr *os.File

	// PasswordWork is the cost of the password slots that are made, see seal.PasswordRecipient. Only
	// tests set it.
	PasswordWork int

	// Limits are those of the repository. Only tests set them.
	Limits repo.Limits

	// Dial opens the buckets that URLs name. Nil stands for [dial.Open]; tests put a store that fails
	// between the program and its disk.
	Dial func(ctx context.Context, url string, o dial.Options) (storage.Bucket, error)
}

// app is one run of the program: where it comes from, and the flags that all commands have.
type app struct {
	Process
	output     format
	repository repositoryFlags
	telling    *atomic.Pointer[progress] // the line that is told on just now
}

// Main runs the command line and returns the exit code.
//
// The first interrupt or SIGTERM ends the command's context, so that what is under way ends in order;
// the second one ends the process.
func Main(p Process) int {
	ctx, cancel := context.WithCancelCause(context.Background())
	defer cancel(nil)
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	finished, watched := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(watched)
		for n := 0; ; n++ {
			select {
			case <-finished:
				return
			case <-signals:
				if n > 0 {
					os.Exit(exitInterrupted)
				}
				cancel(errInterrupted)
			}
		}
	}()
	if p.Dial == nil {
		p.Dial = dial.Open
	}
	a := &app{Process: p, telling: new(atomic.Pointer[progress])}
	err := a.root().ExecuteContext(ctx)
	if err != nil && context.Cause(ctx) != nil {
		err = interrupted(err)
	}
	signal.Stop(signals)
	close(finished)
	<-watched
	return a.report(err)
}

// root builds the tree of commands.
func (a *app) root() *cobra.Command {
	c := &cobra.Command{
		Use:   "varve",
		Short: "Back up Kubernetes: objects and volumes, deduplicated and encrypted",
		Long: `Varve backs up Kubernetes. Every API object and the data in volumes go into one deduplicated,
encrypted repository. A backup that changed little costs little, so make many.

All commands work straight on a repository, which --repo or $VARVE_REPOSITORY names. Nothing has to be
installed in the cluster, and to look into a repository or restore files, no cluster is needed.

Exit codes: 0 done; 1 failed, nothing changed; 2 usage; 3 incomplete; 4 repository damaged; 5 wrong key;
6 unreachable; 7 precondition does not hold; 8 failed, and something may have changed; 130 interrupted.`,
		Example: `  # Make a repository, back up the current cluster, look at it, and restore one namespace elsewhere.
  export VARVE_REPOSITORY=dir:///srv/backups VARVE_PASSWORD_FILE=~/.varve-password
  varve repo init
  varve backup create monday
  varve snapshot ls monday
  varve restore create --from-backup monday --include-namespaces shop --namespace-mappings shop:shop-copy`,
		SilenceErrors:              true,
		SilenceUsage:               true,
		Args:                       noSuchCommand,
		RunE:                       help,
		SuggestionsMinimumDistance: 2,
		Annotations:                map[string]string{cobra.CommandDisplayNameAnnotation: displayName(a.Args)},
	}
	if len(a.Args) > 0 {
		c.SetArgs(a.Args[1:])
	}
	c.SetIn(a.Stdin)
	c.SetOut(a.Stdout)
	c.SetErr(a.Stderr)
	c.SetFlagErrorFunc(badFlag)
	c.CompletionOptions.HiddenDefaultCmd = false
	c.PersistentFlags().VarP(&a.output, "output", "o", "how results are shown: table, json or yaml")
	a.repository.add(c)
	c.AddGroup(&cobra.Group{ID: "nouns", Title: "What there is:"})
	for _, noun := range []*cobra.Command{a.backup(), a.restore(), a.snapshot(), a.repo(), a.key()} {
		noun.GroupID = "nouns"
		c.AddCommand(noun)
	}
	c.AddCommand(a.version())
	c.AddCommand(a.verbs()...)
	c.SetHelpCommand(helpCommand())
	completeWords(c)
	return c
}

// displayName is how the user called the program: as varve, or as a plugin of kubectl.
func displayName(args []string) string {
	if len(args) > 0 && strings.HasPrefix(filepath.Base(args[0]), "kubectl-varve") {
		return "kubectl varve"
	}
	return "varve"
}

// noun makes a command that only groups others.
func noun(name, short, long string, verbs ...*cobra.Command) *cobra.Command {
	var examples []string // the first of each verb
	for _, verb := range verbs {
		first, _, _ := strings.Cut(verb.Example, "\n")
		examples = append(examples, first)
	}
	c := &cobra.Command{Use: name, Short: short, Long: long, Example: strings.Join(examples, "\n"), Args: noSuchCommand, RunE: help,
		SuggestionsMinimumDistance: 2}
	c.AddCommand(verbs...)
	return c
}

func help(c *cobra.Command, _ []string) error { return c.Help() }

// helpCommand is cobra's, but for failing where there is nothing to help with.
func helpCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "help [COMMAND]",
		Short:   "Show how a command is used",
		Long:    "Show how a command is used, as its --help does.",
		Example: "  varve help backup create",
		RunE: func(c *cobra.Command, args []string) error {
			found, rest, err := c.Root().Find(args)
			if err != nil {
				return asUsage(c.Root(), err)
			}
			if err := noSuchCommand(found, rest); err != nil {
				return err
			}
			found.InitDefaultHelpFlag()
			return found.Help()
		},
	}
}

// badFlag is the error for flags that cannot be read. Of one that there is not it names those that look like it.
func badFlag(c *cobra.Command, err error) error {
	unknown, ok := errors.AsType[*pflag.NotExistError](err)
	if !ok || unknown.GetSpecifiedName() == "" {
		return asUsage(c, err)
	}
	flags := &cobra.Command{SuggestionsMinimumDistance: 2} // which knows how far names are from each other
	c.Flags().VisitAll(func(f *pflag.Flag) {
		if !f.Hidden {
			flags.AddCommand(&cobra.Command{Use: f.Name, Run: func(*cobra.Command, []string) {}})
		}
	})
	near := flags.SuggestionsFor(unknown.GetSpecifiedName())
	err = fmt.Errorf("%s has no flag --%s", c.CommandPath(), unknown.GetSpecifiedName())
	if len(near) == 0 {
		return asUsage(c, err)
	}
	return failure{err: err, code: exitUsage, hint: "did you mean --" + strings.Join(near, " or --") + "?"}
}

// noSuchCommand refuses what follows a command that only groups others.
func noSuchCommand(c *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	err := fmt.Errorf("%q is no command of %q", args[0], c.CommandPath())
	if near := c.SuggestionsFor(args[0]); len(near) > 0 {
		return failure{err: err, code: exitUsage, hint: "did you mean " + strings.Join(near, " or ") + "?"}
	}
	return asUsage(c, err)
}

// arguments takes between least and most arguments. The names are for the message.
func arguments(least, most int, names string) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		switch {
		case len(args) < least:
			return asUsage(c, errors.New("give "+names))
		case len(args) > most && most == 0:
			return asUsage(c, fmt.Errorf("%q is too much: %s takes no arguments", args[0], c.CommandPath()))
		case len(args) > most:
			return asUsage(c, fmt.Errorf("%q is too much: give %s", args[most], names))
		}
		return nil
	}
}
