package probe

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"iter"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/varve-dev/varve/repo/storage"
	"github.com/varve-dev/varve/repo/storage/mem"
)

// liar is a bucket in memory that does some requests in its own way.
type liar struct {
	*mem.Bucket
	create func(ctx context.Context, name string, data []byte) error
	get    func(ctx context.Context, name string, offset, length int64) ([]byte, error)
	stat   func(ctx context.Context, name string) (storage.Info, error)
	list   func(ctx context.Context, prefix, startAfter string) iter.Seq2[storage.Info, error]
	remove func(ctx context.Context, name string) error
}

func (l *liar) Create(ctx context.Context, name string, data []byte) error {
	if l.create != nil {
		return l.create(ctx, name, data)
	}
	return l.Bucket.Create(ctx, name, data)
}

func (l *liar) Get(ctx context.Context, name string, offset, length int64) ([]byte, error) {
	if l.get != nil {
		return l.get(ctx, name, offset, length)
	}
	return l.Bucket.Get(ctx, name, offset, length)
}

func (l *liar) Stat(ctx context.Context, name string) (storage.Info, error) {
	if l.stat != nil {
		return l.stat(ctx, name)
	}
	return l.Bucket.Stat(ctx, name)
}

func (l *liar) List(ctx context.Context, prefix, startAfter string) iter.Seq2[storage.Info, error] {
	if l.list != nil {
		return l.list(ctx, prefix, startAfter)
	}
	return l.Bucket.List(ctx, prefix, startAfter)
}

func (l *liar) Delete(ctx context.Context, name string) error {
	if l.remove != nil {
		return l.remove(ctx, name)
	}
	return l.Bucket.Delete(ctx, name)
}

// lie makes a liar and tells it how to lie.
func lie(how func(l *liar)) func() storage.Bucket {
	return func() storage.Bucket {
		l := &liar{Bucket: mem.New()}
		how(l)
		return l
	}
}

// overwrites takes every create of at least that many bytes for an update.
func overwrites(least int) func(l *liar) {
	return func(l *liar) {
		l.create = func(ctx context.Context, name string, data []byte) error {
			if len(data) >= least {
				return l.Put(name, data)
			}
			return l.Bucket.Create(ctx, name, data)
		}
	}
}

// letsTwoWin looks and then writes, so that in one race of several a second writer comes in between.
func letsTwoWin(l *liar) {
	var mu sync.Mutex
	creators := 0
	l.create = func(ctx context.Context, name string, data []byte) error {
		if strings.Contains(name, "/race/1-") {
			mu.Lock()
			defer mu.Unlock()
			if creators++; creators == 2 {
				return l.Put(name, data)
			}
		}
		return l.Bucket.Create(ctx, name, data)
	}
}

// forgetsWinners knows only for a moment who has won.
func forgetsWinners(l *liar) {
	var mu sync.Mutex
	creates := map[string]int{}
	l.create = func(ctx context.Context, name string, data []byte) error {
		mu.Lock()
		defer mu.Unlock()
		if creates[name]++; creates[name] > writers {
			return l.Put(name, data)
		}
		return l.Bucket.Create(ctx, name, data)
	}
}

// writesRefused says that the name is taken and writes all the same.
func writesRefused(l *liar) {
	l.create = func(ctx context.Context, name string, data []byte) error {
		err := l.Bucket.Create(ctx, name, data)
		if errors.Is(err, storage.ErrExists) {
			_ = l.Put(name, data)
		}
		return err
	}
}

// settlesLate lets the last of the refused win after two seconds.
func settlesLate(l *liar) {
	var mu sync.Mutex
	refused, at := map[string][]byte{}, map[string]time.Time{}
	l.create = func(ctx context.Context, name string, data []byte) error {
		err := l.Bucket.Create(ctx, name, data)
		mu.Lock()
		defer mu.Unlock()
		if errors.Is(err, storage.ErrExists) && strings.Contains(name, "/race/") {
			refused[name], at[name] = bytes.Clone(data), time.Now()
		}
		return err
	}
	l.get = func(ctx context.Context, name string, offset, length int64) ([]byte, error) {
		mu.Lock()
		defer mu.Unlock()
		if data := refused[name]; data != nil && time.Since(at[name]) > 2*time.Second {
			return data, nil
		}
		return l.Bucket.Get(ctx, name, offset, length)
	}
}

