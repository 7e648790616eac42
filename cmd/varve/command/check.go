package command

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/varve-dev/varve/repo"
	"github.com/varve-dev/varve/repo/journal"
	"github.com/varve-dev/varve/snapshot"
)

// What of a finding is listed. The rest is counted.
const (
	listedItems     = 10
	listedSnapshots = 5 // in a table
)

func (a *app) repoCheck() *cobra.Command {
	var options repo.CheckOptions
	subset := subsetFlag{&options.Subset}
	c := &cobra.Command{
		Use:   "check",
		Short: "Prove that every backup is whole",
		Long: `Read the whole journal, look for every object that it names, read every node that a backup reaches,
and resolve every reference. With --read-data also read, decrypt and hash every stored byte.

--read-data-subset reads a part of the data: with 5% those packs first that were read longest ago, so that
twenty runs come to all; with 2/30 the second of thirty parts that are the same in every run and on every
machine. What was read when is remembered in the local cache; when that is lost, all counts as never read.

Ends with 0 when every backup is whole, and with 4 when something is damaged. Each damage is listed with
what it touches: snapshots, namespaces, objects and files. Check changes nothing, and runs beside backups
and prunes.

What an interrupted backup had stored and not yet entered in the journal is counted as left over. It does
no harm, takes up space, and is used by no backup.`,
		Example: `  varve repo check
  varve repo check --read-data -o json
  varve repo check --read-data-subset 5%`,
		Args: arguments(0, 0, ""),
		RunE: func(c *cobra.Command, _ []string) error {
			if options.ReadData && options.Subset != (repo.Subset{}) {
				return asUsage(c, errors.New("--read-data reads everything, --read-data-subset a part: give one of them"))
			}
			options.ReadData = options.ReadData || options.Subset != repo.Subset{}
			err := a.withRepository(c.Context(), func(s *session) error {
				p := a.progress("check")
				options.Progress = p.ofCheck()
				report, err := s.Check(c.Context(), options)
				p.stop()
				if err != nil {
					return err
				}
				return a.showCheck(a.toldOf(c.Context(), s, report), options.ReadData)
			})
			return undiagnosed(err)
		},
	}
	c.Flags().BoolVar(&options.ReadData, "read-data", false, "read, decrypt and hash every stored byte too")
	c.Flags().Var(subset, "read-data-subset", "read a part of the data: a `SHARE` of it, such as 5%, or a part of several, such as 2/30")
	return c
}

// subsetFlag is a subset as a flag.
type subsetFlag struct{ *repo.Subset }

// String implements pflag.Value.
func (subsetFlag) String() string { return "" }

// Type implements pflag.Value.
func (subsetFlag) Type() string { return "SHARE" }

// Set implements pflag.Value.
func (f subsetFlag) Set(text string) (err error) {
	*f.Subset, err = repo.ParseSubset(text)
	return err
}

// undiagnosed keeps check from advising itself where damage keeps it from its work.
func undiagnosed(err error) error {
	if code, hint := explain(err); err != nil && code == exitDamaged && hint == damageHint {
		return failure{err: err, hint: "the check goes no further than this; " + keepHint}
	}
	return err
}

// ofCheck returns what a check reports its progress to.
func (p *progress) ofCheck() func(repo.CheckProgress) {
	return func(now repo.CheckProgress) {
		p.update(func(s *standing) {
			*s = standing{what: "check: " + now.Step, bytes: now.Read, total: now.Total}
			if now.Nodes > 0 {
				s.what += ", " + counted(now.Nodes, "node")
			}
		})
	}
}

// checked is the report of a check, with what the damage means to who has backups.
type checked struct {
	repo.CheckReport
	Findings []damaged `json:"findings"`
}

// damaged is one damage and its harm.
type damaged struct {
	repo.Finding
	Namespaces []string     `json:"namespaces,omitempty"`
	Items      []harmedItem `json:"items,omitempty"` // the first ones
	Count      uint64       `json:"count,omitempty"` // of all, in all snapshots together
}

type harmedItem struct {
	Name wild   `json:"name"`
	More uint64 `json:"more,omitempty"` // that follow, whose names are lost
}

