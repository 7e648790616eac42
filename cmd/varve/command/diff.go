package command

import (
	"bytes"
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/varve-dev/varve/kube"
	"github.com/varve-dev/varve/snapshot"
	"github.com/varve-dev/varve/snapshot/content"
	"github.com/varve-dev/varve/snapshot/files"
)

// The ways in which an entry differs.
const (
	added   = "added"
	removed = "removed"
	changed = "changed"
)

// exitDifferent is what diff ends with when the snapshots differ; its failures have higher codes.
const exitDifferent = 1

// difference is one object or file in which two snapshots differ.
type difference struct {
	Change  string        `json:"change"` // added, removed or changed
	Address wild          `json:"address"`
	What    []string      `json:"what,omitempty"`   // of a change: body, state; content, mode, owner, time, type, target
	Fields  []fieldChange `json:"fields,omitempty"` // of a changed object, if they are asked for
}

// comparison is what diff finds.
type comparison struct {
	From        string       `json:"from"` // IDs of snapshots
	To          string       `json:"to"`
	Added       int          `json:"added"`
	Removed     int          `json:"removed"`
	Changed     int          `json:"changed"`
	Differences []difference `json:"differences"`
}

// differ compares two snapshots.
type differ struct {
	from, to *view
	within   snapshot.Address
	fields   bool // name the fields of objects
	state    bool // compare what moves by itself, too
	secrets  bool // show values of Secrets
	found    comparison
}

func (a *app) snapshotDiff() *cobra.Command {
	var d differ
	c := &cobra.Command{
		Use:   "diff FROM TO [ADDRESS]",
		Short: "Show in which objects and files two snapshots differ",
		Long: `Show in which objects and files two snapshots differ. What is equal in both is not read, so comparing two
large snapshots that differ little is fast. Of objects the part that moves by itself (status, generation,
managedFields, resourceVersion) is left out unless --state is given.

Exit codes: 0 equal; 1 different; 2 and above: the comparison failed, as in varve --help.

` + addresses,
		Example: `  varve snapshot diff monday tuesday
  varve snapshot diff monday latest --field
  varve snapshot diff monday latest volumes/data/www -o json`,
		Args:              arguments(2, 3, "two snapshots and, if you like, an address in them"),
		ValidArgsFunction: a.completeSnapshots(2),
		RunE: func(c *cobra.Command, args []string) (err error) {
			if d.within, err = parseAddress(append(args, "")[2]); err != nil {
				return err
			}
			err = a.withRepository(c.Context(), func(s *session) (err error) {
				if d.from, err = viewOf(c.Context(), s, args[0]); err != nil {
					return err
				}
				if d.to, err = viewOf(c.Context(), s, args[1]); err != nil {
					return err
				}
				if err := d.run(c.Context()); err != nil {
					return err
				}
				if err := d.mustExist(c.Context()); err != nil {
					return err
				}
				return a.show(d.found, func(t *sheet) { writeComparison(t, d.found) })
			})
			if err != nil {
				return aboveDifferent(err)
			}
			if len(d.found.Differences) > 0 {
				return failure{code: exitDifferent}
			}
			return nil
		},
	}
	c.Flags().BoolVarP(&d.fields, "field", "p", false, "name the fields in which objects differ, with their values")
	c.Flags().BoolVar(&d.state, "state", false, "compare what moves by itself, too: status, generation, managedFields")
	c.Flags().BoolVar(&d.secrets, "show-secrets", false, "with --field: show the values of Secrets")
	return c
}

// aboveDifferent gives a failure that has no code of its own another one than "different".
func aboveDifferent(err error) error {
	code, hint := explain(err)
	if code == exitDifferent {
		return failure{err: err, code: exitUsage, hint: hint}
	}
	return err
}

func (d *differ) run(ctx context.Context) error {
	d.found = comparison{From: d.from.ID.String(), To: d.to.ID.String(), Differences: []difference{}}
	for c, err := range snapshot.Diff(ctx, d.from.Snapshot, d.to.Snapshot, d.within) {
		if err != nil {
			return err
		}
		x := difference{Address: wild(addressOf(c))}
		switch {
		case c.Old == nil:
			x.Change = added
		case c.New == nil:
			x.Change = removed
		case c.Address.InObjects():
			err = d.compareObjects(ctx, c, &x)
		default:
			err = d.compareFiles(ctx, c, &x)
		}
		if err != nil {
			return err
		}
		d.add(x)
	}
	return nil
}

// mustExist refuses an address that is in neither snapshot: what is nowhere is not equal.
func (d *differ) mustExist(ctx context.Context) error {
	if len(d.found.Differences) > 0 {
		return nil
	}
	there, err := d.to.has(ctx, d.within)
	if err == nil && !there {
		there, err = d.from.has(ctx, d.within)
	}
	if err == nil && !there {
		err = fmt.Errorf("%s in snapshot %s or %s: %w", name(d.within.String()), d.from.ID, d.to.ID, snapshot.ErrNotFound)
	}
	return err
}

