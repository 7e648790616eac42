package command

import (
	"context"
	"os"

	"github.com/varve-dev/varve/repo/storage/dial"
)

// storeCredentials are the keys to Azure that its own command line takes from the environment; the
// provider's library does not look there. Those of the others are found by their libraries.
func storeCredentials(context.Context) (dial.Credentials, error) {
	return dial.Credentials{
		Account:    os.Getenv("AZURE_STORAGE_ACCOUNT"),
		AccountKey: os.Getenv("AZURE_STORAGE_KEY"),
		SAS:        os.Getenv("AZURE_STORAGE_SAS_TOKEN"),
	}, nil
}
