package command

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"sigs.k8s.io/yaml"

	"github.com/varve-dev/varve/kube"
	"github.com/varve-dev/varve/kube/backup"
	"github.com/varve-dev/varve/repo/storage/meter"
	"github.com/varve-dev/varve/snapshot"
)

// account is what a backup did and what it cost. Bytes are of contents, but for those stored and written.
type account struct {
	snapshotRow
	Parent    string            `json:"parent,omitempty"` // name of the backup it was compared with
	Seconds   float64           `json:"seconds"`
	Unchanged uint64            `json:"unchanged"` // objects that were not read again
	Files     int64             `json:"files"`
	Folders   []volumeAccount   `json:"volumeData,omitempty"`
	Written   int64             `json:"written"` // bytes stored, with their index and the journal's entry
	Packs     int64             `json:"packs"`
	Requests  int64             `json:"requests"` // to the bucket, from opening the repository on
	Kinds     requestCounts     `json:"requestKinds"`
	Cost      *cost             `json:"cost,omitempty"`
	Ratio     float64           `json:"ratio"` // bytes in the backup for each one written
	Healed    *healed           `json:"healed,omitempty"`
	Digest    snapshot.Sum      `json:"digest,omitzero"`
	Results   []snapshot.Result `json:"results,omitempty"`
}

// healed is what was stored again because all that the repository had of it was recorded as damaged. Older
// snapshots that need it are whole again, as far as it is all that they have lost.
type healed struct {
	Blobs int64 `json:"blobs"`
	Bytes int64 `json:"bytes"` // of contents
}

type volumeAccount struct {
	Name        string `json:"name"`
	Path        string `json:"path"`
	Entries     int64  `json:"entries"` // files of every kind, the folder itself included
	Files       int64  `json:"files"`   // regular ones
	Directories int64  `json:"directories"`
	Symlinks    int64  `json:"symlinks"`
	Bytes       int64  `json:"bytes"`
	Read        int64  `json:"filesRead"`
	ReadBytes   int64  `json:"readBytes"`
}

// requestCounts are requests to the bucket.
type requestCounts struct {
	Create int64 `json:"create"`
	Get    int64 `json:"get"`
	Stat   int64 `json:"stat"`
	List   int64 `json:"list"`
	Delete int64 `json:"delete"`
}

func (r requestCounts) String() string {
	var kinds []string
	for _, k := range []struct {
		n    int64
		name string
	}{{r.Create, "create"}, {r.Get, "get"}, {r.Stat, "stat"}, {r.List, "list"}, {r.Delete, "delete"}} {
		if k.n > 0 {
			kinds = append(kinds, count(k.n)+" "+k.name)
		}
	}
	return strings.Join(kinds, ", ")
}

func accountOf(s *session, made *snapshot.Snapshot, r backup.Result, c meter.Counts) account {
	a := account{snapshotRow: rowOf(s, made), Parent: r.Parent, Seconds: r.Completed.Sub(r.Started).Seconds(), Unchanged: r.Unchanged,
		Written: r.Written.StoredBytes, Packs: r.Written.Packs, Requests: c.Requests(),
		Kinds: kindsOf(c), Cost: s.costOf(&c, r.Written.StoredBytes), Digest: r.Digest, Results: r.Results}
	for _, v := range r.Volumes {
		a.Files += v.Files.Files
		a.Folders = append(a.Folders, volumeAccount{Name: v.Name, Path: v.Path, Entries: v.Files.Files + v.Files.Directories + v.Files.Symlinks + v.Files.Specials,
			Files: v.Files.Files, Directories: v.Files.Directories,
			Symlinks: v.Files.Symlinks, Bytes: v.Files.Bytes, Read: v.Files.Read, ReadBytes: v.Files.ReadBytes})
	}
	if r.Written.HealedBlobs > 0 {
		a.Healed = &healed{r.Written.HealedBlobs, r.Written.HealedBytes}
	}
	if a.Written > 0 {
		a.Ratio = float64(a.Bytes.Total) / float64(a.Written)
	}
	return a
}

