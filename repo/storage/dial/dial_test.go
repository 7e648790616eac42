package dial

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/varve-dev/varve/repo/storage"
)

func TestOpenFolder(t *testing.T) {
	base := t.TempDir()
	// Where the system's own temporary folder is a link, the current folder has another name.
	base, err := filepath.EvalSymlinks(base)
	if err != nil {
		t.Fatal(err)
	}
	here := filepath.Join(base, "here")
	if err := os.Mkdir(here, 0o700); err != nil {
		t.Fatal(err)
	}
	t.Chdir(here)
	for url, want := range map[string]string{
		base + "/a":            base + "/a",
		"dir://" + base + "/b": base + "/b",
		"DIR://" + base + "/B": base + "/B",
		"./c":                  here + "/c",
		"../d":                 base + "/d",
		"dir://e":              here + "/e",
		"dir://./f":            here + "/f",
		"dir://../g":           base + "/g",
		".":                    here,
		"..":                   base,
		base + "/h/../i":       base + "/i",
		"./a b%20?c#d@e":       here + "/a b%20?c#d@e",
		base + "/x://y":        base + "/x:/y",
	} {
		if url != "." && url != ".." {
			if _, err := Open(t.Context(), url, Options{}); !errors.Is(err, storage.ErrNoBucket) || !strings.Contains(err.Error(), want) {
				t.Errorf("Open(%q) of a missing folder = %v, want ErrNoBucket with the path", url, err)
			}
		}
		b, err := Open(t.Context(), url, Options{Create: true})
		if err != nil {
			t.Errorf("Open(%q): %v", url, err)
			continue
		}
		if b.String() != "dir://"+want {
			t.Errorf("Open(%q) opened %s, want dir://%s", url, b, want)
		}
		again, err := Open(t.Context(), b.String(), Options{})
		if err != nil || again.String() != b.String() {
			t.Errorf("Open(%q) = %v, %v; a bucket's own URL must open it", b, again, err)
		}
		if err := b.Create(t.Context(), "varve.json", nil); err != nil {
			t.Errorf("Create in %s: %v", b, err)
		}
	}
}

func TestOpenRefuses(t *testing.T) {
	t.Chdir(t.TempDir())
	for _, test := range []struct{ url, says string }{
		{"", "empty"},
		{"dir://", "without a path"},
		{"./a\x00b", "NUL"},
		{"mem://", "mem://"},
		{"file:///srv/backups", "file://"},
		{"s3:bucket", "neither"},
		{"backups", "neither"},
		{"backups/here", "neither"},
		{"~/backups", "neither"},
		{"~root://x", "neither"},
		{"://x", "neither"},
	} {
		_, err := Open(t.Context(), test.url, Options{Create: true})
		if !errors.Is(err, ErrBadURL) || !strings.Contains(err.Error(), test.says) || !strings.Contains(err.Error(), forms) {
			t.Errorf("Open(%q) = %v, want ErrBadURL that says %q", test.url, err, test.says)
		}
	}
	if made, err := os.ReadDir("."); err != nil || len(made) > 0 {
		t.Errorf("made %v, %v", made, err)
	}
}

