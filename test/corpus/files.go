package corpus

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Files counts files and their bytes.
type Files struct {
	Count int
	Bytes int64
}

func (f Files) String() string {
	return fmt.Sprintf("%d files, %d MiB", f.Count, f.Bytes>>20)
}

// epoch is when the volume's history begins.
var epoch = time.Date(2026, time.March, 1, 8, 0, 0, 0, time.UTC)

// WriteFiles fills a folder, which it makes, with the files of a seed: logs, documents, mail, images, a
// database, an archive, a tree of sources, and a corner of everything that is odd but allowed.
func WriteFiles(dir string, seed uint64) (Files, error) {
	if entries, err := os.ReadDir(dir); err == nil && len(entries) > 0 {
		return Files{}, fmt.Errorf("%s is not empty", dir)
	}
	plan := planFiles(seed)
	for _, f := range plan { // parents first, so that the writers need not think of them
		if err := os.MkdirAll(filepath.Join(dir, filepath.Dir(f.path)), 0o755); err != nil {
			return Files{}, err
		}
	}
	made, err := writeAll(dir, seed, plan)
	if err != nil {
		return Files{}, err
	}
	if err := writeOddities(dir); err != nil {
		return Files{}, err
	}
	return made, dateFolders(dir, seed)
}

// A planned file has a place, a length and a kind of content.
type planned struct {
	path    string
	size    int
	content func(*rand.Rand, int) []byte
	mode    fs.FileMode
}

// planFiles lists all regular files of a seed but the oddities.
func planFiles(seed uint64) []planned {
	r := source(seed, "files")
	var all []planned
	add := func(size int, mode fs.FileMode, content func(*rand.Rand, int) []byte, path string, args ...any) {
		all = append(all, planned{fmt.Sprintf(path, args...), size, content, mode})
	}
	between := func(from, to int) int { return from + r.IntN(to-from) }
	for day := range 60 {
		for _, service := range services {
			for node := range 3 {
				add(between(20<<10, 240<<10), 0o640, logText, "logs/%s/%s/node-%d.log", service, epoch.AddDate(0, 0, day).Format("2006-01-02"), node)
			}
		}
	}
	for n := range 9000 {
		add(between(300, 6<<10), 0o644, jsonText, "documents/%02x/%02x/order-%06d.json", n%16, n/16%64, n)
	}
	for n := range 5000 {
		add(between(500, 12<<10), 0o600, mailText, "mail/%s/cur/%d.M%06dP%d.host,S=%d:2,S", nouns[n%40], epoch.Unix()+int64(n)*311, n, 100+n%7, n)
	}
	for n := range 1200 {
		add(between(8<<10, 160<<10), 0o644, chance, "images/%d/IMG_%05d.jpg", n/100, n)
	}
	for n := range 4500 {
		add(between(0, 9<<10), 0o644, sourceText, "src/node_modules/%s-%s/lib/%s/%s_%d.js", nouns[n%60], nouns[n/60%30], nouns[n%13], nouns[n%70], n)
	}
	for n := range 4 {
		add(48<<20, 0o600, pages, "database/base/16384/%d", 24576+n)
	}
	for n := range 24 {
		add(1<<20, 0o600, chance, "database/pg_wal/0000000100000000%08X", n)
	}
	add(64<<20, 0o644, chance, "archive/2025 annual report (final).tar.zst")
	add(24<<20, 0o444, logText, "archive/export.csv")
	return all
}

// writeAll writes files on all processors.
func writeAll(dir string, seed uint64, plan []planned) (Files, error) {
	queue := make(chan planned)
	failures := make(chan error, runtime.NumCPU())
	var writers sync.WaitGroup
	for range runtime.NumCPU() {
		writers.Go(func() {
			var failed error
			for f := range queue {
				if failed == nil {
					failed = write(dir, seed, f)
				}
			}
			failures <- failed
		})
	}
	var made Files
	for _, f := range plan {
		made.Count++
		made.Bytes += int64(f.size)
		queue <- f
	}
	close(queue)
	writers.Wait()
	close(failures)
	var failed error
	for err := range failures {
		failed = errors.Join(failed, err)
	}
	return made, failed
}

func write(dir string, seed uint64, f planned) error {
	r := source(seed, f.path)
	path := filepath.Join(dir, f.path)
	if err := os.WriteFile(path, f.content(r, f.size), 0o600); err != nil {
		return err
	}
	if err := own(path, r.IntN(3)); err != nil {
		return err
	}
	if err := os.Chmod(path, f.mode); err != nil { // not by WriteFile, which would heed the umask
		return err
	}
	when := moment(r)
	return os.Chtimes(path, when, when)
}

// own gives a file to one of the users that the workloads of a cluster run as, if we may.
func own(path string, user int) error {
	if os.Geteuid() != 0 {
		return nil
	}
	return os.Lchown(path, 10000+user, 10001)
}

// moment is a time of the volume's history, to the nanosecond.
func moment(r *rand.Rand) time.Time {
	return epoch.Add(time.Duration(r.Int64N(int64(200 * 24 * time.Hour))))
}

