package probe

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"
)

const (
	manyObjects = 1100 // more than the 1,000 that S3 lists on a page
	atOnce      = 16   // requests on their way, where there are many
)

// lists lists objects right after they were created, and after one was deleted.
func (p *prober) lists(ctx context.Context) (string, error) {
	// In the order of bytes, in which '-' and '.' come before '/', and '0' after it.
	names := p.named("list/", "a-b", "a.b", "a/1", "a/b/c", "a/b0", "a0", "b", "z/9")
	for _, i := range []int{5, 2, 7, 0, 3, 6, 1, 4} {
		if err := p.create(ctx, names[i], written(i, raceBytes)); err != nil {
			return "", err
		}
		if err := p.wantListed(ctx, names[i], names[i]); err != nil {
			return "", err
		}
	}
	folder := p.folder + "list/"
	for _, l := range []struct {
		prefix, startAfter string
		want               []string
	}{
		{folder, "", names},
		{folder + "a/", "", names[2:5]},
		{folder + "a/b", "", names[3:5]},
		{folder, names[1], names[2:]},
		{folder, names[3] + "-", names[4:]},
		{folder, names[7], nil},
	} {
		if err := p.wantList(ctx, l.prefix, l.startAfter, l.want); err != nil {
			return "", err
		}
	}
	if p.stuck {
		return "objects are listed right after they were created, in order; none could be deleted to see that it goes", nil
	}
	if err := p.removeOne(ctx, names[4]); err != nil {
		return "", err
	}
	if err := p.wantList(ctx, folder, "", slices.Delete(slices.Clone(names), 4, 5)); err != nil {
		return "", err
	}
	return "objects are listed as soon as they are created, in order, and no more once they are deleted", nil
}

// names uses every character that a name may have, and names as long and as deep as those of a repository.
func (p *prober) names(ctx context.Context) (string, error) {
	names := p.named("names/",
		"-", "0123456789/abcdefghijklmnopqrstuvwxyz-.0123456789", "a.", "a..b", "a.json", "a/b/c/d/e/f/g", "aa",
		"journal/0000000000000000",
		"keys/"+strings.Repeat("0123456789", 20), "lost/packs/ab/"+strings.Repeat("ab", 32)+"-0123456789ab", "packs/ab/"+strings.Repeat("ab", 32), "varve.json")
	for i, name := range names {
		if err := p.create(ctx, name, written(i, raceBytes)); err != nil {
			return "", err
		}
	}
	got, err := p.listed(ctx, p.folder+"names/", "")
	if err != nil {
		return "", err
	}
	for _, name := range got {
		if !slices.Contains(names, name) {
			return "", seen(NameAltered, "an object is listed as %q, which nobody created", strings.TrimPrefix(name, p.folder))
		}
	}
	for i, name := range names {
		if err := p.wantObject(ctx, name, written(i, raceBytes)); err != nil {
			return "", err
		}
	}
	return "all characters that a repository uses, in names as long as its own", nil
}

// pages lists more objects than one answer of a store can hold.
func (p *prober) pages(ctx context.Context) (string, error) {
	names := make([]string, manyObjects)
	group, groupCtx := errgroup.WithContext(ctx)
	group.SetLimit(atOnce)
	for i := range names {
		names[i] = fmt.Sprintf("%spages/%02x/%06d", p.folder, i>>4, i)
		group.Go(func() error { return p.create(groupCtx, names[i], written(i, 0)) })
	}
	if err := group.Wait(); err != nil {
		return "", err
	}
	for _, from := range []int{0, 50, 1050} {
		after := ""
		if from > 0 {
			after = names[from-1]
		}
		if err := p.wantList(ctx, p.folder+"pages/", after, names[from:]); err != nil {
			return "", err
		}
	}
	return fmt.Sprintf("%d objects are listed whole and in order, also from one in the middle on", manyObjects), nil
}

// wantListed wants an object in a list by its own name.
func (p *prober) wantListed(ctx context.Context, prefix, name string) error {
	got, err := p.listed(ctx, prefix, "")
	if err == nil && !slices.Contains(got, name) {
		err = seen(StaleList, "an object is not listed right after it was created")
	}
	return err
}

func (p *prober) wantList(ctx context.Context, prefix, startAfter string, want []string) error {
	got, err := p.listed(ctx, prefix, startAfter)
	if err != nil {
		return err
	}
	return judgeList(want, got, startAfter)
}

// judgeList says what is wrong with a list. Its order tells most, so that comes first.
func judgeList(want, got []string, startAfter string) error {
	sorted := slices.IsSorted(got)
	in := map[string]int{}
	for _, name := range got {
		in[name]++
	}
	missing := slices.DeleteFunc(slices.Clone(want), func(name string) bool { return in[name] > 0 })
	early, foreign := "", 0
	for _, name := range got {
		switch {
		case in[name] > 1:
			return seen(RepeatedInList, "%d of %d names are listed more than once", len(got)-len(in), len(in))
		case name <= startAfter:
			early = name
		case !slices.Contains(want, name):
			foreign++
		}
	}
	switch {
	case early != "":
		return seen(StartAfterIgnored, "a list that is to begin after a name has names before it")
	case len(missing) > 0 && len(got) >= shortestPage && len(missing)+len(got) == len(want) && slices.Equal(got, want[:len(got)]):
		return seen(TruncatedList, "of %d objects the first %d are listed, and no error says that there are more", len(want), len(got))
	case len(missing) > 0:
		return seen(StaleList, "of %d objects %d are not listed, which were just created", len(want), len(missing))
	case foreign > 0:
		return seen(StaleList, "%d objects are listed that are not there", foreign)
	case !sorted:
		return seen(UnsortedList, "names are not in the order of their bytes")
	}
	return nil
}

// shortestPage is how many names a list has at least that was cut at the end of a page: no store is known
// to give fewer.
const shortestPage = 100

// listed returns the names in a list. One that ends with an error is none.
func (p *prober) listed(ctx context.Context, prefix, startAfter string) ([]string, error) {
	var names []string
	for info, err := range p.bucket.List(ctx, prefix, startAfter) {
		if err != nil {
			return nil, err
		}
		if !strings.HasPrefix(info.Name, prefix) {
			return nil, seen(ForeignInList, "a list has names that do not begin as it was asked for")
		}
		names = append(names, info.Name)
	}
	return names, nil
}

// named puts names beneath the folder of this run.
func (p *prober) named(folder string, names ...string) []string {
	full := make([]string, len(names))
	for i, name := range names {
		full[i] = p.folder + folder + name
	}
	return full
}