func TestOpenRefusesBadBuckets(t *testing.T) {
	for _, test := range []struct{ url, says string }{
		{"s3://", "name of a bucket"},
		{"gs:///prefix", "name of a bucket"},
		{"s3://127.0.0.1:9000/bucket", "endpoint"},
		{"S3://bucket?regoin=eu-central-1", "region"},
		{"s3://key:topsecret@bucket", "credentials"},
		{"gs://bucket?region=x", "has anonymous, ca"},
		{"s3://bucket?endpoint=minio:9000", "https://host:port"},
		{"s3://bucket?endpoint=https://key:topsecret@minio", "must not hold credentials"},
		{"s3://bucket?path_style=maybe", "true or false"},
		{"s3://bucket?checksum=sha1", "crc32c, md5, none"},
		{"s3://bucket?region=", "one value"},
		{"s3://bucket?region=a&region=b", "one value"},
		{"s3://bucket?a=%zz", "malformed"},
		{"s3://bucket/a/../b", ".."},
		{"s3://bucket/a//b", "empty part"},
		{"s3://bucket/a%00b", "control characters"},
		{"s3://bucket?ca=/no/such/file", "no such file"},
		{"s3://bucket?anonymous=true&credentials=/x", "exclude"},
		{"azblob://container", "account"},
	} {
		_, err := Open(t.Context(), test.url, Options{})
		if !errors.Is(err, ErrBadURL) || !strings.Contains(err.Error(), test.says) || strings.Contains(err.Error(), "topsecret") {
			t.Errorf("Open(%q) = %v, want ErrBadURL that says %q and no secret", test.url, err, test.says)
		}
	}
}

// A bucket's own URL opens it, and two spellings of one place are one.
func TestOpenBucket(t *testing.T) {
	for url, want := range map[string]string{
		"s3://bucket":                            "s3://bucket",
		"S3://bucket/":                           "s3://bucket",
		"s3://bucket/a/b/?region=r&path_style=1": "s3://bucket/a/b?path_style=1&region=r",
		"s3://bucket/a b?endpoint=http://h:1":    "s3://bucket/a%20b?endpoint=http%3A%2F%2Fh%3A1",
		"gs://bucket/x?anonymous=true":           "gs://bucket/x?anonymous=true",
		"azblob://c/x?anonymous=true&account=a":  "azblob://c/x?account=a&anonymous=true",
	} {
		b, err := Open(t.Context(), url, Options{})
		if err != nil {
			t.Errorf("Open(%q): %v", url, err)
			continue
		}
		again, err := Open(t.Context(), b.String(), Options{})
		if err != nil || b.String() != want || again.String() != want {
			t.Errorf("Open(%q) is %s, want %s; and again %v, %v", url, b, want, again, err)
		}
		if err := errors.Join(b.Close(), again.Close()); err != nil {
			t.Error(err)
		}
	}
}

func TestErrorsShowNoSecrets(t *testing.T) {
	for _, url := range []string{
		"s3://AKIA:topsecret@host/bucket", "s3://bucket?secret=topsecret", "AKIA:topsecret@host/bucket", "topsecret", "topsecret@host",
		"user-topsecret-token-of-some-length://x", "a:topsecret://x", "s3:topsecret",
	} {
		if _, err := Open(t.Context(), url, Options{}); err == nil || strings.Contains(err.Error(), "topsecret") {
			t.Errorf("Open(%q) = %v", url, err)
		}
	}
}

func TestOpenWithCancelledContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	path := filepath.Join(t.TempDir(), "new")
	if _, err := Open(ctx, path, Options{Create: true}); !errors.Is(err, context.Canceled) {
		t.Errorf("Open = %v, want context.Canceled", err)
	}
	if _, err := os.Stat(path); err == nil {
		t.Error("a cancelled Open made the folder")
	}
}

func FuzzFolderPath(f *testing.F) {
	for _, url := range []string{"", "/a", "./a", "dir:///a", "s3://k:topsecret@b", "a"} {
		f.Add(url)
	}
	f.Fuzz(func(t *testing.T, url string) {
		path, err := folderPath(url)
		if (err == nil) == (path == "") || strings.Contains(path, "\x00") {
			t.Errorf("folderPath(%q) = %q, %v", url, path, err)
		}
		if err == nil && !strings.HasSuffix(url, path) {
			t.Errorf("folderPath(%q) = %q, not as it stands", url, path)
		}
		const secret = "x7QwT0pSeCrEt"
		for _, hidden := range []string{url + secret, url + "://" + secret, secret + url, secret + "://" + url} {
			if _, err := folderPath(hidden); err != nil && strings.Contains(err.Error(), secret) {
				t.Errorf("%q: the error shows what may be a secret: %v", hidden, err)
			}
		}
	})
}
