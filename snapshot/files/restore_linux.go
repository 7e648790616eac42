package files

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/varve-dev/varve/snapshot/content"
	"github.com/varve-dev/varve/snapshot/tree"
)

// Restore makes the files of a map in the folder target, which is created if it does not exist. What
// happens to single files is in the report and no error; the rest goes on. An error means that the
// restore as a whole could not go on.
func Restore(ctx context.Context, m *tree.Map, r *content.Reader, target string, opt RestoreOptions) (RestoreReport, error) {
	if opt.Parallel <= 0 {
		opt.Parallel = 2 * runtime.GOMAXPROCS(0)
	}
	s := &restore{m: m, content: r, opt: opt, jobs: make(chan *restoreJob, opt.Parallel),
		warnings: make(map[string]*Warning), groups: make(map[string]*restoredGroup)}
	err := s.run(ctx, target)
	s.report.Failed.sort()
	s.report.Skipped.sort()
	for _, w := range s.warnings {
		s.report.Warnings = append(s.report.Warnings, *w)
	}
	slices.SortFunc(s.report.Warnings, func(a, b Warning) int { return cmp.Compare(a.What, b.What) })
	if err != nil {
		return s.report, fmt.Errorf("restore files to %s: %w", target, err)
	}
	return s.report, nil
}

// restore is one run. One goroutine scans the map and makes the directories; others make the files.
type restore struct {
	m       *tree.Map
	content *content.Reader
	opt     RestoreOptions
	jobs    chan *restoreJob

	root    *folder
	include []string // keys, none beneath another; empty: everything

	// Of the scanning goroutine:
	way     []level                   // the directories from the root to where the scan is
	blocked blocked                   // a directory that is not there, so nothing beneath it can be
	groups  map[string]*restoredGroup // by the path of the first name; those with names to come
	ofRoot  *Attributes               // to be set last of all

	found    recorder
	report   RestoreReport       // under found
	warnings map[string]*Warning // under found
}

// level is a directory on the way. Its key is a prefix of the keys of all that is in it.
type level struct {
	key    string
	folder *folder
	fresh  bool // made by this restore, so nothing can be in it that is not restored
}

// blocked is a directory that could not be made, or that may not be used.
type blocked struct {
	key    string
	reason error // nil if the policy keeps what is there instead
}

// restoreJob is a file to be made in a folder.
type restoreJob struct {
	path   string
	name   string
	attrs  Attributes
	refs   []content.Ref
	folder *folder        // held
	fresh  bool           // nothing else can be in the folder
	group  *restoredGroup // of a file with several names
	relink bool           // only a link to the group's file is right
}

