package meter

import (
	"cmp"
	"net/url"
	"slices"
	"strings"
)

// Prices are what a store takes for requests and for space. They are list prices without free allowances and
// discounts, and without what the network costs, which depends on where the other end is. docs/operations/costs.md
// tells where the known ones are from.
type Prices struct {
	Name     string  `json:"name"`
	Currency string  `json:"currency"`
	Create   float64 `json:"create"` // for 1,000 requests, as are the next three
	Get      float64 `json:"get"`    // and stat
	List     float64 `json:"list"`
	Delete   float64 `json:"delete"`
	Read     float64 `json:"read"`  // for a GiB that is read
	Month    float64 `json:"month"` // for a GiB that is stored for a month
}

// KnownPrices returns the prices that have a name.
func KnownPrices() []Prices {
	return []Prices{
		{"s3-standard", "USD", 0.005, 0.0004, 0.005, 0, 0, 0.023},
		{"s3-standard-ia", "USD", 0.01, 0.001, 0.01, 0, 0.01, 0.0125},
		{"s3-onezone-ia", "USD", 0.01, 0.001, 0.01, 0, 0.01, 0.01},
		{"s3-glacier-ir", "USD", 0.02, 0.01, 0.02, 0, 0.03, 0.004},
		{"gcs-standard", "USD", 0.005, 0.0004, 0.005, 0, 0, 0.02},
	}
}

// PricesNamed returns the known prices of a name.
func PricesNamed(name string) (Prices, bool) {
	known := KnownPrices()
	i := slices.IndexFunc(known, func(p Prices) bool { return p.Name == name })
	if i < 0 {
		return Prices{}, false
	}
	return known[i], true
}

// PricesAt returns the prices of the store that a repository's URL names, if they are known: those of the provider,
// and none where another endpoint is named, since that is somebody else's store.
func PricesAt(location string) (Prices, bool) {
	u, err := url.Parse(location)
	if err != nil || u.Query().Get("endpoint") != "" {
		return Prices{}, false
	}
	class := strings.ReplaceAll(strings.ToLower(cmp.Or(u.Query().Get("storage_class"), "standard")), "_", "-")
	switch u.Scheme {
	case "s3":
		return PricesNamed("s3-" + class)
	case "gs":
		return PricesNamed("gcs-" + class)
	}
	return Prices{}, false
}

const gib = 1 << 30

// Requests returns what requests cost, and what they read.
func (p Prices) Requests(c Counts) float64 {
	thousands := float64(c.Create)*p.Create + float64(c.Get+c.Stat)*p.Get + float64(c.List)*p.List + float64(c.Delete)*p.Delete
	return thousands/1000 + float64(c.BytesDown)/gib*p.Read
}

// Stored returns what it costs to keep so many bytes for a month.
func (p Prices) Stored(bytes int64) float64 { return float64(bytes) / gib * p.Month }
