package snapshot

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/varve-dev/varve/repo/seal"
)

// ahead is how far a snapshot's time may lie ahead of ours. Beyond that a clock is wrong, or somebody
// wants the snapshot to be the newest one for a long time.
const ahead = 10 * time.Minute

// Policy says which snapshots to keep. Each rule keeps some, a snapshot that no rule keeps is forgotten,
// and rules count in each [Group] for itself: however many snapshots one schedule makes, none of
// another is forgotten for it. A larger number or a longer duration never keeps less.
//
// The zero Policy forgets what has expired and nothing else.
type Policy struct {
	Last int // the newest ones

	// Of that many hours, days, weeks, months and years that have snapshots, the newest ones, one snapshot
	// each: the newest complete one or, if there is none, the newest. Weeks are those of ISO 8601.
	Hourly, Daily, Weekly, Monthly, Yearly int

	// Within keeps what is at most that much older than the newest of the group, so that a schedule which
	// has stopped loses nothing by it.
	Within time.Duration

	// Expired keeps, beside what the rules keep, everything that has not expired. A snapshot without an
	// expiration never expires. A policy without rules has it implied.
	Expired bool

	// NoneLeft gives up that at least one snapshot of each group is kept, the newest complete one.
	NoneLeft bool

	// Zone says when a day begins; nil is UTC.
	Zone *time.Location
}

// Group is whose snapshots the rules count together: those that one schedule made of one cluster. What
// no schedule made is grouped by the plan, so that backups of other folders or namespaces are counted
// apart.
type Group struct {
	Cluster  string
	Schedule string
	Plan     string // 12 hexadecimal digits that stand for the plan; empty with a schedule
}

// GroupOf returns the group of a snapshot.
func GroupOf(m Manifest) Group {
	g := Group{Cluster: m.Cluster, Schedule: m.Schedule}
	if g.Schedule == "" {
		plan := m.Plan.Blob.String() // named by its content
		if m.Plan.Blob.IsZero() {
			plan = seal.HashOf(m.Plan.Inline).String()
		}
		g.Plan = seal.HashOf([]byte(plan)).String()[:12]
	}
	return g
}

// Name is the group's name among those of its cluster: the schedule's, or the plan's digits.
func (g Group) Name() string { return cmp.Or(g.Schedule, g.Plan) }

func (g Group) compare(o Group) int {
	return cmp.Or(cmp.Compare(g.Cluster, o.Cluster), cmp.Compare(g.Schedule, o.Schedule), cmp.Compare(g.Plan, o.Plan))
}

// Fact is what retention must know of a snapshot.
type Fact struct {
	ID       ID
	Name     string // for people; decides nothing
	Group    Group
	Started  time.Time
	Expires  time.Time // zero: never
	Complete bool
	Held     bool
}

// newer orders facts newest first, those of the same time by their IDs.
func newer(a, b Fact) int {
	return cmp.Or(b.Started.Compare(a.Started), slices.Compare(a.ID[:], b.ID[:]), cmp.Compare(a.Name, b.Name))
}

// Decision is what a policy says of one snapshot, and why: every rule that keeps it or, if it is not
// kept, one reason.
type Decision struct {
	Fact
	Keep    bool
	Reasons []string
}

// Compare orders decisions by group, and in each the newest first.
func (d Decision) Compare(o Decision) int {
	return cmp.Or(d.Group.compare(o.Group), newer(d.Fact, o.Fact))
}

// Validate reports why a policy is none.
func (p Policy) Validate() error {
	for _, r := range p.rules() {
		if r.most < 0 {
			return fmt.Errorf("keep %s %d: a number of snapshots cannot be negative", r.word, r.most)
		}
	}
	if p.Within < 0 {
		return errors.New("keep within a negative duration: it must say how old a snapshot may be")
	}
	return nil
}

// Empty reports whether a policy has no rule.
func (p Policy) Empty() bool {
	return p.Within == 0 && !slices.ContainsFunc(p.rules(), func(r rule) bool { return r.most != 0 })
}

// Decide says of each snapshot whether the policy keeps it at the given time. The result is sorted by
// group, in each the newest first, and depends neither on the order of the facts nor on anything else
// but the arguments. Deciding again over what was kept, at the same time, keeps all of it.
//
// Whatever the rules say, kept are snapshots that are held, and those whose time lies more than ten
// minutes ahead: these do not count for any rule until their time has come.
func (p Policy) Decide(known []Fact, now time.Time) []Decision {
	if p.Empty() {
		p.Expired = true
	}
	if p.Zone == nil {
		p.Zone = time.UTC
	}
	groups := map[Group][]Fact{}
	for _, f := range known {
		groups[f.Group] = append(groups[f.Group], f)
	}
	var all []Decision
	for _, facts := range groups {
		slices.SortFunc(facts, newer)
		all = append(all, p.decideGroup(facts, now)...)
	}
	slices.SortFunc(all, Decision.Compare)
	return all
}

