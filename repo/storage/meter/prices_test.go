package meter

import (
	"fmt"
	"math"
	"os"
	"strings"
	"testing"
)

func TestPricesOfRequestsAndSpace(t *testing.T) {
	p := Prices{Create: 5, Get: 3, List: 2, Delete: 1, Read: 0.25, Month: 0.5}
	c := Counts{Create: 1000, Get: 2000, Stat: 1000, List: 500, Delete: 3000, BytesUp: 1 << 40, BytesDown: 4 << 30}
	if got := p.Requests(c); math.Abs(got-(5+9+1+3+1)) > 1e-9 {
		t.Errorf("requests cost %v, want 19", got)
	}
	if got := p.Stored(3 << 29); math.Abs(got-0.75) > 1e-9 {
		t.Errorf("1.5 GiB cost %v a month, want 0.75", got)
	}
}

func TestPricesAreFoundByURL(t *testing.T) {
	for url, want := range map[string]string{
		"s3://bucket/prefix":                        "s3-standard",
		"s3://bucket?region=eu-west-1":              "s3-standard",
		"s3://bucket?storage_class=STANDARD_IA":     "s3-standard-ia",
		"s3://bucket?storage_class=GLACIER_IR":      "s3-glacier-ir",
		"s3://bucket?storage_class=ONEZONE_IA":      "s3-onezone-ia",
		"s3://bucket?storage_class=EXPRESS":         "",
		"s3://bucket?endpoint=http://minio.example": "",
		"gs://bucket":                       "gcs-standard",
		"gs://bucket?storage_class=ARCHIVE": "",
		"azblob://container?account=a":      "",
		"dir:///srv/backups":                "",
		"/srv/backups":                      "",
		"./a%zz":                            "",
	} {
		if got, ok := PricesAt(url); got.Name != want || ok != (want != "") {
			t.Errorf("%s has the prices %q, want %q", url, got.Name, want)
		}
	}
}

func TestPricesAreThoseOfTheDocuments(t *testing.T) {
	page, err := os.ReadFile("../../../docs/operations/costs.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range KnownPrices() {
		row := fmt.Sprintf("| `%s` | %v | %v | %v | %v | %v | %v |", p.Name, p.Create, p.Get, p.List, p.Delete, p.Read, p.Month)
		if !strings.Contains(string(page), row) {
			t.Errorf("docs/operations/costs.md has no row %s", row)
		}
	}
}
