package command

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestRatesNeedAUnit(t *testing.T) {
	for text, want := range map[string]int64{
		"0": 0, "512K": 512 << 10, "10M": 10 << 20, "1.5G": 3 << 29, "10MiB/s": 10 << 20, "10mb": 10 << 20, "1k/s": 1 << 10,
	} {
		var b bandwidth
		if err := b.Set(text); err != nil || int64(b) != want {
			t.Errorf("%q is %d, %v; want %d", text, b, err, want)
		}
	}
	for _, text := range []string{"", "K", "-1M", "1X", "1 M", "inf", "NaN", "1e30K", "99999999T", "/s", "ib"} {
		if err := new(bandwidth).Set(text); err == nil || !strings.Contains(err.Error(), "no rate such as") {
			t.Errorf("%q: %v, want a refusal", text, err)
		}
	}
	for _, text := range []string{"1000", "1024/s", "5b"} {
		if err := new(bandwidth).Set(text); err == nil || !strings.Contains(err.Error(), "has no unit: say") {
			t.Errorf("%q: %v, want to be asked for a unit", text, err)
		}
	}
}

func TestPricesOfAFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "prices.yaml")
	for _, test := range []struct{ text, says string }{
		{"name: ours\ncurrency: EUR\ncreate: 0.5\nmonth: 0.02\n", ""},
		{`{"create": 1}`, ""},
		{"creat: 1\n", "creat"},
		{"create: -1\n", "a price is -1"},
		{"create: much\n", "create"},
	} {
		if err := os.WriteFile(file, []byte(test.text), 0o600); err != nil {
			t.Fatal(err)
		}
		err := new(prices).Set(file)
		if (err == nil) != (test.says == "") || err != nil && !strings.Contains(err.Error(), test.says) {
			t.Errorf("%q: %v, want %q", test.text, err, test.says)
		}
	}
	if err := new(prices).Set("s3-cheap"); err == nil || !strings.Contains(err.Error(), "s3-standard") {
		t.Errorf("an unknown name: %v, want the known ones", err)
	}
}

func TestMoneyIsShownAsFarAsItSaysSomething(t *testing.T) {
	for amount, want := range map[float64]string{0: "$0.00", 12.345: "$12.35", 0.5: "$0.50", 0.0123: "$0.012", 0.000057: "$0.000057", 1e-12: "less than $0.000001"} {
		if got := (&cost{Currency: "USD"}).money(amount); got != want {
			t.Errorf("%v is shown as %s, want %s", amount, got, want)
		}
	}
	if got := (&cost{Currency: "EUR"}).money(1); got != "1.00 EUR" {
		t.Errorf("one euro is shown as %s", got)
	}
}