func (s *restore) run(ctx context.Context, target string) error {
	var err error
	if s.include, err = normalise(s.opt.Include); err != nil {
		return err
	}
	if err := Admit(target, s.opt.Policy); err != nil {
		return err
	}
	if err := os.MkdirAll(target, 0o755); err != nil {
		return err
	}
	if s.root, err = openRoot(target); err != nil {
		return err
	}
	defer s.root.release()
	if s.opt.Policy == Overwrite {
		if err := removeLeftovers(s.root); err != nil {
			return err
		}
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		defer close(s.jobs)
		return s.walk(ctx)
	})
	for range s.opt.Parallel {
		g.Go(func() error {
			for j := range s.jobs { // to its end, since each job holds its folder
				if err := s.process(ctx, j); err != nil && ctx.Err() == nil {
					s.fail(j.path, err)
				}
				j.folder.release()
			}
			return ctx.Err()
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	if s.ofRoot != nil {
		s.finishFolder(s.root, ".", *s.ofRoot)
	}
	return s.root.sync()
}

// walk goes through what is to be restored in the order of keys.
func (s *restore) walk(ctx context.Context) error {
	s.way = []level{{folder: s.root.hold()}}
	defer s.leave(0)
	if len(s.include) == 0 {
		return s.scan(ctx, tree.Range{})
	}
	for _, key := range s.include {
		if err := s.subtree(ctx, key); err != nil {
			return err
		}
	}
	return nil
}

// normalise returns the keys of paths in ascending order, without those beneath others.
func normalise(paths []string) ([]string, error) {
	var keys []string
	for _, path := range paths {
		key, err := Key(strings.Trim(path, "/"))
		if err != nil {
			return nil, err
		}
		if string(key) == rootKey {
			return nil, nil
		}
		keys = append(keys, string(key))
	}
	slices.Sort(keys)
	top := keys[:0]
	for _, key := range keys {
		if n := len(top); n == 0 || key != top[n-1] && !beneathKey(key, top[n-1]) {
			top = append(top, key)
		}
	}
	return top, nil
}

// beneathKey reports whether a key lies in the directory with the key above.
func beneathKey(key, above string) bool {
	return len(key) > len(above) && key[:len(above)] == above && key[len(above)] == 0
}

// subtree restores one entry with all beneath, in its directories.
func (s *restore) subtree(ctx context.Context, key string) error {
	for i := range key {
		if key[i] != 0 || s.inWay(key[:i]) {
			continue
		}
		if err := s.one(ctx, key[:i]); err != nil {
			return err
		}
	}
	if err := s.one(ctx, key); err != nil {
		return err
	}
	return s.scan(ctx, tree.Prefix([]byte(key+"\x00")))
}

func (s *restore) inWay(key string) bool {
	return slices.ContainsFunc(s.way, func(l level) bool { return l.key == key })
}

func (s *restore) one(ctx context.Context, key string) error {
	e, ok, err := s.m.Get(ctx, []byte(key))
	if err != nil {
		return err
	}
	if !ok {
		s.fail(strings.ReplaceAll(key, "\x00", "/"), ErrNotFound)
		return nil
	}
	return s.entry(ctx, e)
}

func (s *restore) scan(ctx context.Context, r tree.Range) error {
	for e, err := range s.m.Scan(ctx, r) {
		if err == nil {
			err = ctx.Err()
		}
		if err == nil {
			err = s.entry(ctx, e)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// entry makes what an entry stands for, or hands it to those who do. An error ends the restore.
func (s *restore) entry(ctx context.Context, e tree.Entry) error {
	path, err := Path(e.Key)
	if err != nil {
		s.fail(string(e.Key), err)
		return nil
	}
	attrs, refs, err := decodeEntry(e)
	if err != nil {
		s.fail(path, err)
		return nil
	}
	if path == "." {
		if s.opt.Policy != KeepExisting && attrs.Type == Directory {
			s.ofRoot = &attrs
		}
		return nil
	}
	key := string(e.Key)
	if s.blocked.key != "" && beneathKey(key, s.blocked.key) {
		s.skipBlocked(path, attrs)
		return nil
	}
	above, name := "", key
	if i := strings.LastIndexByte(key, 0); i >= 0 {
		above, name = key[:i], key[i+1:]
	}
	for len(s.way) > 1 && s.way[len(s.way)-1].key != above {
		s.leave(len(s.way) - 1)
	}
	in := s.way[len(s.way)-1]
	if in.key != above {
		s.fail(path, fmt.Errorf("%w: it is in no directory", ErrMalformed))
		return nil
	}
	j := &restoreJob{path: path, name: name, attrs: attrs, refs: refs, folder: in.folder, fresh: in.fresh}
	switch attrs.Type {
	case Directory:
		s.directory(key, j)
		return nil
	case CharDevice, BlockDevice:
		s.found.add(&s.report.Skipped, path, attrs.Type)
		return nil
	case Regular:
		s.join(j)
	}
	j.folder.hold()
	select {
	case s.jobs <- j:
		return nil
	case <-ctx.Done():
		j.folder.release()
		return ctx.Err()
	}
}

// decodeEntry returns a file's attributes and contents, which fit each other.
func decodeEntry(e tree.Entry) (Attributes, []content.Ref, error) {
	encoded, refs, err := content.DecodeEntry(e)
	if err != nil {
		return Attributes{}, nil, err
	}
	a, err := DecodeAttributes(encoded)
	switch {
	case err != nil:
		return Attributes{}, nil, err
	case a.Type == Regular && a.Link == "":
		if len(refs) != 1 || refs[0].Length() != uint64(a.Size) {
			err = fmt.Errorf("%w: content is not of %d bytes", ErrMalformed, a.Size)
		}
	case len(refs) != 0:
		err = fmt.Errorf("%w: a %s with a content", ErrMalformed, a.Type)
	}
	return a, refs, err
}

// directory makes or opens a directory and goes into it.
func (s *restore) directory(key string, j *restoreJob) {
	made, err := s.makeFolder(j)
	var f *folder
	var have seen
	if err == nil {
		f, have, err = j.folder.openFolder(j.name)
	}
	ours := made || s.opt.Policy != KeepExisting && !s.partial(key)
	if err == nil && !made && s.opt.Policy == Overwrite {
		if ours {
			f.letOwnerIn(have)
		}
		err = removeLeftovers(f)
	}
	if err != nil {
		if f != nil {
			f.release()
		}
		s.block(key, j.path, err)
		return
	}
	above := j.folder.hold() // so that what is done last to it is done after what is done last to f
	f.last = func() {
		if ours {
			s.finishFolder(f, j.path, j.attrs)
		}
		above.release()
	}
	s.way = append(s.way, level{key: key, folder: f, fresh: made})
}

// partial reports whether a directory is only on the way to what was asked for.
func (s *restore) partial(key string) bool {
	return slices.ContainsFunc(s.include, func(wanted string) bool { return beneathKey(wanted, key) })
}

// makeFolder makes the directory unless there is one already.
func (s *restore) makeFolder(j *restoreJob) (made bool, err error) {
	err = j.folder.makeFolder(j.name)
	if !errors.Is(err, os.ErrExist) {
		return true, err
	}
	have, err := j.folder.stat(j.name)
	switch {
	case err != nil:
		return false, err
	case have.Type == Directory:
		return false, nil
	case s.opt.Policy == KeepExisting:
		return false, errKept
	case s.opt.Policy == RefuseNonEmpty:
		return false, fmt.Errorf("a %s is in the way", have.Type)
	}
	if err := j.folder.remove(j.name); err != nil {
		return false, err
	}
	return true, j.folder.makeFolder(j.name)
}

// errKept means that the policy keeps what is there.
var errKept = errors.New("kept")

// block notes that a directory cannot be entered.
func (s *restore) block(key, path string, err error) {
	s.blocked = blocked{key: key, reason: err}
	if errors.Is(err, errKept) {
		s.blocked.reason = nil
		s.count(&s.report.Kept, 1)
		return
	}
	s.fail(path, err)
}

func (s *restore) skipBlocked(path string, a Attributes) {
	if s.blocked.reason == nil {
		s.count(&s.report.Kept, 1)
		return
	}
	s.fail(path, fmt.Errorf("its directory is missing: %w", s.blocked.reason))
}

// leave lets go of the directories of the way from a depth on.
func (s *restore) leave(depth int) {
	for i := len(s.way) - 1; i >= depth; i-- {
		s.way[i].folder.release()
	}
	s.way = s.way[:depth]
}

// finishFolder sets a directory's attributes when nothing in it will change any more.
func (s *restore) finishFolder(f *folder, path string, a Attributes) {
	if err := s.setAttributes(f.fd, path, a); err != nil {
		s.fail(path, err)
		return
	}
	s.count(&s.report.Directories, 1)
	s.opt.Events.entry(path, a)
}

func (s *restore) fail(path string, err error) { s.found.add(&s.report.Failed, path, err) }

func (s *restore) count(n *int64, more int64) {
	s.found.mu.Lock()
	defer s.found.mu.Unlock()
	*n += more
}

// maxWarnings bounds the kinds of warnings that are told apart.
const maxWarnings = 100

// warn counts something that could not be restored of a file that is there otherwise.
func (s *restore) warn(path string, err error) {
	s.found.mu.Lock()
	defer s.found.mu.Unlock()
	what := err.Error()
	if s.warnings[what] == nil && len(s.warnings) >= maxWarnings {
		what = "other warnings"
	}
	w := s.warnings[what]
	if w == nil {
		w = &Warning{What: what, First: path}
		s.warnings[what] = w
	}
	w.Count++
	w.First = min(w.First, path)
}
