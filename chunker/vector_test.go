package chunker

// What TestVector expects. A separate program in another language, which hashes the stream as a whole
// and looks for the ends afterwards, gave the same numbers.
var (
	vectorSmall = []int{
		5286, 7043, 4177, 4735, 2818, 4231, 4315, 4257, 4101, 9586, 2212, 4587, 5870, 5763, 3706, 2580, 4420, 5172, 6900, 3650, 4591,
	}
	vectorDefault = []int{
		68981, 104678, 22640, 65903, 52869, 74947, 68401, 62060, 91067, 94612, 71411, 89403, 87570, 45458,
	}
	vectorGear = [2]uint64{0x4080feeea4a0d41c, 0x956d00ce0a3ac1b2}
)