// showBackup shows the account of a backup, and fails if something is missing.
func (a *app) showBackup(s *session, made *snapshot.Snapshot, r backup.Result, c meter.Counts) error {
	x := accountOf(s, made, r, c)
	err := a.show(x, func(t *sheet) {
		t.row("Backup:", name(x.Name)+" ("+x.Status+")")
		t.row("Snapshot:", x.ID)
		if x.Parent != "" {
			t.row("Compared with:", name(x.Parent))
		}
		t.row("Duration:", took(time.Duration(x.Seconds*float64(time.Second))))
		if x.Objects > 0 || len(x.Folders) == 0 {
			t.row("Objects:", fmt.Sprintf("%s, %s unchanged", count(x.Objects), count(x.Unchanged)))
		}
		for _, v := range x.Folders {
			t.row("Volume:", fmt.Sprintf("%s, %s, %s; %s read", name(v.Name), filesText(v.Files, v.Entries), size(v.Bytes), count(v.Read)))
		}
		t.row("Size:", size(int64(x.Bytes.Total)))
		t.row("Read:", size(int64(x.Bytes.Read)))
		t.row("New:", size(int64(x.Bytes.New)))
		if x.Healed != nil {
			t.row("Healed:", fmt.Sprintf("%s, %s, recorded as damaged; snapshots that need what was lost have it again", counted(x.Healed.Blobs, "blob"), size(x.Healed.Bytes)))
		}
		t.row("Stored:", storedText(x))
		t.row("Requests:", x.Kinds.String())
		x.Cost.row(t)
		writeResults(t, x.Results, fewResults)
	})
	if err != nil {
		return afterwards("backup "+name(x.Name)+" was made", err)
	}
	if made.Complete {
		return nil
	}
	return failure{err: fmt.Errorf("the backup is incomplete: %s missing", counted(x.Errors, "item")), code: exitIncomplete,
		hint: "varve backup describe " + short(x.ID) + " --details names each"}
}

func storedText(x account) string {
	text := fmt.Sprintf("%s in %s; %s with index and journal entry", size(x.Bytes.Stored), counted(x.Packs, "pack"), size(x.Written))
	if x.Packs == 0 {
		text = fmt.Sprintf("%s in one journal entry of %s", size(x.Bytes.Stored), size(x.Written))
	}
	if x.Ratio >= 1 {
		text += fmt.Sprintf("; ratio %.1f", x.Ratio)
	}
	return text
}

// fewResults is how many errors and warnings are shown where they are not the point.
const fewResults = 20

// writeResults lists errors first, then warnings.
func writeResults(t *sheet, results []snapshot.Result, most int) {
	sorted := slices.Clone(results)
	slices.SortStableFunc(sorted, func(a, b snapshot.Result) int { return int(a.Severity) - int(b.Severity) })
	if len(sorted) > 0 {
		t.line("")
	}
	for i, r := range sorted {
		if i == most {
			t.line("and %s more", count(len(sorted)-most))
			return
		}
		if r.Item == "" {
			t.line("%s: %s", r.Severity, escaped(r.Message))
		} else {
			t.line("%s: %s: %s", r.Severity, name(r.Item), escaped(r.Message))
		}
	}
}

func (a *app) showBackups(ctx context.Context, s *session, found []*snapshot.Snapshot) error {
	rows, err := rowsOf(ctx, s, found)
	if err != nil {
		return err
	}
	now := time.Now()
	err = a.show(rows, func(t *sheet) {
		if len(rows) == 0 {
			return
		}
		t.row("NAME", "STATUS", "ERRORS", "WARNINGS", "AGE", "EXPIRES IN", "OBJECTS", "VOLUMES", "SNAPSHOT")
		for _, r := range rows {
			expires := never
			if r.Expires != nil {
				expires = age(now, *r.Expires)
				if r.Expires.Before(now) {
					expires = "expired"
				}
			}
			t.row(name(r.Name), r.Status, count(r.Errors), count(r.Warnings), age(r.Started, now), expires, count(r.Objects),
				count(r.Volumes), short(r.ID))
		}
	})
	if err == nil && len(rows) == 0 && a.output == asTable {
		a.note("no backups")
	}
	return err
}

// description is all that is known of a backup.
type description struct {
	snapshotRow
	Cost       *cost             `json:"cost,omitempty"`
	Plan       json.RawMessage   `json:"plan,omitempty"`
	VolumeData []volumeSize      `json:"volumeData,omitempty"`
	Digest     snapshot.Sum      `json:"digest,omitzero"`
	Resources  []resourceCount   `json:"resources,omitempty"` // with details
	Results    []snapshot.Result `json:"results,omitempty"`
}

type volumeSize struct {
	Name    string `json:"name"`
	Entries uint64 `json:"entries"`
	Bytes   uint64 `json:"bytes"`
}

type resourceCount struct {
	Resource   string            `json:"resource"`
	Objects    uint64            `json:"objects"`
	Namespaces map[string]uint64 `json:"namespaces,omitempty"` // objects in each
}

