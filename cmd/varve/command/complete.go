package command

import (
	"context"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/varve-dev/varve/snapshot"
)

// completeWords lets the shell complete the values of all flags that take one of some words.
func completeWords(c *cobra.Command) {
	c.LocalFlags().VisitAll(func(f *pflag.Flag) {
		if value, ok := f.Value.(interface{ choices() []string }); ok {
			// It fails only for a flag that is not there or has its completion already.
			_ = c.RegisterFlagCompletionFunc(f.Name, cobra.FixedCompletions(value.choices(), cobra.ShellCompDirectiveNoFileComp))
		}
	})
	for _, sub := range c.Commands() {
		completeWords(sub)
	}
}

// completeSnapshots lets the shell complete the first arguments of a command as names of snapshots.
func (a *app) completeSnapshots(first int) cobra.CompletionFunc {
	return func(c *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		if len(args) >= first {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		live := func(s *session) snapshot.Repository { return s }
		return a.snapshotNames(c.Context(), live), cobra.ShellCompDirectiveNoFileComp
	}
}

// completeForgotten lets the shell complete arguments as names of forgotten snapshots.
func (a *app) completeForgotten(c *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
	forgotten := func(s *session) snapshot.Repository { return graveyardOf(s) }
	return a.snapshotNames(c.Context(), forgotten), cobra.ShellCompDirectiveNoFileComp
}

// snapshotNames returns what snapshots can be called, or nothing where that would need a question.
func (a *app) snapshotNames(ctx context.Context, in func(*session) snapshot.Repository) (names []string) {
	if a.repository.named() == (credentials{}) {
		return nil
	}
	err := a.withRepository(ctx, func(s *session) error {
		found, _ := snapshot.List(ctx, in(s), snapshot.Filter{}) // those that can be read are of help
		if len(found) > 0 {
			names = append(names, "latest")
		}
		for _, one := range found {
			names = append(names, name(one.Name), short(one.ID.String()))
		}
		return nil
	})
	if err != nil {
		return nil // a completion has no place for an error
	}
	return names
}
