package snapshot

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/varve-dev/varve/repo"
	"github.com/varve-dev/varve/repo/blob"
	"github.com/varve-dev/varve/repo/journal"
)

// noon is the moment at which the tests of retention decide: a Sunday.
var noon = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

var nightly = Group{Cluster: "c1", Schedule: "nightly"}

// fact is a complete snapshot of a group, made so long before noon.
func fact(name string, g Group, before time.Duration) Fact {
	f := Fact{Name: name, Group: g, Started: noon.Add(-before), Complete: true}
	copy(f.ID[:], seed(name))
	return f
}

func seed(name string) []byte {
	return binary.BigEndian.AppendUint64([]byte(name + strings.Repeat(".", 8))[:8], uint64(len(name)))
}

// told writes a decision on one line: name, verdict, reasons.
func told(all []Decision) (lines []string) {
	for _, d := range all {
		verdict := "forget"
		if d.Keep {
			verdict = "keep"
		}
		lines = append(lines, fmt.Sprintf("%s %s: %s", d.Name, verdict, strings.Join(d.Reasons, "; ")))
	}
	return lines
}

const day = 24 * time.Hour

func TestPolicyDecidesWithReasons(t *testing.T) {
	days := []Fact{fact("a", nightly, 0), fact("b", nightly, 6*time.Hour), fact("c", nightly, day), fact("d", nightly, 8*day), fact("e", nightly, 40*day)}
	change := func(i int, f func(*Fact)) []Fact {
		out := slices.Clone(days)
		f(&out[i])
		return out
	}
	const floor = "the newest complete one of its group"
	tests := []struct {
		name   string
		facts  []Fact
		policy Policy
		want   []string
	}{
		{"no rules", change(2, func(f *Fact) { f.Expires = noon.Add(-time.Minute) }), Policy{}, []string{
			"a keep: never expires; " + floor, "b keep: never expires", "c forget: expired 2026-11-22 11:59Z", "d keep: never expires", "e keep: never expires"}},
		{"last", days, Policy{Last: 2}, []string{
			"a keep: last (1 of 2); " + floor, "b keep: last (2 of 2)", "c forget: no rule keeps it", "d forget: no rule keeps it", "e forget: no rule keeps it"}},
		{"days and months", days, Policy{Daily: 2, Monthly: 2}, []string{
			"a keep: daily 2026-11-22 (1 of 2); monthly 2026-11 (1 of 2); " + floor, "b forget: no rule keeps it", "c keep: daily 2026-11-21 (2 of 2)",
			"d forget: no rule keeps it", "e keep: monthly 2026-10 (2 of 2)"}},
		{"hours and weeks", days, Policy{Hourly: 1, Weekly: 2}, []string{
			"a keep: hourly 2026-11-22 12:00Z (1 of 1); weekly 2026-W47 (1 of 2); " + floor, "b forget: no rule keeps it", "c forget: no rule keeps it",
			"d keep: weekly 2026-W46 (2 of 2)", "e forget: no rule keeps it"}},
		{"an incomplete one stands for its day only if it must", change(0, func(f *Fact) { f.Complete = false }), Policy{Daily: 1, Yearly: 1}, []string{
			"a forget: no rule keeps it", "b keep: daily 2026-11-22 (1 of 1); yearly 2026 (1 of 1); " + floor, "c forget: no rule keeps it", "d forget: no rule keeps it",
			"e forget: no rule keeps it"}},
		{"incomplete ones never displace the last complete one", []Fact{
			{Name: "x", Group: nightly, Started: noon}, {Name: "y", Group: nightly, Started: noon.Add(-day)}, fact("z", nightly, 9*day)}, Policy{Last: 1}, []string{
			"x keep: last (1 of 1)", "y forget: no rule keeps it", "z keep: " + floor}},
		{"within, counted from the newest", days[2:], Policy{Within: 7 * day}, []string{
			"c keep: within 7d of the newest; " + floor, "d keep: within 7d of the newest", "e forget: no rule keeps it"}},
		{"held", change(4, func(f *Fact) { f.Held = true }), Policy{Last: 1}, []string{
			"a keep: last (1 of 1); " + floor, "b forget: no rule keeps it", "c forget: no rule keeps it", "d forget: no rule keeps it", "e keep: held"}},
		{"rules go before expirations", []Fact{
			{Name: "x", Group: nightly, Started: noon, Complete: true, Expires: noon.Add(-1)},
			{Name: "y", Group: nightly, Started: noon.Add(-day), Expires: noon.Add(day)},
			{Name: "z", Group: nightly, Started: noon.Add(-day - 1), Expires: noon.Add(-day)}}, Policy{Last: 1}, []string{
			"x keep: last (1 of 1); " + floor, "y forget: no rule keeps it, though it expires only 2026-11-23 12:00Z",
			"z forget: no rule keeps it, and it expired 2026-11-21 12:00Z"}},
		{"rules beside expirations", []Fact{
			{Name: "x", Group: nightly, Started: noon, Complete: true, Expires: noon.Add(-1)},
			{Name: "y", Group: nightly, Started: noon.Add(-day), Expires: noon.Add(day)},
			{Name: "z", Group: nightly, Started: noon.Add(-day - 1), Expires: noon.Add(-day)}}, Policy{Last: 1, Expired: true}, []string{
			"x keep: last (1 of 1); " + floor, "y keep: expires 2026-11-23 12:00Z", "z forget: no rule keeps it, and it expired 2026-11-21 12:00Z"}},
		{"at least one is left", []Fact{{Name: "x", Group: nightly, Started: noon, Expires: noon}}, Policy{}, []string{"x keep: " + floor}},
		{"unless none need be", []Fact{{Name: "x", Group: nightly, Started: noon, Expires: noon}}, Policy{NoneLeft: true}, []string{
			"x forget: expired 2026-11-22 12:00Z"}},
		{"what is dated ahead neither counts nor goes", append(change(0, func(f *Fact) { f.Started = noon.Add(ahead + 1) }), fact("f", nightly, -ahead)), Policy{Last: 1}, []string{
			"a keep: its time has not come: it counts for no rule", "f keep: last (1 of 1); " + floor, "b forget: no rule keeps it", "c forget: no rule keeps it",
			"d forget: no rule keeps it", "e forget: no rule keeps it"}},
		{"groups count apart", []Fact{fact("a", nightly, 0), fact("b", Group{Cluster: "c2", Schedule: "nightly"}, 1), fact("c", Group{Cluster: "c1", Plan: "12"}, 2),
			fact("d", nightly, 3), fact("e", Group{Cluster: "c1", Plan: "13"}, 4)}, Policy{Last: 1}, []string{
			"c keep: last (1 of 1); " + floor, "e keep: last (1 of 1); " + floor, "a keep: last (1 of 1); " + floor, "d forget: no rule keeps it",
			"b keep: last (1 of 1); " + floor}},
	}
	for _, tc := range tests {
		if diff := cmp.Diff(tc.want, told(tc.policy.Decide(tc.facts, noon))); diff != "" {
			t.Errorf("%s: -want +got\n%s", tc.name, diff)
		}
	}
}

