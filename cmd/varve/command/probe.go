package command

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/varve-dev/varve/repo/storage/dial"
	"github.com/varve-dev/varve/repo/storage/probe"
)

func (a *app) repoProbe() *cobra.Command {
	var options probe.Options
	c := &cobra.Command{
		Use:   "probe [URL]",
		Short: "Find out whether a store can hold a repository",
		Long: `Find out whether a folder or bucket keeps the promises on which a repository rests: whether of several
writers of one object one wins, whether what was written is read and listed at once, whole and in order, and some
more. What it does wrong is called by its name, and told with what it means. No password is needed, and a
repository that is there is neither read nor changed.

The probe stores some 1,300 small objects and one of 32 MiB under names that begin with probe-, and removes them at
the end, after an interrupt too. --quick stores some 60 small ones. Where the credential may not delete, only so
many, and they stay: they do no harm.

Ends with 0 when the store is good enough, with 7 when it is not, and with 6 when it did not answer. What is
unknown or bearable is shown and changes nothing about that.`,
		Example: `  varve repo probe dir:///srv/backups
  varve repo probe --repo ./backups --quick
  varve repo probe -o json`,
		Args: arguments(0, 1, "one URL"),
		RunE: func(c *cobra.Command, args []string) error {
			url, err := a.probed(c, args)
			if err != nil {
				return err
			}
			return a.probeAt(c.Context(), url, options)
		},
	}
	c.Flags().BoolVar(&options.Quick, "quick", false, "leave out what takes long: many objects, a large one, and a second look some seconds later")
	return c
}

// probed returns the URL of the store to probe: the argument, or else that of the repository.
func (a *app) probed(c *cobra.Command, args []string) (string, error) {
	switch {
	case len(args) == 0:
		return a.repository.location()
	case a.repository.url != "":
		return "", asUsage(c, errors.New("--repo names one store and the argument another: give one of them"))
	}
	return args[0], nil
}

func (a *app) probeAt(ctx context.Context, url string, options probe.Options) (err error) {
	b, err := a.dial(ctx, url, dial.Options{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.Close()) }()
	p := a.progress("probe")
	options.Progress = func(now probe.Progress) {
		p.update(func(s *standing) {
			*s = standing{what: fmt.Sprintf("probe: %s (%d of %d)", now.Step, now.Done+1, now.Total)}
		})
	}
	report, err := probe.Run(ctx, b, options)
	p.stop()
	if err != nil && report.Left.Objects > 0 {
		return failure{err: err, hint: leftText(report.Left)}
	}
	if err != nil {
		return refused(err)
	}
	if err := a.show(report, func(t *sheet) { writeProbe(t, report, options.Quick) }); err != nil {
		return err
	}
	switch err := report.Err(); {
	case err == nil:
		return nil
	case errors.Is(err, probe.ErrUnfit):
		return failure{err: err, hint: "what to do stands beside each of these"}
	default:
		return failure{err: err, code: exitUnreachable, hint: "what the store did not answer is not known; probe it again"}
	}
}

// textWidth is how wide a column of sentences is.
const textWidth = 90

func writeProbe(t *sheet, r probe.Report, quick bool) {
	t.row("CAPABILITY", "VERDICT", "SEEN")
	for _, f := range r.Findings {
		seen := f.Saw
		if f.Fault != "" {
			seen = string(f.Fault) + ": " + seen
		}
		lines := append(broken(seen, textWidth), broken(f.Means, textWidth)...)
		t.row(string(f.Capability), string(f.Verdict), lines[0])
		for _, line := range lines[1:] {
			t.row("", "", line)
		}
	}
	if r.Left.Objects > 0 {
		t.line("\n%s", leftText(r.Left))
	}
	switch {
	case r.Suitable && quick:
		t.line("\nas far as a quick probe shows, this store can hold a repository")
	case r.Suitable:
		t.line("\nthis store can hold a repository")
	}
}

func leftText(l probe.Left) string {
	return fmt.Sprintf("%s could not be removed: %s under %s; no repository looks there", counted(l.Objects, "object"), pronoun(l.Objects), l.Folder)
}

func pronoun(n int) string {
	if n == 1 {
		return "it is"
	}
	return "they are"
}

// broken breaks a text into lines of that many characters, or somewhat more where a word is longer.
func broken(text string, width int) (lines []string) {
	line := ""
	for word := range strings.FieldsSeq(escaped(text)) {
		if line != "" && len([]rune(line))+1+len([]rune(word)) > width {
			lines = append(lines, line)
			line = ""
		}
		line = strings.TrimSpace(line + " " + word)
	}
	if line != "" {
		lines = append(lines, line)
	}
	return lines
}