// refusesAll lets nobody win who has company.
func refusesAll(l *liar) {
	l.create = func(ctx context.Context, name string, data []byte) error {
		if strings.Contains(name, "/race/") {
			return storage.ErrExists
		}
		return l.Bucket.Create(ctx, name, data)
	}
}

// lags shows an object only some time after it was made.
func lags(l *liar) {
	l.get = func(ctx context.Context, name string, offset, length int64) ([]byte, error) {
		if info, err := l.Bucket.Stat(ctx, name); err == nil && time.Since(info.ModTime) < time.Second {
			return nil, storage.ErrNotFound
		}
		return l.Bucket.Get(ctx, name, offset, length)
	}
}

// remembersAbsence answers from a cache what it once did not find.
func remembersAbsence(l *liar) {
	var absent sync.Map
	l.get = func(ctx context.Context, name string, offset, length int64) ([]byte, error) {
		if _, known := absent.Load(name); known {
			return nil, storage.ErrNotFound
		}
		data, err := l.Bucket.Get(ctx, name, offset, length)
		if errors.Is(err, storage.ErrNotFound) {
			absent.Store(name, true)
		}
		return data, err
	}
}

// remembersObjects answers from a cache what it once found.
func remembersObjects(l *liar) {
	type request struct {
		name           string
		offset, length int64
	}
	var cache sync.Map
	l.get = func(ctx context.Context, name string, offset, length int64) ([]byte, error) {
		if data, known := cache.Load(request{name, offset, length}); known {
			return data.([]byte), nil
		}
		data, err := l.Bucket.Get(ctx, name, offset, length)
		if err == nil {
			cache.Store(request{name, offset, length}, data)
		}
		return data, err
	}
}

// relists changes what is listed.
func relists(change func(infos []storage.Info) []storage.Info) func(l *liar) {
	return func(l *liar) {
		l.list = func(ctx context.Context, prefix, startAfter string) iter.Seq2[storage.Info, error] {
			return answer(change(infosOf(l.Bucket.List(ctx, prefix, startAfter))))
		}
	}
}

func infosOf(list iter.Seq2[storage.Info, error]) (infos []storage.Info) {
	for info := range list {
		infos = append(infos, info)
	}
	return infos
}

func answer(infos []storage.Info) iter.Seq2[storage.Info, error] {
	return func(yield func(storage.Info, error) bool) {
		for _, info := range infos {
			if !yield(info, nil) {
				return
			}
		}
	}
}

func truncated(infos []storage.Info) []storage.Info { return infos[:min(len(infos), 1000)] }

func unsorted(infos []storage.Info) []storage.Info {
	slices.SortFunc(infos, func(a, b storage.Info) int { // by letters and digits, as people do
		plain := strings.NewReplacer("-", "", ".", "", "/", "")
		return strings.Compare(plain.Replace(a.Name), plain.Replace(b.Name))
	})
	return infos
}

func repeated(infos []storage.Info) []storage.Info {
	if len(infos) > 1 {
		infos = slices.Insert(infos, 1, infos[0])
	}
	return infos
}

func recentLeftOut(infos []storage.Info) []storage.Info {
	return slices.DeleteFunc(infos, func(i storage.Info) bool { return time.Since(i.ModTime) < time.Second })
}

// listsFrom changes what a list is asked for.
func listsFrom(change func(prefix, startAfter string) (string, string)) func(l *liar) {
	return func(l *liar) {
		l.list = func(ctx context.Context, prefix, startAfter string) iter.Seq2[storage.Info, error] {
			return l.Bucket.List(ctx, firstOf(change(prefix, startAfter)), secondOf(change(prefix, startAfter)))
		}
	}
}