func TestPolicyCountsDaysInItsZone(t *testing.T) {
	auckland := time.FixedZone("NZDT", 13*60*60)
	facts := []Fact{fact("a", nightly, 0), fact("b", nightly, 30*time.Minute), fact("c", nightly, 90*time.Minute)}
	if got := told(Policy{Daily: 2}.Decide(facts, noon)); !strings.HasPrefix(got[2], "c forget") {
		t.Errorf("in UTC all three are of one day: %q", got)
	}
	got := told(Policy{Daily: 2, Zone: auckland}.Decide(facts, noon))
	if !strings.HasPrefix(got[0], "a keep: daily 2026-11-23") || !strings.HasPrefix(got[2], "c keep: daily 2026-11-22") {
		t.Errorf("there midnight was between b and c: %q", got)
	}
}

func TestPolicyThatIsNoneIsRefused(t *testing.T) {
	for _, p := range []Policy{{Last: -1}, {Daily: -1}, {Yearly: -3}, {Within: -1}} {
		if err := p.Validate(); err == nil || !strings.Contains(err.Error(), "negative") {
			t.Errorf("%+v: %v", p, err)
		}
	}
	if err := (Policy{Last: 1, Within: day}).Validate(); err != nil {
		t.Error(err)
	}
}

// Whoever can make snapshots can make many. However many one schedule makes, and whatever time they
// bear, those of the others stay; and those dated ahead displace none of their own.
func TestFloodOfSnapshotsForgetsNoneOfOthers(t *testing.T) {
	var all, genuine []Fact
	for i := range 30 {
		genuine = append(genuine, fact(fmt.Sprint("genuine ", i), nightly, time.Duration(i)*day+10*time.Hour))
	}
	other := Group{Cluster: "c1", Schedule: "minutely"}
	for i := range 5_000 {
		all = append(all,
			fact(fmt.Sprint("bogus ", i), other, time.Duration(i)*10*time.Minute),
			fact(fmt.Sprint("ahead ", i), nightly, -time.Duration(i)*10*time.Minute-time.Hour))
	}
	all = append(all, genuine...)
	for _, p := range []Policy{{Last: 30}, {Daily: 30}, {Last: 7, Hourly: 24, Daily: 30}, {Within: 30 * day}} {
		kept := 0
		for _, d := range p.Decide(all, noon) {
			if d.Keep && d.Group == nightly && !d.Started.After(noon) {
				kept++
			}
		}
		if kept != len(genuine) {
			t.Errorf("%+v keeps %d of the %d genuine snapshots", p, kept, len(genuine))
		}
	}
}

