package snapshot

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/varve-dev/varve/repo"
	"github.com/varve-dev/varve/repo/blob"
	"github.com/varve-dev/varve/repo/journal"
)

func names(all []*Snapshot) (out []string) {
	for _, s := range all {
		out = append(out, s.Name)
	}
	return out
}

func at(name, schedule string, minutes int) run {
	return run{draft: Draft{Name: name, Schedule: schedule, Started: start.Add(time.Duration(minutes) * time.Minute)}}
}

func TestListIsOldestFirstWhateverWasCommittedFirst(t *testing.T) {
	r := newRepository(t)
	for _, in := range []run{at("second", "", 2), at("third", "", 3), at("first", "", 1)} {
		backup(t, r, in)
	}
	got := ok[[]*Snapshot](t)(List(t.Context(), r, Filter{}))
	if diff := cmp.Diff([]string{"first", "second", "third"}, names(got)); diff != "" {
		t.Error(diff)
	}
}

func TestListGivesWhatFits(t *testing.T) {
	r := newRepository(t)
	a, b, c := at("a", "daily", 1), at("b", "daily", 2), at("c", "", 3)
	b.draft.Cluster, c.draft.Cluster = "east", "east"
	c.files = map[string]map[string]string{"data": {"x": "1"}}
	for _, in := range []run{a, b, c} {
		backup(t, r, in)
	}
	for want, f := range map[string]Filter{
		"[a b c]": {}, "[a b]": {Schedule: "daily"}, "[b c]": {Cluster: "east"}, "[c]": {Volume: "data"},
		"[b]": {Schedule: "daily", Cluster: "east"}, "[a]": {Name: "a"}, "[]": {Name: "d"},
	} {
		if got := fmt.Sprint(names(ok[[]*Snapshot](t)(List(t.Context(), r, f)))); got != want {
			t.Errorf("%+v gives %s, want %s", f, got, want)
		}
	}
}

func TestOneDamagedManifestDoesNotHideTheOthers(t *testing.T) {
	r := broken{newRepository(t), map[blob.ID]bool{}}
	backup(t, r.Repository, at("a", "", 1))
	lost := backup(t, r.Repository, at("b", "", 2))
	backup(t, r.Repository, at("c", "", 3))
	r.lose(lost)
	got, err := List(t.Context(), r, Filter{})
	if diff := cmp.Diff([]string{"a", "c"}, names(got)); diff != "" {
		t.Error(diff)
	}
	if !errors.Is(err, repo.ErrDamaged) || !strings.Contains(err.Error(), lost.ID.String()) {
		t.Errorf("the error is %v, want one that names %s", err, lost.ID)
	}
	if s, err := Find(t.Context(), r, "a"); err != nil || s.Name != "a" {
		t.Errorf("another one by its name: %v", err)
	}
	if _, err := Find(t.Context(), r, "b"); !errors.Is(err, ErrNotFound) || !errors.Is(err, repo.ErrDamaged) {
		t.Errorf("the lost one by its name: %v, want both causes", err)
	}
}

// A part is a piece of a snapshot that is still being made.
func TestPartsAreNoSnapshots(t *testing.T) {
	r := newRepository(t)
	s := backup(t, r, at("a", "", 1))
	live := r.Snapshots()
	live[0].Part = "owner"
	parts := fixed{r, live}
	if got, err := List(t.Context(), parts, Filter{}); len(got) != 0 || err != nil {
		t.Errorf("listed are %v, %v", names(got), err)
	}
	if _, err := Find(t.Context(), parts, s.ID.String()); !errors.Is(err, ErrNotFound) {
		t.Errorf("found: %v", err)
	}
}

// fixed is a repository with other live snapshots than it has.
type fixed struct {
	*repo.Repository
	live []journal.Live
}

func (f fixed) Snapshots() []journal.Live { return f.live }

func TestFind(t *testing.T) {
	r := newRepository(t)
	a := backup(t, r, at("a", "daily", 1))
	b := backup(t, r, at("b", "daily", 2))
	c := backup(t, r, at("c", "hourly", 3))
	backup(t, r, at("twice", "", 4))
	backup(t, r, at("twice", "", 5))
	named := backup(t, r, at(a.ID.String()[:6], "", 0)) // a name that looks like the beginning of an ID

	found := []struct {
		text string
		want *Snapshot
	}{
		{"a", a}, {"b", b}, {a.ID.String(), a}, {b.ID.String()[:8], b}, {c.ID.String()[:31], c},
		{"latest:daily", b}, {"latest:hourly", c}, {a.ID.String()[:6], named}, {a.ID.String()[:7], a},
	}
	for _, tc := range found {
		s, err := Find(t.Context(), r, tc.text)
		if err != nil || s.ID != tc.want.ID {
			t.Errorf("%q gives %v, want %q", tc.text, err, tc.want.Name)
		}
	}
	if s, err := Find(t.Context(), r, "latest"); err != nil || !s.Started.Equal(start.Add(5*time.Minute)) {
		t.Errorf("latest gives %v", err)
	}
	missing := []struct {
		text string
		want error
		says string
	}{
		{"x", ErrNotFound, "the newest is"}, {"", ErrNotFound, "the newest is"}, {b.ID.String()[:3], ErrNotFound, "the newest is"},
		{"latest:none", ErrNotFound, `schedule "none"`}, {"twice", ErrAmbiguous, "it may be any of"}, {"latest:", nil, ""},
	}
	for _, tc := range missing {
		_, err := Find(t.Context(), r, tc.text)
		if !errors.Is(err, tc.want) || (err != nil && !strings.Contains(err.Error(), tc.says)) {
			t.Errorf("%q gives %v, want %v and %q", tc.text, err, tc.want, tc.says)
		}
	}
	if _, err := Find(t.Context(), newRepository(t), "a"); !errors.Is(err, ErrNotFound) || !strings.Contains(err.Error(), "no snapshots") {
		t.Errorf("in an empty repository: %v", err)
	}
}

