package probe

// Fault is a way of misbehaving that some stores are known for.
type Fault string

// The faults.
const (
	ConditionUnsupported  Fault = "condition-unsupported"
	ConditionIgnored      Fault = "condition-ignored"
	LargeConditionIgnored Fault = "large-condition-ignored"
	TwoWinners            Fault = "two-winners"
	WinnerReplaced        Fault = "winner-replaced"
	RefusedAndWritten     Fault = "refused-and-written"
	NobodyWins            Fault = "nobody-wins"

	StaleReads    Fault = "stale-reads"
	CachedAbsence Fault = "cached-absence"
	AlteredBytes  Fault = "altered-bytes"
	ShortObject   Fault = "short-object"

	RangeIgnored    Fault = "range-ignored"
	RangeShifted    Fault = "range-shifted"
	RangeEndRefused Fault = "range-end-refused"

	StaleList         Fault = "stale-list"
	TruncatedList     Fault = "truncated-list"
	UnsortedList      Fault = "unsorted-list"
	RepeatedInList    Fault = "repeated-in-list"
	ForeignInList     Fault = "foreign-in-list"
	StartAfterIgnored Fault = "start-after-ignored"

	NameAltered    Fault = "name-altered"
	UnusableAnswer Fault = "unusable-answer"

	DeleteRefused       Fault = "delete-refused"
	DeleteIgnored       Fault = "delete-ignored"
	AbsentDeleteRefused Fault = "absent-delete-refused"

	ClockOff     Fault = "clock-off"
	NoVersioning Fault = "no-versioning"
	NoLock       Fault = "no-lock"
)

// about is what is known of a fault.
type about struct {
	verdict  Verdict
	bearable bool // a repository can live with it
	means    string
}

// about returns what a fault means for who operates the store.
func (f Fault) about() about {
	switch f {
	case ConditionUnsupported:
		return about{Missing, false, "Without conditional creates (If-None-Match) nothing can be stored here. A newer version of the store may have them."}
	case ConditionIgnored:
		return about{Broken, false, "The condition that a name be free (If-None-Match) is ignored. Two backups at the same time would overwrite each " +
			"other's entries in the journal, and one of them would be lost. " + alone}
	case LargeConditionIgnored:
		return about{Broken, false, "For large objects the store ignores the condition that the name be free. Some do for what is uploaded in parts " +
			"(gofakes3, for example); is a gateway in between that does so? Use another store or version."}
	case TwoWinners:
		return about{Broken, false, "Of two backups that end at the same moment both may be told that they are stored, and one of them is lost. " + alone}
	case WinnerReplaced:
		return about{Broken, false, "A backup that was stored may be replaced by another one moments later. " + alone}
	case RefusedAndWritten:
		return about{Broken, false, "The store says no and does it all the same, so what is there already is destroyed by who meant no harm. Use another store."}
	case NobodyWins:
		return about{Broken, false, "When several backups end at the same moment none of them may come to its end. Use another store."}
	}
	if a, ok := f.aboutReading(); ok {
		return a
	}
	return f.aboutKeeping()
}

// alone is the way out for a store that does not decide between writers.
const alone = "Use another store or version. With varve repo init --single-writer it holds a repository to which only one program at a time ever " +
	"writes, and nothing watches over that."

// aboutReading is about what is read and listed.
func (f Fault) aboutReading() (about, bool) {
	const cache = "Go to the store itself, or switch the cache off for this bucket."
	const clone = "Use another store or version."
	means := ""
	switch f {
	case StaleReads:
		means = "What was just written or deleted is read as it was before: there is a cache or a lagging replica in between. A backup would not see the " +
			"one before it. " + cache
	case CachedAbsence:
		means = "Once asked for, an object stays absent though it was created since: a cache in between remembers that it was not found. New backups " +
			"would not be seen. " + cache
	case AlteredBytes:
		means = "Other bytes come back than were written. Every backup would be reported as damaged. " + clone
	case ShortObject:
		means = "Of an object only a part is stored, or its size is told wrongly. Backups would be damaged. " + clone
	case RangeIgnored:
		means = "Whoever asks for a part of an object gets all of it. Every restore would fail, or read far too much. Is a proxy in between that " +
			"drops the Range header? " + clone
	case RangeShifted:
		means = "Whoever asks for a part of an object gets another part. Every restore would report damage. " + clone
	case RangeEndRefused:
		means = "A range that goes past the end of an object is refused, where it should end there. Opening a repository would fail. " + clone
	case StaleList:
		means = "Lists show what was there before. Checks would report what is there as missing, and prunes would leave things behind. " + cache
	case TruncatedList:
		means = "A list ends early and does not say so. Most of a repository would be invisible to checks and prunes. Does a proxy drop the token of " +
			"the next page? " + clone
	case UnsortedList:
		means = "Lists are not in the order of the bytes of names. Pages would overlap and leave out names. " + clone
	case RepeatedInList:
		means = "A list names objects twice. Checks and prunes would count wrongly. " + clone
	case ForeignInList:
		means = "A list shows names that were not asked for. " + clone
	case StartAfterIgnored:
		means = "A list that was to begin after a name begins elsewhere. " + clone
	}
	return about{Broken, false, means}, means != ""
}

// aboutKeeping is about names, deleting, and what protects what is stored.
func (f Fault) aboutKeeping() about {
	switch f {
	case NameAltered:
		return about{Broken, false, "Objects get other names than they were given. Is it a file system with its own idea of names? Use another store."}
	case UnusableAnswer:
		return about{Broken, false, "The driver does not work with a store that answers like this. Is a proxy in between that changes answers? Use another " +
			"store or version."}
	case DeleteRefused:
		return about{Missing, true, "Right for a credential that only makes backups: whoever steals it cannot destroy any. For varve repo prune, use one " +
			"that may delete."}
	case DeleteIgnored:
		return about{Broken, false, "Deleting succeeds and the object stays, so that no prune would ever give space back. Use another store."}
	case AbsentDeleteRefused:
		return about{Broken, false, "Deleting what is gone already is refused. A prune that follows an interrupted one would fail. Use another store."}
	case ClockOff:
		return about{Broken, true, "Backups are safe, and their times and retention are by this machine's clock. Stores refuse requests that are signed " +
			"fifteen minutes off. Set the clock that is wrong."}
	case NoVersioning:
		return about{Missing, true, "What somebody deletes is gone. Give backups a credential that cannot delete, or switch versioning on."}
	case NoLock:
		return about{Missing, true, "Who may delete can destroy every backup. A bucket with Object Lock, or a copy under other credentials, prevents that."}
	}
	return about{verdict: Broken}
}