func TestGroupsFollowSchedulesAndPlans(t *testing.T) {
	r := newRepository(t)
	long := strings.Repeat("x", 2*maxInline)
	made := func(name, schedule, plan string) Group {
		in := at(name, schedule, 1)
		in.draft.Cluster, in.draft.Plan = "c1", []byte(plan)
		return GroupOf(backup(t, r, in).Manifest)
	}
	a, b := made("a", "", "plan"), made("b", "", "plan")
	if a != b || len(a.Plan) != 12 || a.Name() != a.Plan {
		t.Errorf("one plan, two names: %+v and %+v, want one group of 12 digits", a, b)
	}
	if c := made("c", "", "other"); c == a {
		t.Error("two plans share a group")
	}
	if d, e, f := made("d", "", long), made("e", "", long), made("f", "", long+"!"); d != e || d == f {
		t.Errorf("plans that are stored as blobs: %+v, %+v and another %+v", d, e, f)
	}
	if d, e := made("d", "nightly", "plan"), made("e", "nightly", "other"); d != e || d != nightly || d.Name() != "nightly" {
		t.Errorf("one schedule whose plan has changed: %+v and %+v", d, e)
	}
}

func TestFactsLeaveOutWhatCannotBeReadAndParts(t *testing.T) {
	r := broken{newRepository(t), map[blob.ID]bool{}}
	in := at("a", "nightly", 1)
	in.draft.Complete, in.draft.Expires = true, start.Add(day)
	a := backup(t, r.Repository, in)
	lost := backup(t, r.Repository, at("b", "", 2))
	part := backup(t, r.Repository, at("c", "", 3))
	r.lose(lost)
	facts, err := ReadFacts(t.Context(), r)
	if !errors.Is(err, repo.ErrDamaged) || !strings.Contains(err.Error(), lost.ID.String()) {
		t.Errorf("the error is %v, want one that names %s", err, lost.ID)
	}
	late := backup(t, r.Repository, at("d", "", 4)) // made when the facts were read
	live := r.Snapshots()
	live[0].Held = true
	live[2].Part = "owner"
	want := []Fact{{ID: a.ID, Name: "a", Group: Group{Schedule: "nightly"}, Started: a.Started, Expires: a.Expires, Complete: true, Held: true}}
	if diff := cmp.Diff(want, facts.Of(live)); diff != "" {
		t.Errorf("of %v, %v, %v and %v: -want +got\n%s", a.ID, lost.ID, part.ID, late.ID, diff)
	}
}

