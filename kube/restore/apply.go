package restore

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/varve-dev/varve/kube"
	"github.com/varve-dev/varve/snapshot/files"
)

const (
	defaultParallel = 8

	// What failed is tried again this many times at the end, while it helps.
	maxRounds  = 3
	roundPause = 300 * time.Millisecond
)

// run is a restore under way.
type run struct {
	*Prepared
	owners owners
	spaces map[string]int // the actions that make namespaces, by the namespace's name

	mutex    sync.Mutex
	outcomes map[int]Outcome // by action
	waiting  int             // how many wait for something to be gone
}

// Apply does what was prepared and reports what became of every action. It returns an error only when
// it could not go on; a single object that fails is in the report. Volumes come first, so that nothing
// that is restored works on them before they are complete.
func (p *Prepared) Apply(ctx context.Context) (Report, error) {
	report := Report{Name: p.Name, Warnings: p.Warnings}
	for i, v := range p.plan.Volumes {
		written, err := files.Restore(ctx, p.deps.Snapshot.Files(p.Volumes[i]), p.contents, v.Path,
			files.RestoreOptions{Policy: p.plan.ExistingFiles, Events: p.deps.Files})
		report.Volumes = append(report.Volumes, VolumeResult{Volume: v, Files: written})
		if err != nil {
			return report, fmt.Errorf("restore volume %q: %w", v.Name, err)
		}
	}
	r := &run{Prepared: p, outcomes: map[int]Outcome{}, spaces: map[string]int{}}
	for i, a := range p.Actions {
		if a.Key.Group == "" && a.Key.Resource == "namespaces" && a.Verb != Refuse {
			r.spaces[a.Target.Name] = i
		}
	}
	r.owners = owners{cluster: p.deps.Cluster, served: p.served, uids: map[string]string{}, known: map[ownerKey]string{}}
	err := r.objects(ctx)
	for i := range p.Actions {
		if o, ok := r.outcomes[i]; ok {
			report.Outcomes = append(report.Outcomes, o)
			if o.Result == Failed {
				r.tell(o)
			}
		}
	}
	return report, err
}

// objects does all actions, and again what failed, while there is hope.
func (r *run) objects(ctx context.Context) error {
	all := make([]int, len(r.Actions))
	for i := range all {
		all[i] = i
	}
	if err := r.waves(ctx, all); err != nil {
		return err
	}
	for round := 1; round <= maxRounds; round++ {
		failed := r.failed()
		if len(failed) == 0 {
			break
		}
		if err := sleep(ctx, time.Duration(round)*roundPause); err != nil {
			return err
		}
		if err := r.waves(ctx, failed); err != nil {
			return err
		}
	}
	return r.adopt(ctx)
}

// failed returns the actions that failed and may succeed when tried again.
func (r *run) failed() []int {
	var failed []int
	for i, a := range r.Actions {
		if o := r.outcomes[i]; o.Result == Failed && a.Verb != Refuse && !errors.Is(o.Err, errDeleting) {
			failed = append(failed, i)
		}
	}
	return failed
}

// waves does actions, in parallel where they are of one wave.
func (r *run) waves(ctx context.Context, actions []int) error {
	for len(actions) > 0 {
		first := r.Actions[actions[0]]
		n := slices.IndexFunc(actions, func(i int) bool {
			return r.Actions[i].Wave != first.Wave || r.Actions[i].depth != first.depth
		})
		if n < 0 {
			n = len(actions)
		}
		if err := r.wave(ctx, actions[:n]); err != nil {
			return err
		}
		if first.Wave == waveDefinitions {
			if err := r.waitEstablished(ctx, actions[:n]); err != nil {
				return err
			}
		}
		actions = actions[n:]
	}
	return nil
}

// wave does actions in parallel and waits for them. It ends early when the cluster cannot be reached.
func (r *run) wave(ctx context.Context, actions []int) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	queue := make(chan int)
	var workers sync.WaitGroup
	parallel := r.deps.Parallel
	if parallel == 0 {
		parallel = defaultParallel
	}
	for range min(parallel, len(actions)) {
		workers.Go(func() {
			for i := range queue {
				o := r.do(ctx, i)
				if errors.Is(o.Err, kube.ErrUnreachable) {
					cancel(o.Err)
				}
				r.note(i, o)
			}
		})
	}
	for _, i := range actions {
		if ctx.Err() != nil {
			break
		}
		queue <- i
	}
	close(queue)
	workers.Wait()
	return context.Cause(ctx)
}

func (r *run) note(i int, o Outcome) {
	r.mutex.Lock()
	r.outcomes[i] = o
	r.mutex.Unlock()
	if o.Result != Failed { // what failed may be tried again
		r.tell(o)
	}
}

func (r *run) tell(o Outcome) {
	if r.deps.Progress == nil {
		return
	}
	r.mutex.Lock()
	defer r.mutex.Unlock()
	r.deps.Progress(o)
}
