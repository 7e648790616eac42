// Command demo shows the whole path on a real cluster: back it up, lose a part, restore it, and prove
// that what came back is what was there.
//
//	cd test && go run ./demo [--varve ../bin/varve]
//
// It starts a control plane of its own, fills it and a folder, takes a backup, changes one percent,
// takes another, deletes two namespaces and a part of the files, restores one namespace in place, one
// under another name, and the files, and compares every object and every byte with what was there
// before. The comparison reads the cluster and the folder itself and shares no code with Varve. It
// ends with a status that is not zero if anything differs.
//
// All it makes lies in one temporary folder, which it removes at the end unless told to keep it.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/varve-dev/varve/test/api"
	"github.com/varve-dev/varve/test/controlplane"
	"github.com/varve-dev/varve/test/corpus"
)

func main() {
	var d demo
	flag.StringVar(&d.varve, "varve", "../bin/varve", "the `program` to show")
	flag.StringVar(&d.assets, "assets", defaultAssets(), "the `folder` that go run ./assets printed")
	flag.Uint64Var(&d.seed, "seed", 1, "what to fill the cluster with: the same seed makes the same")
	keep := flag.Bool("keep", false, "keep the folder with the repository and the files")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := d.run(ctx, *keep); err != nil {
		fmt.Fprintln(os.Stderr, "\ndemo:", err)
		os.Exit(1)
	}
}

// defaultAssets is where the command assets puts the control plane.
func defaultAssets() string {
	if dir := os.Getenv("VARVE_TEST_ASSETS"); dir != "" {
		return dir
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return ""
	}
	return filepath.Join(cache, "varve-test", "current")
}

// The namespaces that are lost. The first is restored in place, the second under another name.
const (
	lostNamespace  = "shop"
	movedNamespace = "payments"
	movedTo        = "payments-restored"
)

// A demo is one run.
type demo struct {
	varve, assets string
	seed          uint64

	dir         string // with all of the following in it
	kubeconfig  string
	volume      string
	client      *api.Client
	differences int
}

// run runs all acts of the demo in a temporary folder.
func (d *demo) run(ctx context.Context, keep bool) (err error) {
	if d.varve, err = filepath.Abs(d.varve); err != nil {
		return err
	}
	if _, err := os.Stat(d.varve); err != nil {
		return fmt.Errorf("%w; build it first", err)
	}
	if d.dir, err = os.MkdirTemp("", "varve-demo-"); err != nil {
		return err
	}
	defer func() {
		if keep {
			fmt.Println("\nkept:", d.dir)
			return
		}
		err = errors.Join(err, removeAll(d.dir))
	}()
	started := time.Now()
	cp, err := controlplane.Start(ctx, controlplane.Options{Assets: d.assets})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, cp.Stop()) }()
	if d.client, err = api.NewClient(cp.Access()); err != nil {
		return err
	}
	d.kubeconfig = filepath.Join(d.dir, "kubeconfig")
	if err := os.WriteFile(d.kubeconfig, cp.Kubeconfig(), 0o600); err != nil {
		return err
	}
	say("a control plane serves, %s after its start", since(started))
	return d.play(ctx)
}

// play is the story.
func (d *demo) play(ctx context.Context) error {
	if err := d.fill(ctx); err != nil {
		return err
	}
	if err := d.initialize(ctx); err != nil {
		return err
	}
	if err := d.backup(ctx, "first"); err != nil {
		return err
	}
	if err := d.change(ctx); err != nil {
		return err
	}
	if err := d.backup(ctx, "second"); err != nil {
		return err
	}
	objects, err := readCluster(ctx, d.client)
	if err != nil {
		return err
	}
	files, err := readFiles(d.volume)
	if err != nil {
		return err
	}
	if err := d.lose(ctx); err != nil {
		return err
	}
	if err := d.restore(ctx, "second"); err != nil {
		return err
	}
	if err := d.compare(ctx, objects, files); err != nil {
		return err
	}
	if err := d.check(ctx); err != nil {
		return err
	}
	if d.differences > 0 {
		return fmt.Errorf("%d differences", d.differences)
	}
	say("all that was lost is back")
	return nil
}