// FuzzRetention holds what is true of every policy over any snapshots.
func FuzzRetention(f *testing.F) {
	rng := rand.New(rand.NewPCG(1, 2))
	rule := func() uint8 { // most policies have few rules
		if rng.IntN(3) > 0 {
			return 0
		}
		return uint8(rng.Uint32())
	}
	for seed := range uint64(100) {
		f.Add(seed, uint8(rng.Uint32()), rule(), rule(), rule(), rule(), rule(), uint8(seed))
	}
	f.Fuzz(func(t *testing.T, seed uint64, count, last, hourly, daily, monthly, within, flags uint8) {
		p := Policy{Last: int(last % 9), Hourly: int(hourly % 9), Daily: int(daily % 9), Weekly: int(monthly >> 4), Monthly: int(monthly % 9),
			Yearly: int(hourly >> 6), Within: time.Duration(within) * time.Hour, Expired: flags&1 != 0, NoneLeft: flags&2 != 0}
		if flags&4 != 0 {
			p.Zone = time.FixedZone("", int(int8(count))*600)
		}
		checkRetention(t, p, randomFacts(seed, int(count%50)))
	})
}

// randomFacts are snapshots of three groups around noon, many of them in the same hours and days.
func randomFacts(seed uint64, count int) []Fact {
	rng := rand.New(rand.NewPCG(seed, 1))
	facts := make([]Fact, count)
	for i := range facts {
		f := &facts[i]
		binary.BigEndian.PutUint64(f.ID[:], rng.Uint64())
		f.Group = Group{Cluster: "c1", Schedule: fmt.Sprint(rng.IntN(3))}
		f.Started = noon.Add(-time.Duration(rng.Int64N(int64(1+rng.IntN(20_000)))) * time.Minute / time.Duration(1+rng.IntN(9)))
		f.Complete, f.Held = rng.IntN(4) > 0, rng.IntN(20) == 0
		if seed%3 == 0 || rng.IntN(3) > 0 {
			f.Expires = f.Started.Add(time.Duration(rng.IntN(300)) * time.Hour / time.Duration(1+seed%9))
		}
		if seed%5 < 2 {
			f.Expires = f.Started
		}
		if rng.IntN(10) == 0 {
			f.Started = noon.Add(time.Duration(rng.IntN(30)) * time.Minute)
		}
	}
	return facts
}

func keptBy(p Policy, facts []Fact) (kept []Fact) {
	for _, d := range p.Decide(facts, noon) {
		if d.Keep {
			kept = append(kept, d.Fact)
		}
	}
	return kept
}

func checkRetention(t *testing.T, p Policy, facts []Fact) {
	decided := p.Decide(facts, noon)
	left, expired := map[Group]int{}, map[Group]int{}
	for _, d := range decided {
		future := d.Started.After(noon.Add(ahead))
		switch {
		case len(d.Reasons) == 0:
			t.Errorf("%v has no reason", d)
		case d.Keep:
			left[d.Group]++
			if d.expired(noon) && !d.Held && !future {
				expired[d.Group]++
			}
		case d.Held || future:
			t.Errorf("%v is forgotten", d)
		case p.Expired && !d.expired(noon):
			t.Errorf("%v is forgotten, and has not expired", d)
		}
	}
	shuffled := slices.Clone(facts)
	slices.Reverse(shuffled)
	if again := p.Decide(shuffled, noon); !reflect.DeepEqual(decided, again) {
		t.Errorf("the order of the facts decides: %s", cmp.Diff(decided, again))
	}
	kept := keptBy(p, facts)
	if again := keptBy(p, kept); len(again) != len(kept) {
		t.Errorf("%d are kept, and of these again %d", len(kept), len(again))
	}
	for _, f := range facts {
		if left[f.Group] == 0 && !p.NoneLeft {
			t.Errorf("group %v has none left", f.Group)
		}
		if p.Empty() && expired[f.Group] > 1 {
			t.Errorf("group %v has %d left that have expired, want the newest complete one at most", f.Group, expired[f.Group])
		}
	}
	checkPeriods(t, p, facts, kept)
	checkStronger(t, p, facts, kept)
	checkApart(t, p, facts, decided)
}

// checkPeriods: of as many of the newest days as the policy asks for, one is kept, complete if any is.
func checkPeriods(t *testing.T, p Policy, facts, kept []Fact) {
	if p.Zone != nil {
		return
	}
	days := func(all []Fact) map[Group]map[string]bool { // and whether one of them is complete
		in := map[Group]map[string]bool{}
		for _, f := range all {
			if f.Started.After(noon.Add(ahead)) {
				continue
			}
			if in[f.Group] == nil {
				in[f.Group] = map[string]bool{}
			}
			in[f.Group][f.Started.Format(time.DateOnly)] = in[f.Group][f.Started.Format(time.DateOnly)] || f.Complete
		}
		return in
	}
	left := days(kept)
	for g, all := range days(facts) {
		names := slices.Sorted(maps.Keys(all))
		for _, day := range names[max(0, len(names)-p.Daily):] {
			if complete, ok := left[g][day]; !ok || complete != all[day] {
				t.Errorf("of %s in group %v is kept %t, a complete one %t of %t", day, g, ok, complete, all[day])
			}
		}
	}
}

