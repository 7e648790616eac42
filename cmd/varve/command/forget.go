package command

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/user"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/varve-dev/varve/repo"
	"github.com/varve-dev/varve/repo/journal"
	"github.com/varve-dev/varve/snapshot"
)

// forgetFlags are what snapshot forget is told.
type forgetFlags struct {
	policy snapshot.Policy
	within span
	zone   string
	groups []string
	filter snapshot.Filter
	dryRun bool
	why    string
}

func (a *app) snapshotForget() *cobra.Command {
	var f forgetFlags
	c := &cobra.Command{
		Use:   "forget [SNAPSHOT...]",
		Short: "Forget snapshots: those named, or those that no rule keeps",
		Long: `Forget the snapshots that are named or, with rules, those that no rule keeps. To forget is not to delete:
varve snapshot unforget brings a snapshot back, until varve repo prune has dropped what only it needed. One that
is named and forgotten already stays so.

Rules count for each group of snapshots by itself: those that one schedule made of one cluster, and what no
schedule made, by its plan, which is what was asked for but the name. Of a group, the newest complete snapshot is
always kept, unless --leave-none is given. A snapshot that is held is kept, and one that is dated more than ten
minutes ahead is kept and counts for no rule.

Without --expired the rules alone decide, and the expiration that a backup was given with --ttl does not count.
With --expired only what has expired is forgotten, of that what no rule keeps.`,
		Example: `  varve snapshot forget --expired
  varve snapshot forget --keep-daily 7 --keep-weekly 4 --keep-monthly 12 --dry-run
  varve snapshot forget --keep-within 2w --keep-yearly 10 --group nightly
  varve snapshot forget monday 3f2a91c0d2e1`,
		ValidArgsFunction: a.completeSnapshots(manySnapshots),
		RunE: func(c *cobra.Command, args []string) error {
			if err := f.resolve(c, args); err != nil {
				return err
			}
			return a.withRepository(c.Context(), func(s *session) error {
				if len(args) > 0 {
					return a.forgetNamed(c.Context(), s, args, f)
				}
				return a.forgetByPolicy(c.Context(), s, f)
			})
		},
	}
	flags := c.Flags()
	flags.Var((*number)(&f.policy.Last), "keep-last", "keep the newest `N`")
	for _, period := range []struct {
		n    *int
		name string
		unit string
	}{{&f.policy.Hourly, "hourly", "hours"}, {&f.policy.Daily, "daily", "days"}, {&f.policy.Weekly, "weekly", "weeks"},
		{&f.policy.Monthly, "monthly", "months"}, {&f.policy.Yearly, "yearly", "years"}} {
		flags.Var((*number)(period.n), "keep-"+period.name, "keep one of each of the newest `N` "+period.unit+" that have any")
	}
	flags.Var(&f.within, "keep-within", "keep what is at most this much older than the newest of its group: 12h, 7d, 2w, 1y")
	flags.BoolVar(&f.policy.Expired, "expired", false, "forget only what has expired")
	flags.BoolVar(&f.policy.NoneLeft, "leave-none", false, "let a group lose its newest complete snapshot too")
	flags.StringVar(&f.zone, "time-zone", "UTC", "the `ZONE` whose hours, days, weeks, months and years count, such as Europe/Zurich")
	flags.StringSliceVar(&f.groups, "group", nil, "only the groups of the schedule, or with the digits of the plan, of this `NAME` (repeatable)")
	flags.StringVar(&f.filter.Cluster, "cluster", "", "only the groups of the cluster with this `UID`")
	flags.BoolVar(&f.dryRun, "dry-run", false, "show what would be forgotten, and why, and change nothing")
	flags.StringVar(&f.why, "why", "", "a `REASON` to be remembered with the snapshots that are named")
	return c
}

// resolve checks the flags. Names and rules do not go together, and neither is implied.
func (f *forgetFlags) resolve(c *cobra.Command, args []string) (err error) {
	f.policy.Within = time.Duration(f.within)
	rules := ""
	for _, name := range []string{"keep-last", "keep-hourly", "keep-daily", "keep-weekly", "keep-monthly", "keep-yearly", "keep-within", "expired",
		"leave-none", "group", "cluster"} {
		if rules == "" && c.Flags().Changed(name) {
			rules = "--" + name
		}
	}
	switch {
	case len(args) > 0 && rules != "":
		return asUsage(c, fmt.Errorf("%s goes with rules, not with snapshots that are named", rules))
	case len(args) > 0:
		return nil
	case f.why != "":
		return asUsage(c, errors.New("--why goes with snapshots that are named; rules give their own reasons"))
	case f.policy.Empty() && !f.policy.Expired:
		return asUsage(c, errors.New("say what to keep, such as --keep-daily 7, or --expired, or name the snapshots to forget"))
	}
	if err := f.policy.Validate(); err != nil {
		return asUsage(c, err)
	}
	if f.policy.Zone, err = time.LoadLocation(f.zone); err != nil {
		return asUsage(c, fmt.Errorf("--time-zone: %w", err))
	}
	return nil
}