// fill makes what is to be backed up.
func (d *demo) fill(ctx context.Context) error {
	started := time.Now()
	if _, err := corpus.Fill(ctx, d.client, d.seed); err != nil {
		return err
	}
	objects, err := readCluster(ctx, d.client)
	if err != nil {
		return err
	}
	d.volume = filepath.Join(d.dir, "volume")
	files, err := corpus.WriteFiles(d.volume, d.seed)
	if err != nil {
		return err
	}
	say("filled it with %d objects of %d kinds in %d namespaces, and a volume with %v, in %s",
		len(objects), objects.kinds(), objects.namespaces(), files, since(started))
	return nil
}

// change changes one percent.
func (d *demo) change(ctx context.Context) error {
	objects, err := corpus.ChangeObjects(ctx, d.client, d.seed, 1)
	if err != nil {
		return err
	}
	files, err := corpus.ChangeFiles(d.volume, d.seed, 1)
	if err != nil {
		return err
	}
	say("changed one percent: %v; %v", objects, files)
	return nil
}

// compare proves that everything is as it was.
func (d *demo) compare(ctx context.Context, objects state, files map[string]file) error {
	started := time.Now()
	if err := corpus.Settle(ctx, d.client); err != nil {
		return err
	}
	now, err := readCluster(ctx, d.client)
	if err != nil {
		return err
	}
	before, after := normal(objects), normal(now)
	d.tell("namespace "+lostNamespace, compareObjects(before.within(lostNamespace), after.within(lostNamespace)))
	d.tell("namespace "+movedTo, compareObjects(
		renamed(before.within(movedNamespace), movedNamespace, movedTo), after.within(movedTo)))
	d.tell("the rest of the cluster", compareObjects(
		before.outside(lostNamespace, movedNamespace).where(counts), after.outside(lostNamespace, movedTo).where(counts)))
	d.tell("workloads restored and their pods", podShortages(now.within(lostNamespace, movedTo)))

	filesNow, err := readFiles(d.volume)
	if err != nil {
		return err
	}
	d.tell("the volume", compareFiles(files, filesNow))
	say("compared everything in %s", since(started))
	return nil
}

// counts leaves out what the server keeps beside the objects that it is about.
func counts(i id) bool {
	return i.kind != "IPAddress" // one for each Service; the server gives them away
}

// tell prints what came out of a comparison.
func (d *demo) tell(what string, c comparison) {
	d.differences += len(c.differences)
	verdict := "equal"
	if len(c.differences) > 0 {
		verdict = fmt.Sprintf("%d differences", len(c.differences))
	}
	remade := ""
	if c.remade > 0 {
		remade = fmt.Sprintf(", %d left to their controllers", c.remade)
	}
	say("%s: %d compared%s: %s", what, c.compared, remade, verdict)
	const most = 20
	for _, line := range c.differences[:min(most, len(c.differences))] {
		fmt.Println("    " + line)
	}
	if len(c.differences) > most {
		fmt.Printf("    and %d more\n", len(c.differences)-most)
	}
}

// say prints one line of the account.
func say(format string, args ...any) { fmt.Printf("* "+format+"\n", args...) }

func since(started time.Time) string {
	return time.Since(started).Round(100 * time.Millisecond).String()
}

// removeAll removes a folder in which some folders may not be written to.
func removeAll(dir string) error {
	err := os.RemoveAll(dir)
	if !errors.Is(err, os.ErrPermission) {
		return err
	}
	err = filepath.WalkDir(dir, func(path string, entry os.DirEntry, err error) error {
		if err == nil && entry.IsDir() {
			err = os.Chmod(path, 0o700)
		}
		return err
	})
	return errors.Join(err, os.RemoveAll(dir))
}