func TestBeginningsOfIDsMustBeUnique(t *testing.T) {
	r := newRepository(t)
	s := backup(t, r, at("a", "", 1))
	live := append(r.Snapshots(), r.Snapshots()...)
	live[1].ID[15] ^= 1 // as if two IDs began alike
	alike := fixed{r, live}
	if _, err := Locate(t.Context(), alike, s.ID.String()[:31]); !errors.Is(err, ErrAmbiguous) {
		t.Errorf("31 digits that two share: %v, want ErrAmbiguous", err)
	}
	if l, err := Locate(t.Context(), alike, s.ID.String()); err != nil || l.ID != s.ID {
		t.Errorf("all 32 digits give %v, %v", l.ID, err)
	}
}

// Who wants to be rid of a snapshot that is lost must be able to name it.
func TestSnapshotThatCannotBeReadIsLocatedByItsID(t *testing.T) {
	r := broken{newRepository(t), map[blob.ID]bool{}}
	backup(t, r.Repository, at("a", "", 1))
	lost := backup(t, r.Repository, at("b", "", 2))
	r.lose(lost)
	for _, digits := range []int{32, 12} {
		l, err := Locate(t.Context(), r, lost.ID.String()[:digits])
		if err != nil || l.ID != lost.ID {
			t.Errorf("%d digits give %v, %v", digits, l.ID, err)
		}
	}
	if _, err := Find(t.Context(), r, lost.ID.String()[:12]); !errors.Is(err, repo.ErrDamaged) {
		t.Errorf("it opens: %v, want ErrDamaged", err)
	}
}

func TestParent(t *testing.T) {
	objects := map[string]string{"apps/deployments/a/b": "1"}
	draft := func(name, schedule, cluster string, complete bool, minute int, withObjects bool, volumes ...string) run {
		in := at(name, schedule, minute)
		in.draft.Cluster, in.draft.Complete = cluster, complete
		if withObjects {
			in.objects = objects
		}
		in.files = map[string]map[string]string{}
		for _, v := range volumes {
			in.files[v] = map[string]string{"x": "1"}
		}
		return in
	}
	history := []run{
		draft("full", "nightly", "c1", true, 1, true, "db", "web"),
		draft("web", "", "c1", true, 2, false, "web"),
		draft("objects", "hourly", "c1", true, 3, true),
		draft("partial", "hourly", "c1", false, 4, true, "db", "web"),
		draft("other", "hourly", "c2", true, 5, true, "db", "web"),
		draft("adhoc", "", "c1", true, 6, true),
		draft("site", "", "c1", true, 7, false, "web"),
		draft("first", "", "c4", false, 7, true, "db"),
		draft("second", "", "c4", false, 7, true, "db"),
	}
	tests := []struct {
		name string
		q    ParentQuery
		want string
	}{
		{"the same schedule before a newer one", ParentQuery{Cluster: "c1", Schedule: "hourly", Objects: true}, "objects"},
		{"without a schedule of its own the newest", ParentQuery{Cluster: "c1", Name: "new", Objects: true}, "adhoc"},
		{"the same name before a newer one", ParentQuery{Cluster: "c1", Name: "web", Volumes: []string{"web"}}, "web"},
		{"with another name the newest", ParentQuery{Cluster: "c1", Name: "new", Volumes: []string{"web"}}, "site"},
		{"what has more before the same schedule", ParentQuery{Cluster: "c1", Schedule: "hourly", Objects: true, Volumes: []string{"db"}}, "full"},
		{"a new schedule", ParentQuery{Cluster: "c1", Schedule: "weekly", Objects: true, Volumes: []string{"db", "web"}}, "full"},
		{"another cluster", ParentQuery{Cluster: "c2", Objects: true}, "other"},
		{"incomplete ones only", ParentQuery{Cluster: "c4", Objects: true, Volumes: []string{"db"}}, "second"},
		{"a cluster never seen", ParentQuery{Cluster: "c3", Objects: true}, ""},
		{"a volume never seen", ParentQuery{Cluster: "c1", Volumes: []string{"new"}}, ""},
	}
	r := broken{newRepository(t), map[blob.ID]bool{}}
	for _, in := range history {
		backup(t, r.Repository, in)
	}
	r.lose(backup(t, r.Repository, draft("lost", "hourly", "c1", true, 8, true, "db", "web")))
	for _, tc := range tests {
		s, err := Parent(t.Context(), r, tc.q)
		got := ""
		if s != nil {
			got = s.Name
		}
		if err != nil || got != tc.want {
			t.Errorf("%s: %q, %v, want %q", tc.name, got, err, tc.want)
		}
	}
	if s, err := Parent(t.Context(), newRepository(t), ParentQuery{Objects: true}); s != nil || err != nil {
		t.Errorf("in an empty repository: %v, %v", s, err)
	}
}