// decideGroup decides over one group, which is sorted newest first.
func (p Policy) decideGroup(facts []Fact, now time.Time) []Decision {
	all := make([]Decision, len(facts))
	var counted []*Decision
	for i, f := range facts {
		all[i].Fact = f
		if f.Held {
			all[i].keep("held")
		}
		if f.Started.After(now.Add(ahead)) {
			all[i].keep("its time has not come: it counts for no rule")
			continue
		}
		counted = append(counted, &all[i])
	}
	if len(counted) > 0 {
		p.count(counted, now)
	}
	for i := range all {
		if !all[i].Keep {
			all[i].Reasons = []string{p.whyNot(all[i].Fact, now)}
		}
	}
	return all
}

// count applies the rules to the snapshots of a group whose time has come, newest first.
func (p Policy) count(group []*Decision, now time.Time) {
	for _, r := range p.rules() {
		r.apply(group, p.Zone)
	}
	newest := group[0].Started
	if newest.After(now) {
		newest = now
	}
	for _, d := range group {
		if p.Within > 0 && !d.Started.Before(newest.Add(-p.Within)) {
			d.keep("within %s of the newest", days(p.Within))
		}
		switch {
		case !p.Expired || d.expired(now):
		case d.Expires.IsZero():
			d.keep("never expires")
		default:
			d.keep("expires %s", moment(d.Expires))
		}
	}
	if !p.NoneLeft {
		best(group).keep("the newest complete one of its group")
	}
}

// best returns the newest complete snapshot or, if there is none, the newest.
func best(group []*Decision) *Decision {
	if i := slices.IndexFunc(group, func(d *Decision) bool { return d.Complete }); i >= 0 {
		return group[i]
	}
	return group[0]
}

// rule keeps one snapshot of each of the newest periods that have any; without a period, each snapshot
// is one of its own.
type rule struct {
	word   string
	most   int
	period func(time.Time) string // the name of the period that a time is in
}

func (p Policy) rules() []rule {
	layout := func(l string) func(time.Time) string {
		return func(t time.Time) string { return t.Format(l) }
	}
	week := func(t time.Time) string {
		year, week := t.ISOWeek()
		return fmt.Sprintf("%d-W%02d", year, week)
	}
	return []rule{
		{"last", p.Last, nil},
		{"hourly", p.Hourly, layout("2006-01-02 15:00Z07:00")}, // an hour that a clock repeats is two
		{"daily", p.Daily, layout("2006-01-02")},
		{"weekly", p.Weekly, week},
		{"monthly", p.Monthly, layout("2006-01")},
		{"yearly", p.Yearly, layout("2006")},
	}
}

func (r rule) apply(group []*Decision, zone *time.Location) {
	for used := 0; used < r.most && len(group) > 0; used++ {
		period, end := "", 1
		if r.period != nil {
			period = r.period(group[0].Started.In(zone))
			for end < len(group) && r.period(group[end].Started.In(zone)) == period {
				end++
			}
		}
		chosen := best(group[:end])
		if r.period != nil {
			chosen.keep("%s %s (%d of %d)", r.word, period, used+1, r.most)
		} else {
			chosen.keep("%s (%d of %d)", r.word, used+1, r.most)
		}
		group = group[end:]
	}
}

func (d *Decision) keep(format string, args ...any) {
	d.Keep = true
	d.Reasons = append(d.Reasons, fmt.Sprintf(format, args...))
}

func (f Fact) expired(now time.Time) bool { return !f.Expires.IsZero() && !f.Expires.After(now) }

// whyNot tells why nothing keeps a snapshot.
func (p Policy) whyNot(f Fact, now time.Time) string {
	switch {
	case p.Empty():
		return "expired " + moment(f.Expires)
	case f.expired(now):
		return "no rule keeps it, and it expired " + moment(f.Expires)
	case !f.Expires.IsZero():
		return "no rule keeps it, though it expires only " + moment(f.Expires)
	}
	return "no rule keeps it"
}

// moment shows a time as reasons do, in UTC whatever the zone of the rules.
func moment(t time.Time) string { return t.UTC().Format("2006-01-02 15:04Z") }

// days shows a duration in days where it is some.
func days(d time.Duration) string {
	const day = 24 * time.Hour
	if d%day == 0 {
		return fmt.Sprintf("%dd", d/day)
	}
	return d.String()
}
