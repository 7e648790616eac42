package command

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"

	"sigs.k8s.io/yaml"

	"github.com/varve-dev/varve/repo/storage/meter"
)

// prices is a flag for what a store takes: a name, a file, or nothing for what the URL tells.
type prices struct {
	word  string
	named *meter.Prices // nil: by the URL
}

// String implements pflag.Value.
func (p *prices) String() string { return p.word }

// Type implements pflag.Value.
func (p *prices) Type() string { return "NAME|FILE" }

func (p *prices) choices() []string {
	names := []string{noPrices}
	for _, known := range meter.KnownPrices() {
		names = append(names, known.Name)
	}
	return names
}

// noPrices names no prices.
const noPrices = "none"

// maxPrices is far more than a file of prices needs.
const maxPrices = 64 << 10

// Set implements pflag.Value.
func (p *prices) Set(s string) error {
	if known, ok := meter.PricesNamed(s); ok || s == noPrices {
		p.word, p.named = s, &known
		return nil
	}
	info, err := os.Stat(s)
	if errors.Is(err, fs.ErrNotExist) && !strings.ContainsAny(s, "./") {
		return fmt.Errorf("there are %s, or a file", strings.Join(p.choices(), ", "))
	}
	if err == nil && (!info.Mode().IsRegular() || info.Size() > maxPrices) {
		err = fmt.Errorf("%s is no file of prices", s)
	}
	if err != nil {
		return err
	}
	text, err := os.ReadFile(s)
	if err != nil {
		return err
	}
	own := meter.Prices{Name: s, Currency: "USD"}
	if err := yaml.UnmarshalStrict(text, &own); err != nil {
		return fmt.Errorf("%s: %w", s, err)
	}
	for _, price := range []float64{own.Create, own.Get, own.List, own.Delete, own.Read, own.Month} {
		if !(price >= 0 && price < 1e6) {
			return fmt.Errorf("%s: a price is %v", s, price)
		}
	}
	p.word, p.named = s, &own
	return nil
}

// at returns the prices of a repository's store, unless there are none.
func (p *prices) at(url string) (meter.Prices, bool) {
	if p.named != nil {
		return *p.named, p.named.Name != ""
	}
	return meter.PricesAt(url)
}

// cost is an estimate of what a store takes.
type cost struct {
	Prices   string   `json:"prices"`
	Currency string   `json:"currency"`
	Requests *float64 `json:"requests,omitempty"`
	Month    float64  `json:"month"` // for what is stored, a month
}

// costOf estimates what requests cost, nil for none that are known, and so many bytes a month. Without prices it is nil.
func (s *session) costOf(requests *meter.Counts, stored int64) *cost {
	if !s.priced {
		return nil
	}
	p := s.prices
	c := &cost{Prices: p.Name, Currency: p.Currency, Month: p.Stored(stored)}
	if requests != nil {
		sum := p.Requests(*requests)
		c.Requests = &sum
	}
	return c
}

// row shows a cost, if there is one.
func (c *cost) row(t *sheet) {
	if c == nil {
		return
	}
	text := c.money(c.Month) + " a month for space"
	if c.Requests != nil {
		text = c.money(*c.Requests) + " for requests, and " + text
	}
	t.row("Cost:", text+", by the prices of "+name(c.Prices))
}

// money shows an amount to two digits that say something, at least to the cent and at most to a millionth.
func (c *cost) money(amount float64) string {
	const least = 1e-6
	prefix := ""
	if amount > 0 && amount < least {
		prefix, amount = "less than ", least
	}
	decimals := 2
	for step := 0.1; amount > 0 && amount < step && decimals < 6; step /= 10 {
		decimals++
	}
	text := strconv.FormatFloat(amount, 'f', decimals, 64)
	if c.Currency == "USD" {
		return prefix + "$" + text
	}
	return prefix + text + " " + name(c.Currency)
}