// add counts a difference. One that names nothing is none: the same contents, stored twice.
func (d *differ) add(x difference) {
	switch {
	case x.Change == "" && len(x.What) == 0:
		return
	case x.Change == added:
		d.found.Added++
	case x.Change == removed:
		d.found.Removed++
	default:
		x.Change = changed
		d.found.Changed++
	}
	d.found.Differences = append(d.found.Differences, x)
}

func (d *differ) compareObjects(ctx context.Context, c snapshot.Change, x *difference) error {
	old, err := kube.ParseEntry(*c.Old)
	if err != nil {
		return err
	}
	new, err := kube.ParseEntry(*c.New)
	if err != nil {
		return err
	}
	for _, part := range []struct {
		name     string
		old, new content.Ref
		compared bool
	}{{"body", old.Body, new.Body, true}, {"state", old.State, new.State, d.state}} {
		same, err := d.sameContents(ctx, []content.Ref{part.old}, []content.Ref{part.new})
		if err != nil {
			return err
		}
		if part.compared && !same {
			x.What = append(x.What, part.name)
		}
	}
	if !d.fields || len(x.What) == 0 {
		return nil
	}
	x.Fields, err = d.compareFields(ctx, old, new)
	return err
}

// compareFields reads both forms of an object and names the fields in which they differ.
func (d *differ) compareFields(ctx context.Context, old, new kube.Entry) ([]fieldChange, error) {
	before, err := old.Read(ctx, d.from.contents)
	if err != nil {
		return nil, err
	}
	after, err := new.Read(ctx, d.to.contents)
	if err != nil {
		return nil, err
	}
	if !d.state {
		before.State, after.State = nil, nil
		after.Attributes.ResourceVersion = before.Attributes.ResourceVersion
	}
	was, err := before.Object()
	if err != nil {
		return nil, err
	}
	is, err := after.Object()
	if err != nil {
		return nil, err
	}
	if !d.secrets {
		was, is = redactBoth(old.Key, was, is)
	}
	return fieldChanges(was, is), nil
}

func (d *differ) compareFiles(ctx context.Context, c snapshot.Change, x *difference) error {
	old, err := parseFile(*c.Old)
	if err != nil {
		return err
	}
	new, err := parseFile(*c.New)
	if err != nil {
		return err
	}
	same, err := d.sameContents(ctx, old.contents, new.contents)
	if err != nil {
		return err
	}
	folder := old.Type == files.Directory && new.Type == files.Directory
	for _, aspect := range []struct {
		name    string
		differs bool
	}{
		{"type", old.Type != new.Type},
		{"content", !same},
		{"mode", old.Mode != new.Mode},
		{"owner", old.UID != new.UID || old.GID != new.GID},
		{"time", !old.Mtime.Equal(new.Mtime) && !folder}, // that of a folder moves with what is in it
		{"target", old.Target != new.Target || old.Device != new.Device},
		{"link", old.Link != new.Link},
		{"attributes", !sameXattrs(old.Xattrs, new.Xattrs)},
	} {
		if aspect.differs {
			x.What = append(x.What, aspect.name)
		}
	}
	return nil
}

func sameXattrs(a, b []files.Xattr) bool {
	return files.Attributes{Xattrs: a}.Equal(files.Attributes{Xattrs: b})
}

// sameContents compares places first. Small contents in different places may still be the same, since
// bundles are written anew now and then; large ones have one place only.
func (d *differ) sameContents(ctx context.Context, old, new []content.Ref) (bool, error) {
	if len(old) != len(new) {
		return false, nil
	}
	for i := range old {
		switch {
		case old[i].Equal(new[i]):
			continue
		case old[i].Length() != new[i].Length() || old[i].Length() > content.MaxSmall:
			return false, nil
		}
		before, err := d.from.contents.ReadAll(ctx, old[i])
		if err != nil {
			return false, err
		}
		after, err := d.to.contents.ReadAll(ctx, new[i])
		if err != nil || !bytes.Equal(before, after) {
			return false, err
		}
	}
	return true, nil
}

// writeComparison shows a line for each difference, which begins like one of diff.
func writeComparison(t *sheet, c comparison) {
	marks := map[string]string{added: "+", removed: "-", changed: "~"}
	for _, x := range c.Differences {
		line := marks[x.Change] + " " + name(x.Address)
		if len(x.What) > 0 && !strings.EqualFold(strings.Join(x.What, ""), "body") {
			line += "  (" + strings.Join(x.What, ", ") + ")"
		}
		t.line("%s", line)
		for _, f := range x.Fields {
			t.line("    %s: %s", f.Field, fieldValues(f))
		}
	}
	if len(c.Differences) > 0 {
		t.line("\n%s added, %s removed, %s changed", count(c.Added), count(c.Removed), count(c.Changed))
	} else {
		t.line("no differences")
	}
}

func fieldValues(f fieldChange) string {
	switch {
	case f.Old == nil:
		return "+ " + compact(f.New)
	case f.New == nil:
		return "- " + compact(f.Old)
	}
	return compact(f.Old) + " -> " + compact(f.New)
}