func (a *app) describe(ctx context.Context, r *session, s *snapshot.Snapshot, details bool) error {
	rows, err := rowsOf(ctx, r, []*snapshot.Snapshot{s})
	if err != nil {
		return err
	}
	d := description{snapshotRow: rows[0], Digest: s.Digest, Cost: r.costOf(nil, rows[0].Bytes.Stored)}
	plan, err := s.Plan(ctx)
	if err != nil {
		return err
	}
	d.Plan = plan
	volumes, err := s.Volumes(ctx)
	if err != nil {
		return err
	}
	for _, v := range volumes {
		d.VolumeData = append(d.VolumeData, volumeSize{v.Name, v.Root.Count, v.Root.Bytes})
	}
	if d.Results, err = s.Results(ctx); err != nil {
		return err
	}
	digests, err := s.Digests(ctx)
	if err != nil {
		return err
	}
	if d.Resources, err = countResources(digests); err != nil {
		return err
	}
	shown := d
	if !details {
		shown.Resources = nil
	}
	return a.show(shown, func(t *sheet) { writeDescription(t, d, details) })
}

// countResources adds up the scopes of digests, each of which is a resource in a namespace.
func countResources(d *snapshot.Digests) (counts []resourceCount, err error) {
	for scope, sum := range d.All() {
		k, err := kube.ParseKey([]byte(scope + "x")) // a scope is a key without its name
		if err != nil {
			return nil, err
		}
		if n := len(counts); n == 0 || counts[n-1].Resource != k.GroupResource() {
			counts = append(counts, resourceCount{Resource: k.GroupResource(), Namespaces: map[string]uint64{}})
		}
		last := &counts[len(counts)-1]
		last.Objects += sum.Objects
		if k.Namespace != "" {
			last.Namespaces[k.Namespace] += sum.Objects
		}
	}
	return counts, nil
}

func writeDescription(t *sheet, d description, details bool) {
	t.row("Name:", name(d.Name))
	t.row("Status:", d.Status)
	t.row("Snapshot:", d.ID)
	if d.Cluster != "" {
		t.row("Cluster:", name(d.Cluster))
	}
	t.row("Started:", moment(d.Started))
	t.row("Completed:", fmt.Sprintf("%s, after %s", moment(d.Completed), took(d.Completed.Sub(d.Started))))
	expires := never
	if d.Expires != nil {
		expires = moment(*d.Expires)
	}
	t.row("Expires:", expires)
	t.row("Objects:", objectsText(d))
	for _, v := range d.VolumeData {
		t.row("Volume:", fmt.Sprintf("%s, %s, %s", name(v.Name), entries(v.Entries), size(int64(v.Bytes))))
	}
	t.row("Size:", size(int64(d.Bytes.Total)))
	t.row("Read:", size(int64(d.Bytes.Read)))
	t.row("New:", size(int64(d.Bytes.New)))
	t.row("Stored:", size(d.Bytes.Stored))
	d.Cost.row(t)
	if d.Objects > 0 {
		t.row("Digest:", d.Digest.Body.String())
	}
	t.row("Errors:", count(d.Errors))
	t.row("Warnings:", count(d.Warnings))
	writeAsked(t, d.Plan)
	most := fewResults
	if details {
		most = len(d.Results)
		writeResources(t, d.Resources)
	}
	writeResults(t, d.Results, most)
}

// writeAsked shows what a backup was asked for, as far as it is not the default.
func writeAsked(t *sheet, plan json.RawMessage) {
	text, err := yaml.JSONToYAML(plan)
	if err != nil || string(text) == "{}\n" {
		return
	}
	t.line("\nAsked for:")
	for line := range strings.Lines(string(text)) {
		t.line("  %s", escaped(strings.TrimRight(line, "\n")))
	}
}

func objectsText(d description) string {
	if d.Objects == 0 {
		return "none"
	}
	namespaces := map[string]bool{}
	for _, r := range d.Resources {
		for n := range r.Namespaces {
			namespaces[n] = true
		}
	}
	return fmt.Sprintf("%s of %s in %s", count(d.Objects), counted(len(d.Resources), "kind"), counted(len(namespaces), "namespace"))
}

func writeResources(t *sheet, resources []resourceCount) {
	t.line("")
	t.row("RESOURCE", "OBJECTS", "NAMESPACES")
	for _, r := range resources {
		var places []string
		for _, n := range slices.Sorted(maps.Keys(r.Namespaces)) {
			places = append(places, fmt.Sprintf("%s %s", name(n), count(r.Namespaces[n])))
		}
		t.row(name(r.Resource), count(r.Objects), strings.Join(places, ", "))
	}
}