// writeOddities makes what is allowed in a folder and easily forgotten.
func writeOddities(dir string) error {
	odd := filepath.Join(dir, "odd")
	deep := filepath.Join(append([]string{odd, "deep"}, slices.Repeat([]string{"and deeper"}, 40)...)...)
	for _, path := range []string{deep, filepath.Join(odd, "empty folder"), filepath.Join(odd, "shared"), filepath.Join(odd, "locked")} {
		if err := os.MkdirAll(path, 0o755); err != nil {
			return err
		}
	}
	for name, mode := range map[string]fs.FileMode{
		"empty": 0o644, "read-only": 0o400, "executable": 0o755, "everybody's": 0o666,
		"runs-as-owner": 0o755 | fs.ModeSetuid, "runs-as-group": 0o755 | fs.ModeSetgid,
		"name with spaces ": 0o644, "-rf": 0o644, "quote'\"and\\backslash": 0o644, "line\nbreak": 0o644, "tab\there": 0o644,
		"Größe": 0o644, "日本語のファイル": 0o644, "🗻": 0o644, "e\u0301 decomposed": 0o644, "é composed": 0o644,
		"not utf-8 \xff\xfe": 0o644, ".hidden": 0o600, "...": 0o644, "~": 0o644, "*?[a-z]": 0o644, "$HOME": 0o644,
		strings.Repeat("long", 63): 0o644, "deep/" + strings.Repeat("and deeper/", 40) + "leaf": 0o644,
	} {
		content := name
		if name == "empty" {
			content = ""
		}
		path := filepath.Join(odd, filepath.FromSlash(name))
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			return err
		}
		if err := own(path, 2); err != nil {
			return err
		}
		if err := os.Chmod(path, mode); err != nil { // after own, which takes the set-user-id bit away
			return err
		}
		if err := os.Chtimes(path, epoch, epoch.Add(123456789)); err != nil {
			return err
		}
	}
	for name, target := range map[string]string{
		"link": "empty", "link up": "../documents", "link to nowhere": "no/such/file", "link to root": "/",
		"link to itself": "link to itself", "lïnk": "Größe",
	} {
		link := filepath.Join(odd, name)
		if err := os.Symlink(target, link); err != nil {
			return err
		}
		if err := own(link, 1); err != nil {
			return err
		}
	}
	if err := os.Truncate(filepath.Join(odd, "everybody's"), 1<<20); err != nil { // a hole at the end
		return err
	}
	if err := os.Chmod(filepath.Join(odd, "shared"), 0o777|fs.ModeSticky); err != nil {
		return err
	}
	return os.Chmod(filepath.Join(odd, "locked"), 0o500)
}

// dateFolders gives all folders a time of their own. It comes last, since whatever is made in a folder
// changes its time.
func dateFolders(dir string, seed uint64) error {
	return filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.IsDir() {
			return err
		}
		name, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		when := moment(source(seed, "folder", name))
		return os.Chtimes(path, when, when)
	})
}

// logText returns lines of a log.
func logText(r *rand.Rand, size int) []byte {
	b := make([]byte, 0, size+256)
	when := moment(r)
	for len(b) < size {
		when = when.Add(time.Duration(r.Int64N(int64(time.Second))))
		b = when.AppendFormat(b, "2006-01-02T15:04:05.000Z")
		b = append(b, " INFO request id="...)
		b = strconv.AppendUint(b, r.Uint64(), 16)
		b = append(b, " path=/"...)
		b = append(b, noun(r)...)
		b = append(b, '/')
		b = strconv.AppendInt(b, int64(r.IntN(100000)), 10)
		b = append(b, " status=200 user="...)
		b = append(b, noun(r)...)
		b = append(b, " duration_ms="...)
		b = strconv.AppendInt(b, int64(r.IntN(2000)), 10)
		b = append(b, '\n')
	}
	return b[:size]
}

// jsonText returns a document, cut at its size.
func jsonText(r *rand.Rand, size int) []byte {
	b := append(make([]byte, 0, size+128), "{\n"...)
	for len(b) < size-2 {
		b = append(b, `  "`...)
		b = append(append(append(b, noun(r)...), '_'), noun(r)...)
		b = append(append(append(b, `": "`...), noun(r)...), "-"...)
		b = strconv.AppendInt(b, int64(r.IntN(1e6)), 10)
		b = append(b, "\",\n"...)
	}
	return append(b[:size-2], "}\n"...)
}

// mailText returns a message with a body of words.
func mailText(r *rand.Rand, size int) []byte {
	b := fmt.Appendf(make([]byte, 0, size+128), "From: %s@example.com\nTo: %s@example.com\nSubject: %s %s\n\n", noun(r), noun(r), noun(r), noun(r))
	return words(r, b, size)
}

// sourceText returns what a program's text compresses like.
func sourceText(r *rand.Rand, size int) []byte {
	b := append(make([]byte, 0, size+128), "'use strict';\n"...)
	for len(b) < size {
		b = fmt.Appendf(b, "exports.%s = function (%s, %s) {\n  return %s(%s.%s, %d);\n};\n", noun(r), noun(r), noun(r), noun(r), noun(r), noun(r), r.IntN(100))
	}
	return b[:size]
}

func words(r *rand.Rand, b []byte, size int) []byte {
	for line := len(b); len(b) < size; {
		b = append(append(b, noun(r)...), ' ')
		if len(b)-line > 70 {
			b = append(b, '\n')
			line = len(b)
		}
	}
	return b[:size]
}

// pageSize is that of the database's files.
const pageSize = 8 << 10

// pages returns a file of a database: pages with a header, some rows of text, and empty space.
func pages(r *rand.Rand, size int) []byte {
	b := make([]byte, size)
	for start := 0; start+pageSize <= size; start += pageSize {
		fillPage(r, b[start:start+pageSize], uint32(start/pageSize))
	}
	return b
}

func fillPage(r *rand.Rand, page []byte, number uint32) {
	clear(page)
	binary.LittleEndian.PutUint64(page, r.Uint64())
	binary.LittleEndian.PutUint32(page[8:], number)
	rows := words(r, nil, 2500+r.IntN(2000))
	for i := 0; i+16 < len(rows); i += 100 {
		binary.LittleEndian.PutUint64(rows[i:], r.Uint64()) // keys and numbers do not compress
	}
	copy(page[pageSize-len(rows):], rows)
}