// forgetNamed forgets the snapshots that the words mean. Those that are forgotten already it only tells of,
// so that the command can be repeated.
func (a *app) forgetNamed(ctx context.Context, s *session, words []string, f forgetFlags) error {
	var which []journal.Forget
	report := forgetReport{DryRun: f.dryRun, named: true}
	for i, word := range words {
		if slices.Contains(words[:i], word) {
			continue
		}
		l, err := locateLive(ctx, s, word)
		if errors.Is(err, repo.ErrForgotten) {
			a.note(printable(err.Error()))
			report.Already++
			continue
		}
		if err != nil {
			return err
		}
		if !slices.ContainsFunc(which, func(w journal.Forget) bool { return w.ID == l.ID }) {
			which = append(which, journal.Forget{ID: l.ID, Who: who(), Why: cmp.Or(f.why, "named on the command line")})
		}
	}
	for _, w := range which {
		l, _ := s.Snapshot(w.ID)
		fact := snapshot.Fact{ID: w.ID, Started: time.UnixMilli(l.Time), Held: l.Held}
		if one, err := snapshot.Load(ctx, s, l); err == nil { // what cannot be read can be forgotten
			fact = snapshot.FactOf(one.Manifest)
			fact.Held = l.Held
		}
		if l.Held && f.dryRun {
			report.add(snapshot.Decision{Fact: fact, Keep: true, Reasons: []string{"held: it would be refused"}})
			continue
		}
		report.add(snapshot.Decision{Fact: fact, Reasons: []string{w.Why}})
	}
	if !f.dryRun {
		if _, err := s.Forget(ctx, func([]journal.Live) []journal.Forget { return which }); err != nil {
			return changing(err)
		}
	}
	return a.showForget(report)
}

// forgetByPolicy forgets what no rule keeps. Only snapshots whose manifests could be read are decided on,
// over those that are live when the entry is made.
func (a *app) forgetByPolicy(ctx context.Context, s *session, f forgetFlags) error {
	facts, damaged := snapshot.ReadFacts(ctx, s)
	if err := f.known(facts); err != nil {
		return errors.Join(err, damaged)
	}
	now, by := time.Now(), who()
	decided := map[snapshot.ID]snapshot.Decision{}
	decide := func(live []journal.Live) (which []journal.Forget) {
		for _, d := range f.policy.Decide(slices.DeleteFunc(facts.Of(live), f.others), now) {
			decided[d.ID] = d
			if !d.Keep {
				which = append(which, journal.Forget{ID: d.ID, Who: by, Why: d.Reasons[0]})
			}
		}
		return which
	}
	gone := map[snapshot.ID]bool{}
	if f.dryRun {
		for _, w := range decide(s.Snapshots()) {
			gone[w.ID] = true
		}
	} else {
		forgotten, err := s.Forget(ctx, decide)
		if err != nil && len(forgotten) > 0 { // of more than fit into one entry
			return failure{err: fmt.Errorf("%s forgotten, and no more: %w", counted(len(forgotten), "snapshot"), err), code: exitChanged,
				hint: "run it again: it forgets what is left"}
		}
		if err != nil {
			return changing(err)
		}
		for _, l := range forgotten {
			gone[l.ID] = true
		}
	}
	report := forgetReport{DryRun: f.dryRun}
	for _, d := range decided {
		if d.Keep != gone[d.ID] { // else somebody else has forgotten it meanwhile
			report.add(d)
		}
	}
	return errors.Join(a.showForget(report), damaged)
}

// others reports whether a snapshot is of a group that is not asked for.
func (f *forgetFlags) others(s snapshot.Fact) bool {
	return (f.filter.Cluster != "" && s.Group.Cluster != f.filter.Cluster) ||
		(len(f.groups) > 0 && !slices.Contains(f.groups, s.Group.Name()))
}

// known refuses the name of a group that there is not, which would look as if it had nothing to forget.
func (f *forgetFlags) known(facts snapshot.Facts) error {
	var names []string
	for _, fact := range facts {
		names = append(names, fact.Group.Name())
	}
	slices.Sort(names)
	names = slices.Compact(names)
	for _, g := range f.groups {
		if !slices.Contains(names, g) {
			return usage("no snapshot is of a group %s; there are %s", name(g), cmp.Or(strings.Join(names, ", "), "no groups"))
		}
	}
	return nil
}