// checkStronger: a policy that asks for more keeps all that this one keeps.
func checkStronger(t *testing.T, p Policy, facts, kept []Fact) {
	if p.Empty() {
		return // it is Expired by itself, which rules are not
	}
	for name, grow := range map[string]func(*Policy){
		"last": func(p *Policy) { p.Last++ }, "hourly": func(p *Policy) { p.Hourly += 2 }, "daily": func(p *Policy) { p.Daily++ },
		"weekly": func(p *Policy) { p.Weekly++ }, "monthly": func(p *Policy) { p.Monthly += 3 }, "yearly": func(p *Policy) { p.Yearly++ },
		"within": func(p *Policy) { p.Within += 3 * day }, "expired": func(p *Policy) { p.Expired = true }, "none left": func(p *Policy) { p.NoneLeft = false },
	} {
		stronger := p
		grow(&stronger)
		more := map[ID]bool{}
		for _, f := range keptBy(stronger, facts) {
			more[f.ID] = true
		}
		for _, f := range kept {
			if !more[f.ID] {
				t.Errorf("%+v forgets %v, which is kept with less of %q", stronger, f, name)
			}
		}
	}
}

// checkApart: what is decided on a snapshot depends neither on other groups nor on what is dated ahead.
func checkApart(t *testing.T, p Policy, facts []Fact, decided []Decision) {
	for _, g := range []Group{{Cluster: "c1", Schedule: "0"}, {Cluster: "c1", Schedule: "1"}} {
		counts := func(f Fact) bool { return f.Group == g && !f.Started.After(noon.Add(ahead)) }
		var alone []Fact
		for _, f := range facts {
			if counts(f) {
				alone = append(alone, f)
			}
		}
		var together []Decision
		for _, d := range decided {
			if counts(d.Fact) {
				together = append(together, d)
			}
		}
		if apart := p.Decide(alone, noon); !reflect.DeepEqual(apart, together) {
			t.Errorf("others decide on group %v: %s", g, cmp.Diff(apart, together))
		}
	}
}

// What was decided is what happens: the flood goes, and every genuine snapshot is there and reads.
func TestFloodIsForgottenAndNothingElse(t *testing.T) {
	r := newRepository(t)
	var genuine []ID
	for i := range 30 {
		in := at(fmt.Sprint("genuine ", i), "nightly", -i*24*60)
		in.draft.Complete = true
		in.files = map[string]map[string]string{"data": {"x": fmt.Sprint(i)}}
		genuine = append(genuine, backup(t, r, in).ID)
	}
	for i := range 300 {
		in := at(fmt.Sprint("bogus ", i), "minutely", -i)
		in.draft.Complete = true
		backup(t, r, in)
	}
	facts := ok[Facts](t)(ReadFacts(t.Context(), r))
	forgotten, err := r.Forget(t.Context(), func(live []journal.Live) (which []journal.Forget) {
		for _, d := range (Policy{Last: 30}).Decide(facts.Of(live), start.Add(day)) {
			if !d.Keep {
				which = append(which, journal.Forget{ID: d.ID, Why: d.Reasons[0]})
			}
		}
		return which
	})
	if err != nil || len(forgotten) != 270 || len(r.Snapshots()) != 60 {
		t.Errorf("%d are forgotten and %d live, %v; want 270 and 60", len(forgotten), len(r.Snapshots()), err)
	}
	for i, id := range genuine {
		s, err := Find(t.Context(), r, id.String())
		if err != nil {
			t.Errorf("genuine %d: %v", i, err)
			continue
		}
		e, err := s.Lookup(t.Context(), ok[Address](t)(ParseAddress("volumes/data/x")))
		if err != nil || string(e.Value) != fmt.Sprint(i) {
			t.Errorf("genuine %d holds %q, %v", i, e.Value, err)
		}
	}
}