func firstOf(a, _ string) string  { return a }
func secondOf(_, b string) string { return b }

// listsDeleted still lists what was deleted a moment ago.
func listsDeleted(l *liar) {
	var mu sync.Mutex
	var deleted []storage.Info
	l.remove = func(ctx context.Context, name string) error {
		if info, err := l.Bucket.Stat(ctx, name); err == nil {
			mu.Lock()
			deleted = append(deleted, info)
			mu.Unlock()
		}
		return l.Bucket.Delete(ctx, name)
	}
	l.list = func(ctx context.Context, prefix, startAfter string) iter.Seq2[storage.Info, error] {
		infos := infosOf(l.Bucket.List(ctx, prefix, startAfter))
		mu.Lock()
		defer mu.Unlock()
		for _, info := range deleted {
			if strings.HasPrefix(info.Name, prefix) && info.Name > startAfter {
				infos = append(infos, info)
			}
		}
		slices.SortFunc(infos, func(a, b storage.Info) int { return strings.Compare(a.Name, b.Name) })
		return answer(infos)
	}
}

// reads changes what is asked for.
func reads(change func(offset, length int64) (int64, int64)) func(l *liar) {
	return func(l *liar) {
		l.get = func(ctx context.Context, name string, offset, length int64) ([]byte, error) {
			if offset != 0 || length >= 0 {
				offset, length = change(offset, length)
			}
			return l.Bucket.Get(ctx, name, offset, length)
		}
	}
}

// refusesTheEnd answers a range past the end as HTTP does, with an error.
func refusesTheEnd(l *liar) {
	l.get = func(ctx context.Context, name string, offset, length int64) ([]byte, error) {
		data, err := l.Bucket.Get(ctx, name, offset, length)
		if err == nil && offset > 0 && len(data) == 0 {
			err = errors.New("416 Range Not Satisfiable")
		}
		return data, err
	}
}

// stores changes what is stored.
func stores(change func(name string, data []byte) (string, []byte)) func(l *liar) {
	return func(l *liar) {
		l.create = func(ctx context.Context, name string, data []byte) error {
			storedName, storedData := change(name, bytes.Clone(data))
			return l.Bucket.Create(ctx, storedName, storedData)
		}
	}
}

func shortened(most int) func(name string, data []byte) (string, []byte) {
	return func(name string, data []byte) (string, []byte) { return name, data[:min(len(data), most)] }
}

func inverted(name string, data []byte) (string, []byte) {
	for i, b := range data {
		if b == '\n' { // as a transfer in text mode does
			data[i] = ' '
		}
	}
	return name, data
}

// dotless drops dots at the ends of names, as Windows does, when it stores and not when it is asked.
func dotless(name string, data []byte) (string, []byte) { return strings.TrimRight(name, "."), data }

func deletesNothing(l *liar) {
	l.remove = func(context.Context, string) error { return nil }
}

func mayNotDelete(l *liar) {
	l.remove = func(context.Context, string) error { return fs.ErrPermission }
}

func missesAbsent(l *liar) {
	l.remove = func(ctx context.Context, name string) error {
		if _, err := l.Bucket.Stat(ctx, name); err != nil {
			return errors.New("404 NoSuchKey")
		}
		return l.Bucket.Delete(ctx, name)
	}
}

func withClock(now func() time.Time) func() storage.Bucket {
	return func() storage.Bucket { return mem.NewWithClock(now) }
}

// kept is a bucket that tells how it keeps its objects.
type kept struct {
	*mem.Bucket
	versions, locks bool
	retention       time.Duration
}

func (k kept) Versioning(context.Context) (bool, error) { return k.versions, nil }
func (k kept) ObjectLock(context.Context) (bool, time.Duration, error) {
	return k.locks, k.retention, nil
}