// who is who forgets, as far as the system knows.
func who() string {
	by := "unknown"
	if u, err := user.Current(); err == nil {
		by = u.Username
	}
	if host, err := os.Hostname(); err == nil {
		by += "@" + host
	}
	return by
}

// changing tells whoever changed what is known of snapshots, and does not know whether it is done, how to
// find out.
func changing(err error) error {
	if errors.Is(err, journal.ErrUnsure) {
		return failure{err: err, hint: "varve snapshot list shows whether it was done; doing it again does no harm"}
	}
	return err
}

// forgetReport is what became of snapshots that were, or were not, forgotten.
type forgetReport struct {
	DryRun    bool          `json:"dryRun"`
	Kept      int           `json:"kept"`
	Forgotten int           `json:"forgotten"`
	Already   int           `json:"already"` // that were named, and forgotten before
	Snapshots []decisionRow `json:"snapshots"`
	decisions []snapshot.Decision
	named     bool // so nothing is said of those that were not
}

// decisionRow is the decision on one snapshot.
type decisionRow struct {
	Action   string     `json:"action"` // keep or forget
	ID       string     `json:"id"`
	Name     string     `json:"name,omitempty"`
	Group    groupName  `json:"group"`
	Started  time.Time  `json:"started"`
	Expires  *time.Time `json:"expires,omitempty"`
	Complete bool       `json:"complete"`
	Held     bool       `json:"held"`
	Reasons  []string   `json:"reasons"`
}

type groupName struct {
	Cluster  string `json:"cluster,omitempty"`
	Schedule string `json:"schedule,omitempty"`
	Plan     string `json:"plan,omitempty"`
}

func (r *forgetReport) add(d snapshot.Decision) {
	if d.Keep {
		r.Kept++
	} else {
		r.Forgotten++
	}
	r.decisions = append(r.decisions, d)
}

func (a *app) showForget(r forgetReport) error {
	slices.SortFunc(r.decisions, snapshot.Decision.Compare)
	r.Snapshots = []decisionRow{}
	for _, d := range r.decisions {
		row := decisionRow{Action: "forget", ID: d.ID.String(), Name: d.Name, Group: groupName(d.Group), Started: d.Started.UTC(), Complete: d.Complete,
			Held: d.Held, Reasons: d.Reasons}
		if d.Keep {
			row.Action = "keep"
		}
		if !d.Expires.IsZero() {
			row.Expires = &d.Expires
		}
		r.Snapshots = append(r.Snapshots, row)
	}
	if err := a.show(r, func(t *sheet) { writeForget(t, r) }); err != nil {
		if r.DryRun {
			return err
		}
		return afterwards(counted(r.Forgotten, "snapshot")+" forgotten", err)
	}
	if a.output == asTable && r.Forgotten > 0 && !r.DryRun {
		a.note("until a prune drops what they need, varve snapshot unforget brings them back")
	}
	return nil
}

// writeForget writes a table for each group.
func writeForget(t *sheet, r forgetReport) {
	for i, row := range r.Snapshots {
		if i == 0 || row.Group != r.Snapshots[i-1].Group {
			if i > 0 {
				t.line("")
			}
			t.line("%s", groupText(row.Group))
			t.row("ACTION", "ID", "NAME", "STARTED", "STATUS", "WHY")
		}
		status := "Completed"
		if !row.Complete {
			status = "PartiallyFailed"
		}
		if row.Name == "" {
			status = "unreadable"
		}
		t.row(row.Action, short(row.ID), title(row.Name), moment(row.Started), status, escaped(strings.Join(row.Reasons, "; ")))
	}
	if len(r.Snapshots) > 0 {
		t.line("")
	}
	switch {
	case r.named && !r.DryRun && r.Already > 0:
		t.line("%s forgotten, %s already before", counted(r.Forgotten, "snapshot"), count(r.Already))
	case r.named && !r.DryRun:
		t.line("%s forgotten", counted(r.Forgotten, "snapshot"))
	case r.DryRun:
		t.line("would forget %s and keep %s", counted(r.Forgotten, "snapshot"), count(r.Kept))
	default:
		t.line("%s forgotten, %s kept", counted(r.Forgotten, "snapshot"), count(r.Kept))
	}
}

// groupText names a group in a sentence.
func groupText(g groupName) string {
	text := "Plan " + g.Plan
	switch {
	case g.Schedule != "":
		text = "Schedule " + name(g.Schedule)
	case g.Plan == "":
		return "Group unknown"
	}
	if g.Cluster != "" {
		text += " of cluster " + name(g.Cluster)
	}
	return text
}