// toldOf looks up what the damage touches. As far as that cannot be read, there is a warning; the damage
// itself is told in any case.
func (a *app) toldOf(ctx context.Context, s *session, r repo.CheckReport) checked {
	told := checked{CheckReport: r, Findings: []damaged{}}
	harms, err := snapshot.Harms(ctx, s, &r, listedItems)
	if err != nil {
		a.warn("what the damage touches is not known in full: %v", err)
	}
	for i, f := range r.Findings {
		one := damaged{Finding: f}
		if h := harms[i]; h != nil {
			one.Namespaces, one.Count = h.Namespaces, h.Count
			for _, item := range h.Items {
				one.Items = append(one.Items, harmedItem{wild(item.Name), item.More})
			}
		}
		told.Findings = append(told.Findings, one)
	}
	return told
}

func (a *app) showCheck(r checked, data bool) error {
	err := a.show(r, func(t *sheet) {
		writeChecked(t, r.CheckReport, data)
		for _, f := range r.Findings {
			writeFinding(t, f)
		}
		if len(r.Findings) == 0 {
			t.line("\nno damage found")
		}
	})
	if err != nil || len(r.Findings) == 0 {
		return err
	}
	return failure{err: fmt.Errorf("the repository is damaged in %s", counted(len(r.Findings), "place")), code: exitDamaged,
		hint: keepHint}
}

func writeChecked(t *sheet, r repo.CheckReport, data bool) {
	t.row("Journal:", entries(r.Entries))
	t.row("Key slots:", count(len(r.KeySlots)))
	t.row("Snapshots:", count(r.Snapshots))
	t.row("Packs:", count(r.Packs))
	t.row("Segments:", count(r.Segments))
	t.row("Checkpoints:", count(r.Checkpoints))
	t.row("Nodes read:", count(r.Nodes))
	if data {
		t.row("Packs read:", count(r.PacksRead))
		t.row("Blobs read:", fmt.Sprintf("%s, %s", count(r.Blobs), size(r.BytesRead)))
	}
	if data && r.NeverRead > 0 {
		t.row("Never read:", counted(r.NeverRead, "pack")+", as far as this cache remembers")
	}
	if r.GivenUp > 0 {
		t.row("Given up:", fmt.Sprintf("%s of packs or blobs recorded as damaged by a repair, which nobody reads any more", count(r.GivenUp)))
	}
	if r.Orphans > 0 {
		t.row("Left over:", fmt.Sprintf("%s of interrupted or running backups, %s; harmless", counted(r.Orphans, "object"), size(r.OrphanBytes)))
	}
}

func writeFinding(t *sheet, f damaged) {
	t.line("")
	t.line("damaged  %s", name(f.Object))
	t.line("         %s", escaped(f.Problem))
	for _, more := range f.More {
		t.line("         %s", escaped(more))
	}
	if f.Others > 0 {
		t.line("         and %s", counted(f.Others, "further problem"))
	}
	writeTouched(t, f.Snapshots)
	for i, namespace := range f.Namespaces {
		if i == listedItems {
			t.line("         in %s more", counted(len(f.Namespaces)-i, "namespace"))
			break
		}
		t.line("         in namespace %s", name(namespace))
	}
	known := uint64(0)
	for _, item := range f.Items {
		known += 1 + item.More
		if item.More > 0 {
			t.line("         %s, and %s after it whose names are lost", name(item.Name), entries(item.More))
		} else {
			t.line("         %s", name(item.Name))
		}
	}
	if len(f.Items) == listedItems && f.Count > known {
		t.line("         and others: %s objects and files in all, counted in each snapshot that has them", count(f.Count))
	}
}

func writeTouched(t *sheet, snapshots []journal.SnapshotID) {
	if len(snapshots) == 0 {
		t.line("         touches no snapshot")
	}
	for i, id := range snapshots {
		if i == listedSnapshots {
			t.line("         touches %s more", counted(len(snapshots)-i, "snapshot"))
			return
		}
		t.line("         touches snapshot %v", id)
	}
}
